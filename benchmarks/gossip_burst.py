"""200 statements a second into one whole node for half a minute: does it get every one?

Two peers in one process speak, each connected to the node and only through it to the other: the node judges every
statement, passes it on, and commits it. Gossip may lose some; sync repairs that. The node itself says how many it
holds.

The baseline of the CPU time is what judging one statement takes, without network, disk and passing on.
"""

import time
from collections.abc import Callable

from benchmarks.processes import Started, temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.swarm_project import Shared, read_project
from benchmarks.swarm_runs import meet, new_project, own_cpu, start_node, start_peers, talk
from benchmarks.swarm_service import LedgerService
from p2pcap.swarm.service import Judgement

GROUPS, EACH = 1, 2
RATE = 200.0
SECONDS = 30.0
REPAIR_WITHIN = 120.0
"""Seconds after the last statement in which the node must have all of them."""

LOOK_EVERY = 0.5
JUDGED = 1_000


def run() -> Lines:
    """The share the node holds when the last one was said and in the end, and what one statement costs it."""
    with temporary_processes() as processes:
        folder = new_project(processes)
        node, address = start_node(processes, folder)
        groups = start_peers(processes, folder, GROUPS, EACH, 1, [address])
        meet(groups, 1)
        before = own_cpu([node])
        said = talk(groups, int(RATE * SECONDS) // (GROUPS * EACH), RATE)
        by_gossip = _held(groups[0], address)
        seconds = _wait(lambda: _held(groups[0], address) >= len(said))
        held, cpu = _held(groups[0], address), own_cpu([node]) - before
        judging = _judging(read_project(folder))
    yield at_least("gossip_burst.held", held / len(said), "ratio", 1.0, by_gossip / len(said))
    yield Line("gossip_burst.repaired", seconds, "s")
    spoken = max(said.values()) - min(said.values())
    yield Line("gossip_burst.rate", len(said) / spoken, "statements/s", baseline=RATE)
    yield Line("gossip_burst.cpu", 1_000 * cpu / len(said), "ms/statement", baseline=1_000 * judging)


def _held(group: Started, address: str) -> int:
    held: int = group.ask(60.0, "count", address.rsplit("/", 1)[1])
    return held


def _wait(done: Callable[[], bool]) -> float:
    """Seconds until `done`, or REPAIR_WITHIN."""
    began = time.monotonic()
    while not done() and time.monotonic() < began + REPAIR_WITHIN:
        time.sleep(LOOK_EVERY)
    return time.monotonic() - began


def _judging(shared: Shared) -> float:
    """CPU seconds to judge one statement."""
    service = LedgerService(shared.project)
    statements = shared.admissions(JUDGED)
    began = time.process_time()
    judged = [service.judge("results", "", statement.data) for statement in statements]
    assert set(judged) == {Judgement.ACCEPT}
    return (time.process_time() - began) / JUDGED
