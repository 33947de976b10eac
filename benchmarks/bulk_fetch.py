"""64 MiB by hash from one node to another, against the library's own raw stream in the same run.

Both between two processes. By hash means: asked for in batches, framed, in items of 1 MiB and of 200 kB, each checked
against its SHA-256. The raw stream is py-libp2p's without anything of ours (`benchmarks.raw_stream`). They take turns;
each has one round that is not counted. What else the machine does slows down a whole round, so the ratio is taken round
by round.
"""

import statistics
import sys
from collections.abc import Sequence

from benchmarks.job import START_WITHIN
from benchmarks.processes import Processes, Started, temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.swarm_runs import new_project

TOTAL = 64 * 1024 * 1024
SIZES = (1024 * 1024, 200_000)
"""Bytes of an item."""

ROUNDS = 11
GOAL = 0.5
WITHIN = 120.0
MB = 1_000_000


def run() -> Lines:
    """MB/s of both, by the median round, and the median of their ratios."""
    with temporary_processes() as processes:
        raw = _pair(processes, "raw", "benchmarks.raw_stream", str(TOTAL))
        ours = _pair(processes, "ours", "benchmarks.bulk_peer", str(new_project(processes)))
        rounds = [(raw.ask(WITHIN), *(ours.ask(WITHIN, size) for size in SIZES)) for _ in range(ROUNDS + 1)]
    plain, *by_hash = zip(*rounds[1:], strict=True)
    for size, seconds in zip(SIZES, by_hash, strict=True):
        name = f"bulk_fetch.{size // 1000}k"
        yield Line(f"{name}_rate", _rate(seconds), "MB/s", baseline=_rate(plain))
        ratio = statistics.median(theirs / ours for theirs, ours in zip(plain, seconds, strict=True))
        yield at_least(f"{name}_ratio", ratio, "ratio", GOAL, 1.0)


def _rate(seconds: Sequence[float]) -> float:
    return TOTAL / statistics.median(seconds) / MB


def _pair(processes: Processes, name: str, *program: str) -> Started:
    """The fetching one of two processes that run this module; the other one serves."""
    server = processes.start(f"{name}-server", sys.executable, "-m", *program, "serve", piped=True)
    address = server.line(START_WITHIN)
    return processes.start(f"{name}-client", sys.executable, "-m", *program, "fetch", address, piped=True)
