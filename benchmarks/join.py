"""How long a volunteer takes from `p2pcap join` to its first claim, with the engine's start taken out.

Counted is the time from the start of the program to the first claim, less the time from the start of the engine's
process to its readiness. What is left is what joining itself costs: imports, the key and the database, the first
connection, root, manifest and plan, the grant, the model's files from the swarm; and, once the engine is ready, what
still lies before the claim. Item lists and images are fetched while the engine starts.

The baseline is a bare process that imports what a node imports.
"""

import statistics
import sys
import time

from benchmarks.events import engine_ready, event_times, wait_for_event
from benchmarks.job import LOOPBACK, Job, make_job, serve
from benchmarks.processes import P2PCAP, Processes, temporary_processes
from benchmarks.report import Line, Lines, at_most

GOAL = 10.0
"""Seconds a joiner may take before its first claim (docs/protocol.md, Goals)."""

IMAGES = 1_536
ROUNDS = 3
SEED = 9_200
IMPORTS = "import p2pcap.node.node"


def run() -> Lines:
    """The median of a few joins, and the time an engine took beside it."""
    joins: list[float] = []
    starts: list[float] = []
    imports: list[float] = []
    with temporary_processes() as processes:
        job = make_job(processes, "joining", IMAGES, SEED)
        for number in range(ROUNDS):
            seconds, engine = _join(processes, job, number)
            joins.append(seconds)
            starts.append(engine)
            imports.append(import_seconds(processes))
    yield at_most("join.first_claim", statistics.median(joins), "s", GOAL, statistics.median(imports))
    yield Line("join.first_claim_slowest", max(joins), "s", baseline=max(imports))
    yield Line("join.engine_start", statistics.median(starts), "s")


def _join(processes: Processes, job: Job, number: int) -> tuple[float, float]:
    """Seconds to the first claim without the engine's start, and the engine's start."""
    directory = job.folder / f"volunteer-{number}"
    coordinator, ticket = serve(processes, job)
    started = time.time()
    command = (*P2PCAP, "join", ticket, "--node", str(directory), "--listen", LOOPBACK)
    volunteer = processes.start(directory.name, *command)
    try:
        ready = engine_ready(volunteer, directory)
        claimed = wait_for_event(volunteer, directory, "claim")
        engine = ready - event_times(directory, "engine", phase="starting")[0]
    finally:
        processes.stop(volunteer)
        processes.stop(coordinator)
    return claimed - started - engine, engine


def import_seconds(processes: Processes) -> float:
    """Seconds a process takes that only imports what a node imports."""
    started = time.perf_counter()
    processes.run(sys.executable, "-c", IMPORTS)
    return time.perf_counter() - started
