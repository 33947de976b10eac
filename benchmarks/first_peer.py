"""How long from `p2pcap join` to the first peer, on loopback: imports, key, database, network, one connection.

The node joins as an observer, so no engine starts beside it. It says itself since when it has its first peer. The
baseline is a bare process that imports what a node imports.
"""

import statistics
import time

from benchmarks.job import LOOPBACK, Job, make_job, serve
from benchmarks.join import import_seconds
from benchmarks.processes import P2PCAP, NodeView, Processes, Started, temporary_processes
from benchmarks.report import Line, Lines, at_most

GOAL = 3.0
"""Seconds."""

IMAGES = 64
ROUNDS = 5
SEED = 9_500
MEET_WITHIN = 60.0
LOOK_EVERY = 0.05


def run() -> Lines:
    """The median of a few joins, and the slowest."""
    seconds: list[float] = []
    imports: list[float] = []
    with temporary_processes() as processes:
        job = make_job(processes, "meeting", IMAGES, SEED)
        coordinator, ticket = serve(processes, job)
        for number in range(ROUNDS):
            seconds.append(_join(processes, job, ticket, number))
            imports.append(import_seconds(processes))
        processes.stop(coordinator)
    yield at_most("first_peer.seconds", statistics.median(seconds), "s", GOAL, statistics.median(imports))
    yield Line("first_peer.slowest", max(seconds), "s", baseline=max(imports))


def _join(processes: Processes, job: Job, ticket: str, number: int) -> float:
    directory = job.folder / f"observer-{number}"
    started = time.time()
    command = (*P2PCAP, "join", ticket, "--observe", "--node", str(directory), "--listen", LOOPBACK)
    observer = processes.start(directory.name, *command)
    try:
        with NodeView(directory) as view:
            return _first_peer(observer, view) - started
    finally:
        processes.stop(observer)


def _first_peer(observer: Started, view: NodeView) -> float:
    """The unix time since which the node is connected."""
    since: list[float] = []

    def met() -> bool:
        seen = view.snapshot()
        since[:] = sorted(peer.since for peer in seen.peers) if seen is not None else []
        return bool(since)

    observer.wait_for(met, "the first peer", MEET_WITHIN, LOOK_EVERY)
    return since[0]
