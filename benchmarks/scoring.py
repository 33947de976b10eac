"""What checking an answer costs against making it, at 60 tokens and at 180: reading is cheaper than writing.

Generated and scored in turn by the node's engine, with the pictures new each time, for an auditor has to fetch and
decode them again. CPU time is what an audit costs on a CPU; by the clock the two differ more, as generating waits for
its own steps. A score is one reading of prompt and answer and nothing beside, so what it saves is what a step of the
model costs beyond the tokens in it. With the small model that is shipped this is most of a step. A CPU that is busy
with a model as wide as SmolVLM-256M (benchmarks.chain_model) spends its time on the tokens, however they come, and the
goals are out of reach there: these lines have none.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
from msgspec.structs import replace

from benchmarks.engines import Cost, Stopwatch, caption_all, fresh_name, pictures, running, task
from benchmarks.job import SHAPES, chain_model
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_most
from models.shapes.pictures import DESCRIBE
from p2pcap.engine.base import Output
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.project.task import Task

GOALS = {60: 0.55, 180: 0.25}
"""Tokens, and what share of generating them an audit may cost."""

LAYERS = 4
IMAGES = 32
ROUNDS = 3
SEED = 9_600


def run() -> Lines:
    """The shares by CPU time and by the clock, medians of the rounds."""
    with temporary_processes() as processes, tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        shipped = trio.run(_measure, SHAPES, Path(folder))
        wide = trio.run(_measure, chain_model(processes, LAYERS, max(GOALS), max(GOALS)), Path(folder))
    for tokens, goal in GOALS.items():
        yield at_most(f"scoring.{tokens}.cpu", _cpu(shipped[tokens]), "of generating", goal, 1.0)
        yield Line(f"scoring.{tokens}.clock", _clock(shipped[tokens]), "of generating", baseline=1.0)
    for tokens in GOALS:
        yield Line(f"scoring.wide.{tokens}.cpu", _cpu(wide[tokens]), "of generating", baseline=1.0)
        yield Line(f"scoring.wide.{tokens}.clock", _clock(wide[tokens]), "of generating", baseline=1.0)


def _cpu(rounds: Sequence[tuple[Cost, Cost]]) -> float:
    return statistics.median(score.cpu / make.cpu for make, score in rounds)


def _clock(rounds: Sequence[tuple[Cost, Cost]]) -> float:
    return statistics.median(score.seconds / make.seconds for make, score in rounds)


async def _measure(model: Path, folder: Path) -> dict[int, list[tuple[Cost, Cost]]]:
    """For each number of tokens what generating and scoring cost, round by round; the first is not counted."""
    files, found = pictures(IMAGES, SEED), {}
    async with running(task([DESCRIBE], max(GOALS)), folder, model) as engine:
        for tokens in GOALS:
            await engine.use(_whole(tokens))
            found[tokens] = [await _round(engine, files) for _ in range(ROUNDS + 1)][1:]
    return found


def _whole(tokens: int) -> Task:
    """Answers of exactly so many tokens, whatever the model says."""
    asked = task([DESCRIBE], tokens)
    return replace(asked, sampling=replace(asked.sampling, min_tokens=tokens))


async def _round(engine: VllmEngine, files: Sequence[bytes]) -> tuple[Cost, Cost]:
    watch = Stopwatch()
    answers = await caption_all(engine, files)
    made = watch.read()
    watch = Stopwatch()
    async with trio.open_nursery() as nursery:
        for file, (answer,) in zip(files, answers, strict=True):
            nursery.start_soon(_score, engine, file, answer)
    return made, watch.read()


async def _score(engine: VllmEngine, file: bytes, answer: Output) -> None:
    await engine.score(file, fresh_name(), 0, answer.ids)
