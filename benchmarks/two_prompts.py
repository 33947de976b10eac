"""Two prompts about each 12-megapixel image against one: what of an image's work its prompts share.

The engine is the node's, without a node; it is given one task and the other in turn, without loading anything. Each
turn's images have new names, so that nothing is left in a cache from the turn before.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from benchmarks.decode import photograph
from benchmarks.engines import Stopwatch, caption_all, running, task
from benchmarks.report import Line, Lines, at_most
from models.shapes.pictures import DESCRIBE, NAME
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.project.task import Task

GOAL = 1.6
DIFFERENT, IMAGES = 2, 16
ROUNDS = 5
ONE, TWO = task([DESCRIBE], 48), task([DESCRIBE, NAME], 48)


def run() -> Lines:
    """Seconds an image with two prompts and with one, medians, and the median of their ratios turn by turn."""
    files = [photograph(number) for number in range(DIFFERENT)] * (IMAGES // DIFFERENT)
    with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        turns = trio.run(_turns, files, Path(folder))
    ones, twos = zip(*turns, strict=True)
    yield Line("two_prompts.image", statistics.median(twos), "s", baseline=statistics.median(ones))
    yield at_most("two_prompts.ratio", statistics.median(two / one for one, two in turns), "times", GOAL, 1.0)


async def _turns(files: Sequence[bytes], folder: Path) -> list[tuple[float, float]]:
    """Seconds an image with one prompt and with two, turn by turn; the first turn is not counted."""
    async with running(ONE, folder) as engine:
        return [(await _turn(engine, ONE, files), await _turn(engine, TWO, files)) for _ in range(ROUNDS + 1)][1:]


async def _turn(engine: VllmEngine, asked: Task, files: Sequence[bytes]) -> float:
    await engine.use(asked)
    watch = Stopwatch()
    await caption_all(engine, files)
    return watch.read().seconds / len(files)
