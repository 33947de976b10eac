"""What `p2pcap bench` counts, what it blames, and what it says when it cannot measure."""

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pcap.cli.bench import lines, plain
from p2pcap.cli.main import run
from p2pcap.engine.base import EngineLoad, EngineState
from p2pcap.errors import ConfigError, EngineStartError, ImageError
from p2pcap.node.bottleneck import Means, Measured, disturbed, limit
from p2pcap.node.cpu import PARTS, Part, engine_cpu
from p2pcap.node.measure import FILLING, means, measure
from p2pcap.node.pictures import Picture, endless, in_folder
from p2pcap.project.records import Stage
from tests.makers import TASK, make_project, make_ticket
from tests.twins import TwinEngine, simulated
from tests.unit.control_node import running, runtime

__all__ = ["runtime"]

IDLE = dict.fromkeys(PARTS, 0.0)
BUSY = Measured(seconds=10.0, images=500, tokens=6_000, latency=1.6, means=Means(), cpu={**IDLE, "model": 9.0}, cores=2)
PICTURES = [Picture(b"a", {}), Picture(b"b", {"name": "B"})]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def a_ticket() -> str:
    return str(make_ticket(make_project().project))


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path) -> Path:
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# what is blamed


@pytest.mark.parametrize(
    ("measured", "blamed"),
    [
        (replace(BUSY, means=Means(63.0, 12.0, 64, 0.99, 60.0, 70.0)), "the model: its batch is full, 63 of 64"),
        (
            replace(BUSY, means=Means(20.0, 40.0, 64, 0.97, 1.0, 70.0)),
            "keys and values, which holds 20 of 64",
        ),
        (
            replace(BUSY, means=Means(5.0, 0.0, 64, 0.1, 60.0, 70.0), cpu={**IDLE, "decoding": 19.0}),
            "decoding images: 1.9 of 2 cores",
        ),
        (replace(BUSY, means=Means(30.0, 0.2, 64, 0.1, 2.0, 70.0), cpu={**IDLE, "front": 9.7}), "Python front: 1.0"),
        (
            replace(BUSY, means=Means(30.0, batch=64), cpu={"decoding": 2.0, "front": 8.0, "model": 9.0}),
            "the CPU: of 2 cores decoding 0.2, front 0.8, model 0.9",
        ),
        (replace(BUSY, means=Means(30.0, 20.0, 64, 0.3, 2.0, 70.0)), "the model"),
        (replace(BUSY, remote=True), "the servers that are asked"),
    ],
)
def test_what_is_at_its_limit_is_blamed(measured: Measured, blamed: str) -> None:
    assert blamed in limit(measured)


def test_an_image_spends_its_time_decoding_waiting_and_in_the_model() -> None:
    parts = replace(BUSY, means=Means(30.0, 10.0, 64, 0.3, 20.0, 80.0)).waits()
    assert parts == pytest.approx({"decoding": 0.4, "waiting": 0.3, "model": 0.9})


def test_an_engine_that_tells_nothing_is_all_model() -> None:
    assert BUSY.waits() == {"decoding": 0.0, "waiting": 0.0, "model": 1.6}


def test_other_programs_are_told_of_once_they_matter() -> None:
    assert not disturbed(replace(BUSY, others=3.9))
    assert disturbed(replace(BUSY, others=4.1))


# what is counted


def state(running: int, kv: float) -> EngineState:
    return EngineState(phase="ready", running=2 * running, load=EngineLoad(running=running, kv=kv))


def test_means_are_over_time_and_not_over_looks() -> None:
    found = means([(0.0, state(10, 0.5)), (3.0, state(50, 0.1)), (4.0, state(99, 1.0))], 64)
    assert (found.running, found.kv, found.in_flight) == pytest.approx((20.0, 0.4, 40.0))
    assert found.batch == 64


def test_no_name_comes_twice() -> None:
    shown = list(itertools.islice(endless(PICTURES), 6))
    assert [picture.data for picture, _ in shown] == [b"a", b"b"] * 3
    assert len({name for _, name in shown}) == 6
    assert all(len(name) == 32 for _, name in shown)


class Loaded(TwinEngine):
    """A twin that tells what it is busy with."""

    @property
    def state(self) -> EngineState:
        level = self.levels[-1][1]
        return EngineState(phase=super().state.phase, device="twin", running=level, load=EngineLoad(running=level))


@simulated
async def test_a_full_engine_is_measured_once_it_is_full() -> None:
    engine = Loaded(capacity=8, seconds=lambda image: 0.32)
    found = await measure(engine, PICTURES, 8, 20.0)
    assert found.seconds == pytest.approx(20.0)
    assert found.images_per_second == pytest.approx(25.0, rel=0.05)
    assert found.tokens_per_second == 4 * found.images_per_second
    assert found.latency == pytest.approx(0.32)
    assert found.means.running == pytest.approx(8.0, rel=0.1)
    assert engine.most == 8
    assert engine.levels[-1][1] == 0
    assert found.device == "twin"


@simulated
async def test_an_engine_slower_than_the_measure_ends_all_the_same() -> None:
    engine = Loaded(capacity=4, seconds=lambda image: 1_000.0)
    found = await measure(engine, PICTURES, 4, 5.0)
    assert (found.images, found.latency, found.cpu_ms("model")) == (0, 0.0, 0.0)
    assert engine.levels[-1][0] == pytest.approx(FILLING + 5.0)


