"""What checking an answer costs against making it, at 60 tokens and at 180: reading is cheaper than writing.

Generated and scored in turn by the node's engine, with the pictures new each time, for an auditor has to fetch and
decode them again. The model has the architecture and the width of SmolVLM-256M (benchmarks.chain_model). CPU time is
what an audit costs on a CPU; by the clock the two differ more, as generating waits for its own steps.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from benchmarks.engines import Cost, Stopwatch, caption_all, fresh_name, pictures, running, task
from benchmarks.job import chain_model
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_most
from models.shapes.pictures import DESCRIBE
from p2pcap.engine.base import Output
from p2pcap.engine.vllm_engine import VllmEngine

GOALS = {60: 0.55, 180: 0.25}
"""Tokens, and what share of generating them an audit may cost."""

LAYERS = 4
IMAGES = 32
ROUNDS = 3
SEED = 9_600


def run() -> Lines:
    """The shares by CPU time and by the clock, medians of the rounds."""
    with temporary_processes() as processes, tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        model = chain_model(processes, LAYERS, max(GOALS), max(GOALS))
        found = trio.run(_measure, model, Path(folder))
    for tokens, goal in GOALS.items():
        share = statistics.median(score.cpu / make.cpu for make, score in found[tokens])
        yield at_most(f"scoring.{tokens}.cpu", share, "of generating", goal, 1.0)
        clock = statistics.median(score.seconds / make.seconds for make, score in found[tokens])
        yield Line(f"scoring.{tokens}.clock", clock, "of generating", baseline=1.0)


async def _measure(model: Path, folder: Path) -> dict[int, list[tuple[Cost, Cost]]]:
    """For each number of tokens what generating and scoring cost, round by round; the first is not counted."""
    files, found = pictures(IMAGES, SEED), {}
    async with running(task([DESCRIBE], max(GOALS)), folder, model) as engine:
        for tokens in GOALS:
            await engine.use(task([DESCRIBE], tokens))
            found[tokens] = [await _round(engine, files) for _ in range(ROUNDS + 1)][1:]
    return found


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
