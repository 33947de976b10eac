"""What an audit is worth: honest items of two engine settings, and false ones, judged by limits that others set.

A calibration of some pictures states how many of each kind of cheat it catches; then other pictures are captioned,
falsified and judged. Here by the shipped model, which is nearly certain of every token; benchmarks.audit_power_unsure
asks models that are not. What is being measured, the calibration's margins and ROC curve, and how the honest items are
judged so far is told on standard error.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks.engines import pictures, running, task
from benchmarks.job import SHAPES
from benchmarks.processes import Processes, temporary_processes
from benchmarks.report import Line, Lines, at_most
from models.shapes.pictures import DESCRIBE
from p2pcap.audit.bounds import FALSE_BANS, false_bans, upper_bound
from p2pcap.audit.calibrating import Calibration, Kind, Sample, calibrate, distance
from p2pcap.audit.judging import judge
from p2pcap.audit.measuring import Captioned, Measuring, Shown
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.project.audit import Audit
from p2pcap.project.task import Task
from p2pcap_bootstrap.calibrate_command import lines as calibration_lines

SETTINGS = (EngineSettings(max_num_seqs=16, max_num_batched_tokens=1_024), EngineSettings())
"""Of the engines that caption; the last one scores as well."""

NOISE, FLAT = "1.2", "2"
"""Of the less certain model (benchmarks.noisy_model), which is wrong about every other picture."""

TOKENS = 48
SEED = 4_711
CALIBRATED, CHEATED = 400, 200
"""Pictures that set the limits, and of the others those that are falsified."""

AUDITED = 2_500
"""Pictures whose captions by both engines are judged."""

PART = 500
"""Honest items after which it is told how many were called bad."""


@dataclass(frozen=True)
class Case:
    """A model with its task, the model of somebody who cheats with another one, and so many pictures beside those that
    set the limits."""

    name: str
    model: Path
    other: Path
    task: Task
    audited: int


def run() -> Lines:
    """False verdicts, the share of each cheat that is caught, and what a ban takes."""
    with temporary_processes() as processes:
        yield from measured(Case("shipped", SHAPES, noisy_model(processes), task([DESCRIBE], TOKENS), AUDITED))


def noisy_model(processes: Processes) -> Path:
    """The less certain model."""
    directory = processes.folder / "noisy"
    processes.run(sys.executable, "-m", "benchmarks.noisy_model", str(SHAPES), str(directory), NOISE, FLAT)
    return directory


def measured(case: Case) -> Lines:
    """The lines of one case."""
    with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        yield from trio.run(_measure, case, Path(folder))


async def _measure(case: Case, folder: Path) -> list[Line]:
    images = [Shown(file) for file in pictures(CALIBRATED + case.audited, SEED)]
    made: list[list[Captioned]] = []
    async with running(case.task, folder, case.other) as engine:
        _tell(f"{case.name}: captioning with another model")
        wrong = await _measuring(engine, case).captions(images[: CALIBRATED + CHEATED])
    async with running(case.task, folder, case.model, SETTINGS[0]) as engine:
        _tell(f"{case.name}: captioning {len(images)} pictures with the first settings")
        made.append(await _measuring(engine, case).captions(images))
    async with running(case.task, folder, case.model, SETTINGS[1]) as engine:
        measuring = _measuring(engine, case)
        _tell(f"{case.name}: and with the second")
        made.append(await measuring.captions(images))
        first = {image.sha256 for image in images[:CALIBRATED]}
        setting = [[one for one in part if one.shown.sha256 in first] for part in made]
        rest = [[one for one in part if one.shown.sha256 not in first] for part in made]
        found = await _calibrated(measuring, setting, [one for one in wrong if one.shown.sha256 in first])
        for line in calibration_lines(found):
            _tell(line)
        honest = await _judged(measuring, found.audit, [*rest[0], *rest[1]])
        theirs = [one for one in wrong if one.shown.sha256 not in first]
        cheats = await _cheats(measuring, rest[1][:CHEATED], theirs)
    return _lines(case.name, found, honest, cheats)


async def _judged(measuring: Measuring, audit: Audit, items: Sequence[Captioned]) -> list[Sample]:
    """The scores of honest items, of which is told how they are judged."""
    samples: list[Sample] = []
    for part in _parts(items):
        samples += await measuring.told(part)
        verdicts = Counter(judge(audit, sample).verdict for sample in samples)
        furthest = max(distance(audit, sample) for sample in samples)
        _tell(f"{len(samples)} of {len(items)} honest items: {dict(verdicts)}, the furthest at {furthest:.3f}")
    return samples


def _parts(items: Sequence[Captioned]) -> Iterator[Sequence[Captioned]]:
    return (items[start : start + PART] for start in range(0, len(items), PART))


def _measuring(engine: VllmEngine, case: Case) -> Measuring:
    return Measuring(engine, case.task, lambda text: _tell(f"{case.name}: {text}"))


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


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
            _caught(name, audit, stated[kind], samples)
            for kind, samples in cheats.items()
            if samples and kind in stated
        ),
        Line(f"audit_power.{name}.bans_at", audit.bans_at, "bad items in 1,000 checks"),
        at_most(f"audit_power.{name}.false_bans", false_bans(audit.bans_at, rate), "in 1,000 checks", FALSE_BANS),
    ]


def _caught(name: str, audit: Audit, stated: Kind, samples: Sequence[Sample]) -> Line:
    """The share of a cheat that is caught, beside what the calibration states at least; it does not hold when what was
    seen here contradicts that."""
    caught = [judge(audit, sample).verdict for sample in samples].count("bad")
    holds = upper_bound(caught, len(samples)) >= stated.power[1]
    share = caught / len(samples)
    return Line(f"audit_power.{name}.{stated.name}", share, f"of {len(samples)} caught", stated.power[1], None, holds)
