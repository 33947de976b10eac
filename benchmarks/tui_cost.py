"""What the terminal UI takes of a core, and of the node that it watches, with a crowd of ten thousand.

The UI is the real command in a terminal of 140 columns by 40 lines (a pseudo-terminal that is read and thrown away),
with the longest list open; the node has a million captions (benchmarks.tui_node). The node's share is the CPU time that
it takes with the UI open, less what it takes by itself, which is its baseline. The UI's baseline is the same program on
its first screen. A redraw is a burst of output with a pause of a tenth of a second before it.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.processes import P2PCAP, Processes, Started, temporary_processes
from benchmarks.report import Lines, at_most

READY_WITHIN = 500.0
SETTLE, SECONDS = 8.0, 30.0
PAUSE = 0.1
COLUMNS, LINES = 140, 40
UI_GOAL, NODE_GOAL, REDRAWS_GOAL = 5.0, 1.0, 2.0
"""Per cent of a core, the same, and redraws a second."""


@dataclass(frozen=True)
class _Seen:
    """Shares of a core in per cent, and redraws a second."""

    ui: float
    node: float
    redraws: float


def run() -> Lines:
    """The UI's share, the node's, and the redraws."""
    with temporary_processes() as processes:
        node, directory = crowded_node(processes)
        time.sleep(SETTLE)
        alone = _share(node)
        first = _watched(node, directory, b"1")
        longest = [_watched(node, directory, key) for key in (b"2", b"5")]
    yield at_most("tui_cost.ui", max(one.ui for one in longest), "% of a core", UI_GOAL, first.ui)
    more = max(one.node for one in (first, *longest)) - alone
    yield at_most("tui_cost.node", more, "% of a core more", NODE_GOAL, alone)
    yield at_most("tui_cost.redraws", max(one.redraws for one in (first, *longest)), "a second", REDRAWS_GOAL)


def crowded_node(processes: Processes) -> tuple[Started, Path]:
    """A node with a million captions and ten thousand of everybody, once it answers."""
    directory = processes.folder / "node"
    node = processes.start("node", sys.executable, "-m", "benchmarks.tui_node", str(directory), piped=True)
    node.line(READY_WITHIN)
    return node, directory


def _share(node: Started) -> float:
    before = node.cpu()["own"]
    time.sleep(SECONDS)  # the time over which is measured
    return 100 * (node.cpu()["own"] - before) / SECONDS


def _watched(node: Started, directory: Path, key: bytes) -> _Seen:
    """The UI on the screen that `key` opens."""
    with _terminal([*P2PCAP, "tui", "--node", str(directory)]) as (terminal, process):
        _read(terminal, SETTLE)
        os.write(terminal, key)
        _read(terminal, SETTLE)
        before = _cpu(process), node.cpu()["own"]
        redraws = _read(terminal, SECONDS)
        after = _cpu(process), node.cpu()["own"]
    ui, its = (100 * (end - start) / SECONDS for start, end in zip(before, after, strict=True))
    return _Seen(ui, its, redraws / SECONDS)


@contextmanager
def _terminal(command: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """A program on a terminal, whose other end comes back; it is ended with the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    started = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        yield ours, psutil.Process(started.pid)
    finally:
        started.kill()
        started.wait()
        os.close(ours)


def _read(terminal: int, seconds: float) -> int:
    """Read for so long what is drawn. Returns how many redraws it was."""
    end, last, redraws = time.monotonic() + seconds, 0.0, 0
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            os.read(terminal, 1 << 16)
            redraws += time.monotonic() - last > PAUSE
            last = time.monotonic()
    return redraws


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
