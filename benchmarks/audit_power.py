"""What an audit is worth: honest items of two engine settings, and false ones, judged by limits that others set.

A calibration of some pictures states how many of each kind of cheat it catches; then other pictures are captioned,
falsified and judged. Three models: the shipped one, which is nearly certain of every token; one that is wrong about
every other picture and unsure of its words (benchmarks.noisy_model); and that one with its words drawn by chance.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio
from msgspec.structs import replace

from benchmarks.engines import pictures, running, task
from benchmarks.job import SHAPES
from benchmarks.processes import Processes, temporary_processes
from benchmarks.report import Line, Lines, at_least, at_most
from models.shapes.pictures import DESCRIBE
from p2pcap.audit.bounds import FALSE_BANS, false_bans, upper_bound
from p2pcap.audit.calibrating import Calibration, Sample, calibrate, distance
from p2pcap.audit.judging import judge
from p2pcap.audit.measuring import Captioned, Measuring, Shown
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.project.audit import Audit
from p2pcap.project.task import Task

SETTINGS = (EngineSettings(max_num_seqs=16, max_num_batched_tokens=1_024), EngineSettings())
"""Of the engines that caption; the last one scores as well."""

NOISE, FLAT = "1.2", "2"
WARM = 700
"""Thousandths: the temperature at which words are drawn by chance."""

SEED = 4_711
CALIBRATED, CHEATED = 400, 200
"""Pictures that set the limits, and of the others those that are falsified."""


@dataclass(frozen=True)
class Case:
    """A model with its task, and so many pictures beside those that set the limits."""

    name: str
    model: Path
    other: Path
    task: Task
    audited: int


def run() -> Lines:
    """False verdicts, the share of each cheat that is caught, and what a ban takes."""
    describe = task([DESCRIBE], 48)
    with temporary_processes() as processes:
        noisy = noisy_model(processes)
        warm = replace(describe, sampling=replace(describe.sampling, temperature=WARM))
        for case in (
            Case("shipped", SHAPES, noisy, describe, 2_500),
            Case("uncertain", noisy, SHAPES, describe, 300),
            Case("sampled", noisy, SHAPES, warm, 300),
        ):
            with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
                yield from trio.run(_measure, case, Path(folder))


def noisy_model(processes: Processes) -> Path:
    """The less certain model."""
    directory = processes.folder / "noisy"
    processes.run(sys.executable, "-m", "benchmarks.noisy_model", str(SHAPES), str(directory), NOISE, FLAT)
    return directory


async def _measure(case: Case, folder: Path) -> list[Line]:
    images = [Shown(file) for file in pictures(CALIBRATED + case.audited, SEED)]
    made: list[list[Captioned]] = []
    async with running(case.task, folder, case.other) as engine:
        wrong = await _measuring(engine, case).captions(images[: CALIBRATED + CHEATED])
    async with running(case.task, folder, case.model, SETTINGS[0]) as engine:
        made.append(await _measuring(engine, case).captions(images))
    async with running(case.task, folder, case.model, SETTINGS[1]) as engine:
        measuring = _measuring(engine, case)
        made.append(await measuring.captions(images))
        first = {image.sha256 for image in images[:CALIBRATED]}
        setting = [[one for one in part if one.shown.sha256 in first] for part in made]
        rest = [[one for one in part if one.shown.sha256 not in first] for part in made]
        found = await _calibrated(measuring, setting, [one for one in wrong if one.shown.sha256 in first])
        honest = await measuring.told([*rest[0], *rest[1]])
        theirs = [one for one in wrong if one.shown.sha256 not in first]
        cheats = await _cheats(measuring, rest[1][:CHEATED], theirs)
    return _lines(case.name, found, honest, cheats)


def _measuring(engine: VllmEngine, case: Case) -> Measuring:
    return Measuring(engine, case.task, lambda text: None)


async def _calibrated(
    measuring: Measuring, honest: Sequence[Sequence[Captioned]], wrong: Sequence[Captioned]
) -> Calibration:
    told = await measuring.told([*honest[0], *honest[1]])
    plain = await measuring.plain(honest[1])
    return calibrate(told, plain, await _cheats(measuring, honest[1], wrong))


async def _cheats(
    measuring: Measuring, honest: Sequence[Captioned], wrong: Sequence[Captioned]
) -> dict[str, list[Sample]]:
    right = {one.shown.sha256: one.answers[0].text for one in honest}
    guesses = await measuring.guesses([one.shown for one in honest])
    found = await measuring.cheats(honest)
    found["no-image"] = await measuring.told(_false(guesses, right))
    found["other-model"] = await measuring.plain(_false(wrong, right))
    return found


def _false(items: Sequence[Captioned], right: Mapping[bytes, str]) -> list[Captioned]:
    """Those that say something else than an honest answer: what is right is no cheat's."""
    return [one for one in items if right.get(one.shown.sha256, one.answers[0].text) != one.answers[0].text]


def _lines(
    name: str, found: Calibration, honest: Sequence[Sample], cheats: Mapping[str, Sequence[Sample]]
) -> list[Line]:
    audit, stated = found.audit, {kind.name: kind for kind in found.cheats}
    verdicts = [judge(audit, sample).verdict for sample in honest]
    rate = upper_bound(audit.honest.bad, audit.honest.items)
    return [
        at_most(f"audit_power.{name}.false", verdicts.count("bad"), f"of {len(verdicts)}", 0),
        Line(f"audit_power.{name}.unsure", verdicts.count("unsure"), f"of {len(verdicts)}"),
        Line(f"audit_power.{name}.furthest", max(distance(audit, sample) for sample in honest), "of the limits"),
        *(
            at_least(f"audit_power.{name}.{kind}", _caught(audit, samples), "caught", stated[kind].power[1])
            for kind, samples in cheats.items()
            if samples and kind in stated
        ),
        Line(f"audit_power.{name}.bans_at", audit.bans_at, "bad items in 1,000 checks"),
        at_most(f"audit_power.{name}.false_bans", false_bans(audit.bans_at, rate), "in 1,000 checks", FALSE_BANS),
    ]


def _caught(audit: Audit, samples: Sequence[Sample]) -> float:
    return [judge(audit, sample).verdict for sample in samples].count("bad") / len(samples)
