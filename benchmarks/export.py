"""Exports of a million captions against the barest way to do the same; and how fast a running node gives its table.

Tables are compared with DuckDB's own COPY of the view `captions` in the order of task, chunk and item: an export is the
same table in the same order on every node, so that is what a bare COPY would have to write. It writes neither what
proves the rows nor what is counted. COPY without an order, which no two nodes could compare, is told beside it, and is
held against nothing. Text files with a loop that opens, writes and closes a file for each caption. Each
run is a process of its own; of each the best of ROUNDS counts, as on a machine that does other things as well the
others say how busy it was. Memory is the most that any of the exporting processes had.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from benchmarks.export_ledger import write_ledger
from benchmarks.export_once import COPIES, Cost, once
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least, at_most
from p2pcap.paths import NodePaths

ROUNDS = 3
TABLE_GOAL, TEXT_GOAL, STREAM_GOAL, MEMORY_GOAL = 1.3, 1.5, 0.5, 500.0
"""Times COPY's time; times the loop's time; share of the rate in the process; MiB."""

ANSWERING = (sys.executable, "-m", "benchmarks.export_node")
START_WITHIN = 60.0


def run() -> Lines:
    """Writes the ledger, then measures."""
    with TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        node = Path(folder, "node")
        trio.run(write_ledger, NodePaths(node).database)
        exports = []
        for form in COPIES:
            unordered = _best(f"unordered-{form}", node, Path(folder, "bare"))
            bare = _best(f"copy-{form}", node, Path(folder, "bare"))
            ours = _best(f"export-{form}", node, Path(folder, "ours"))
            exports.append(ours)
            yield from _compared(form, ours, bare, TABLE_GOAL)
            yield Line(f"export.{form}.unordered", ours.seconds / unordered.seconds, "times")
        bare = _best("loop", node, Path(folder, "bare"))
        ours = _best("texts", node, Path(folder, "ours"))
        yield from _compared("txt", ours, bare, TEXT_GOAL)
        yield at_most("export.memory", max(cost.mib for cost in [*exports, ours]), "MiB", MEMORY_GOAL, bare.mib)
        yield from _streaming(node, folder)


def _best(what: str, node: Path, place: Path) -> Cost:
    costs = []
    for _ in range(ROUNDS):
        costs.append(once(what, node, place))
        shutil.rmtree(place, ignore_errors=True)
        place.unlink(missing_ok=True)
    return Cost(min(c.seconds for c in costs), min(c.cpu for c in costs), max(c.mib for c in costs))


def _compared(form: str, ours: Cost, bare: Cost, goal: float) -> Lines:
    yield Line(f"export.{form}.seconds", ours.seconds, "s", baseline=bare.seconds)
    yield Line(f"export.{form}.cpu", ours.cpu, "s", baseline=bare.cpu)
    yield at_most(f"export.{form}", ours.seconds / bare.seconds, "times", goal)


def _streaming(node: Path, folder: str) -> Lines:
    """Seconds in which the table goes through Arrow: in the process that has it open, and out of a running node."""
    inside = _best("arrow", node, Path(folder, "none"))
    with temporary_processes() as processes:
        answering = processes.start("answering", *ANSWERING, str(node), piped=True)
        answering.line(START_WITHIN)
        outside = _best("streamed", node, Path(folder, "none"))
        processes.stop(answering)
    yield at_least("export.streaming", inside.seconds / outside.seconds, "ratio", STREAM_GOAL)
