"""A real model's own captions against false ones, by limits that were measured just before."""

from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from models.shapes.pictures import draw, encode
from p2pcap.audit.calibrating import Calibration, Sample, calibrate
from p2pcap.audit.judging import judge
from p2pcap.audit.measuring import Measuring, Shown
from p2pcap.engine.vllm_engine import VllmEngine
from tests.engine.hosted import TASK, HostedEngine

DESCRIBE = replace(TASK, prompts=TASK.prompts[:1])
KINDS = {"other-image", "copied", "truncated", "random", "edited", "no-image"}
IMAGES = [Shown(encode(draw("held-out", 31, number), "jpg")) for number in range(240)]
FRESH = 40
"""Images that set no limit."""

Found = tuple[Calibration, Sequence[Sample], Mapping[str, Sequence[Sample]]]


@pytest.fixture(scope="module")
def found(hosted: HostedEngine) -> Found:
    """The calibration, and then honest and false items of other images."""

    async def measure(engine: VllmEngine) -> Found:
        measuring = Measuring(engine, DESCRIBE, lambda text: None)
        items = await measuring.captions(IMAGES)
        setting, fresh = items[FRESH:], items[:FRESH]
        made = await measuring.cheats(setting)
        made["no-image"] = await measuring.told(await measuring.guesses(IMAGES[FRESH:]))
        result = calibrate(await measuring.told(setting), await measuring.plain(setting), made)
        return result, await measuring.told(fresh), await measuring.cheats(fresh)

    with hosted.serving(DESCRIBE):
        return hosted.run(measure)


@pytest.mark.slow
def test_no_honest_item_is_called_bad(found: Found) -> None:
    result, honest, _ = found
    assert result.audit.honest.bad == 0
    assert result.audit.honest.items == (len(IMAGES) - FRESH) // 2
    assert [judge(result.audit, sample).verdict for sample in honest] == ["ok"] * FRESH


@pytest.mark.slow
def test_honest_text_without_its_tokens_is_not_called_bad(found: Found) -> None:
    assert found[0].plain is not None
    assert found[0].plain.bad == 0


@pytest.mark.slow
def test_each_cheat_is_caught_as_often_as_the_calibration_says(found: Found) -> None:
    result, _, cheats = found
    stated = {kind.name: kind for kind in result.cheats}
    assert stated.keys() == KINDS
    for name, kind in stated.items():
        assert kind.bad == kind.items, name
        assert kind.area == 1.0, name
    for name, samples in cheats.items():
        caught = [judge(result.audit, sample).verdict for sample in samples].count("bad")
        assert caught / len(samples) >= stated[name].power[1], name