@simulated
async def test_images_without_a_caption_are_counted_apart() -> None:
    engine = Loaded(capacity=2)
    engine.faulty[b"b"] = ImageError("truncated", "cut")
    found = await measure(engine, PICTURES, 2, 10.0)
    assert found.images > 0
    assert abs(found.failed["truncated"] - found.images) <= 2


@simulated
async def test_pictures_that_the_engine_takes_none_of_are_no_measure() -> None:
    engine = Loaded(capacity=2)
    engine.faulty = {picture.data: ImageError("not-image", "no image") for picture in PICTURES}
    with pytest.raises(BaseExceptionGroup) as raised:
        await measure(engine, PICTURES, 2, 10.0)
    assert raised.group_contains(ConfigError, match="none of the 2 pictures .*not-image")


@simulated
async def test_an_engine_that_dies_is_waited_for() -> None:
    engine = Loaded(capacity=4)
    engine.restart_seconds = 3.0
    began = False

    def seconds(image: bytes) -> float:
        nonlocal began
        if len(engine.asked) == 30 and not began:
            began = True
            engine.die()
        return 1.0

    engine.seconds = seconds
    found = await measure(engine, PICTURES, 4, 30.0)
    assert found.deaths == 4
    assert found.images >= 4 * 25


@simulated
async def test_an_engine_that_fails_for_good_ends_the_measure() -> None:
    engine = Loaded(capacity=1)
    engine.poison = {b"a"}
    engine.failed = True
    with pytest.raises(BaseExceptionGroup) as raised:
        await measure(engine, PICTURES, 1, 30.0)
    assert raised.group_contains(EngineStartError)


BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"


@pytest.mark.parametrize(
    ("program", "part"), [("p2pcap.engine.decoder", "decoding"), ("p2pcap.engine.process", "front"), ("x", "model")]
)
def test_cpu_time_is_told_apart_by_program(program: str, part: Part) -> None:
    before = engine_cpu()
    child = subprocess.Popen([sys.executable, "-c", BURN, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        spent = {name: seconds - before[name] for name, seconds in engine_cpu().items()}
    assert spent[part] >= 0.4
    assert sum(spent.values()) - spent[part] < 0.1


# what is shown


def test_people_and_machines_are_told_the_same() -> None:
    project = SimpleNamespace(title="Cats", images=90_000, stages=[Stage("caption", TASK)])
    measured = replace(BUSY, device="cuda H200", means=Means(63.0, 12.0, 64, 0.5, 1.0, 80.0), failed={"truncated": 2})
    found: Any = SimpleNamespace(project=project, pictures=128, measured=measured)
    text = "\n".join(lines(found))
    for said in ("Cats on cuda H200", "50", "63.0 of 64 answers, 98 %", "90000 images in 30m 0s", "2 truncated"):
        assert said in text
    record = json.loads(json.dumps(plain(found)))
    assert record["images_per_second"] == 50.0
    assert record["project_seconds"] == 1_800.0
    assert record["limited_by"] == limit(measured)


def test_nothing_captioned_is_no_division_by_zero() -> None:
    project = SimpleNamespace(title="Cats", images=9, stages=[Stage("caption", TASK)])
    found: Any = SimpleNamespace(project=project, pictures=1, measured=replace(BUSY, images=0, tokens=0, latency=0.0))
    assert "--seconds" in "\n".join(lines(found))
    assert plain(found)["project_seconds"] is None


# what cannot be measured


def test_pictures_of_a_folder_come_by_name(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/c.png", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert [picture.data for picture in in_folder(tmp_path)] == [b"a/c.png", b"b.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="There is no image in"):
        in_folder(tmp_path / "empty")


def said(arguments: Sequence[str], capsys: Capture) -> tuple[int, str]:
    code = run(["bench", *arguments])
    return code, capsys.readouterr().err


def test_no_project_is_said(capsys: Capture) -> None:
    code, text = said([], capsys)
    assert code == 2
    assert "No project was joined yet" in text


def test_a_folder_that_no_project_was_joined_in_is_said(capsys: Capture, tmp_path: Path) -> None:
    code, text = said(["--node", str(tmp_path)], capsys)
    assert code == 2
    assert "No project was joined in this folder" in text


def test_a_running_node_is_not_disturbed(capsys: Capture, tmp_path: Path, a_ticket: str) -> None:
    with running(tmp_path / "node"):
        code, text = said([a_ticket, "--node", str(tmp_path / "node")], capsys)
    assert code == 2
    assert "Stop it first: p2pcap stop" in text


def test_a_model_that_is_none_is_said(capsys: Capture, tmp_path: Path, a_ticket: str) -> None:
    code, text = said([a_ticket, "--model", str(tmp_path)], capsys)
    assert code == 2
    assert "no config.json" in text


def test_a_folder_without_images_is_said(capsys: Capture, tmp_path: Path, a_ticket: str) -> None:
    (tmp_path / "empty").mkdir()
    code, text = said([a_ticket, "--node", str(tmp_path / "node"), "--images", str(tmp_path / "empty")], capsys)
    assert code == 2
    assert "There is no image in" in text
