"""JPEGs of 12 megapixels decoded and scaled by an engine's decoders, against bare Pillow in the same run.

Bare is Pillow's best recipe in plain threads, which it lets run side by side: draft, LANCZOS, and nothing checked. The
pictures are made in the run and take a codec as long as photographs do (1.5 to 4 MB). The sides take turns; each has
one that is not counted. What else the machine does slows down a whole turn, so the ratios are taken turn by turn.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO

import psutil
from PIL import Image

from benchmarks.report import Line, Lines, at_least
from p2pcap.engine.decoding import Decoders

SIZE = (4_000, 3_000)
PICTURES = 4
EDGES = (512, 1_024)
ROUNDS = 9
BATCH = 8
"""Pictures for each core in a turn."""

GOAL = 0.95
SCALES = 0.9
"""Of the number of cores: what all of them decode against what one does."""


@dataclass(frozen=True)
class Side:
    """One way to decode, on `count` cores; `pids` gives the processes that work for it besides this one."""

    count: int
    submit: Callable[[bytes, int], "Future[Image.Image]"]
    pids: Callable[[], Sequence[int]]

    def cpu(self) -> float:
        """CPU seconds so far of this process and those."""
        times = [psutil.Process(pid).cpu_times() for pid in self.pids()]
        return time.process_time() + sum(each.user + each.system for each in times)


@dataclass(frozen=True)
class Turn:
    """What a side did: images per second, and per second of CPU time."""

    rate: float
    per_cpu: float


def run() -> Lines:
    """Images a second by all cores, by one and per CPU second, for each edge, and the medians of their ratios."""
    cores = len(os.sched_getaffinity(0))
    files = [photograph(number) for number in range(PICTURES)]
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, count in (("all", cores), ("one", 1)):
            decoders = stack.enter_context(closing(Decoders(count)))
            sides[name] = Side(count, decoders.submit, decoders.pids)
            sides[f"bare.{name}"] = Side(count, bare(stack.enter_context(ThreadPoolExecutor(count))), list)
        for edge in EDGES:
            yield from _lines(edge, cores, _turns(sides, files, edge))


def photograph(number: int) -> bytes:
    """A JPEG whose detail falls off with its frequency, as a photograph's does."""
    picture = Image.effect_mandelbrot(SIZE, (-2 + number / 9, -1.2, 1, 1.2), 100).convert("RGB")
    for scale in (64, 16, 4, 2):
        small = (SIZE[0] // scale, SIZE[1] // scale)
        noise = [Image.effect_noise(small, 40).resize(SIZE, Image.Resampling.BICUBIC) for _ in range(3)]
        picture = Image.blend(picture, Image.merge("RGB", noise), 0.3)
    out = BytesIO()
    picture.save(out, "JPEG", quality=88)
    return out.getvalue()


def bare(threads: ThreadPoolExecutor) -> Callable[[bytes, int], "Future[Image.Image]"]:
    """Pillow in those threads."""
    return lambda file, edge: threads.submit(_draft, file, edge)


def _draft(file: bytes, edge: int) -> Image.Image:
    with Image.open(BytesIO(file)) as image:
        size = edge, round(image.height * edge / image.width)
        image.draft("RGB", size)
        return image.resize(size, Image.Resampling.LANCZOS)


def _turns(sides: dict[str, Side], files: Sequence[bytes], edge: int) -> dict[str, list[Turn]]:
    """Each side's turns, in order."""
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for number in range(ROUNDS + 1):
        for name, side in sides.items():
            turn = _turn(side, files, edge)
            if number:
                turns[name].append(turn)
    return turns


def _turn(side: Side, files: Sequence[bytes], edge: int) -> Turn:
    cpu, began = side.cpu(), time.perf_counter()
    images = BATCH * side.count
    for future in [side.submit(files[number % len(files)], edge) for number in range(images)]:
        future.result()
    return Turn(images / (time.perf_counter() - began), images / (side.cpu() - cpu))


def _lines(edge: int, cores: int, turns: dict[str, list[Turn]]) -> Lines:
    rates = {name: [turn.rate for turn in each] for name, each in turns.items()}
    costs = {name: [turn.per_cpu for turn in each] for name, each in turns.items()}
    for name in ("all", "one"):
        bare_rate = statistics.median(rates[f"bare.{name}"])
        yield Line(f"decode.{edge}.{name}", statistics.median(rates[name]), "images/s", baseline=bare_rate)
    yield at_least(f"decode.{edge}.ratio", _ratio(rates["all"], rates["bare.all"]), "ratio", GOAL)
    yield at_least(f"decode.{edge}.cpu_ratio", _ratio(costs["one"], costs["bare.one"]), "ratio", GOAL)
    bare_scaling = _ratio(rates["bare.all"], rates["bare.one"])
    yield at_least(f"decode.{edge}.scaling", _ratio(rates["all"], rates["one"]), "times", SCALES * cores, bare_scaling)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
