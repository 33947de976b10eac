"""The memory of a node's process, without its engine's processes, while it captions.

RSS counts every page the process has, shared libraries included; PSS divides shared pages by who shares them; USS
counts only what would be free if the process ended. Reported is the largest of each. The baseline is a process that
has imported libp2p and DuckDB and does nothing.
"""

import sys
import time

import psutil

from benchmarks.events import engine_ready
from benchmarks.job import LOOPBACK, START_WITHIN, make_job, serve
from benchmarks.processes import P2PCAP, NodeView, Processes, Started, temporary_processes
from benchmarks.report import Line, Lines
from benchmarks.sides import DONE_WITHIN

IMAGES = 1_536
SEED = 9_300
SAMPLE_EVERY = 0.5
KINDS = ("rss", "pss", "uss")
MIB = 1024**2
BARE = "import libp2p, duckdb, sys; print('ready', flush=True); sys.stdin.read()"


def run() -> Lines:
    """The largest RSS, PSS and USS in MiB."""
    with temporary_processes() as processes:
        node = _node(processes)
        bare = _bare(processes)
    for kind in KINDS:
        yield Line(f"node_memory.{kind}", node[kind] / MIB, "MiB", baseline=bare[kind] / MIB)


def _node(processes: Processes) -> dict[str, int]:
    job = make_job(processes, "memory", IMAGES, SEED)
    directory = job.folder / "volunteer"
    coordinator, ticket = serve(processes, job)
    command = (*P2PCAP, "join", ticket, "--node", str(directory), "--listen", LOOPBACK)
    volunteer = processes.start("memory-volunteer", *command)
    largest = dict.fromkeys(KINDS, 0)
    try:
        engine_ready(volunteer, directory)
        with NodeView(directory) as view:
            deadline = time.monotonic() + DONE_WITHIN
            while not view.finished() and time.monotonic() < deadline:
                volunteer.check()
                largest = {kind: max(largest[kind], now) for kind, now in _memory(volunteer).items()}
                time.sleep(SAMPLE_EVERY)
    finally:
        processes.stop(volunteer)
        processes.stop(coordinator)
    return largest


def _bare(processes: Processes) -> dict[str, int]:
    bare = processes.start("bare", sys.executable, "-c", BARE, piped=True)
    bare.line(START_WITHIN)
    return _memory(bare)


def _memory(started: Started) -> dict[str, int]:
    """Bytes of the process itself; what it started is not counted."""
    memory = psutil.Process(started.process.pid).memory_full_info()
    return {kind: int(getattr(memory, kind)) for kind in KINDS}
