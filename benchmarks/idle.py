"""What a whole node with 20 peers takes of a core while nothing happens.

Pings, GossipSub's heartbeats and announcements, comparing with a peer every half minute and looking for more peers go
on. The peers are in other processes. The baseline is the same node with no peer at all.
"""

import time

from benchmarks.processes import Started, temporary_processes
from benchmarks.report import Lines, at_most
from benchmarks.swarm_runs import meet, new_project, own_cpu, start_node, start_peers

GROUPS, EACH = 2, 10
SETTLE = 15.0
"""Seconds before each look, until everybody has met."""

ALONE = 20.0
SECONDS = 60.0
GOAL = 0.02
"""Of a core, at most."""


def run() -> Lines:
    """CPU seconds a second."""
    with temporary_processes() as processes:
        folder = new_project(processes)
        node, address = start_node(processes, folder)
        alone = _busy(node, ALONE)
        meet(start_peers(processes, folder, GROUPS, EACH, 1, [address]), 1)
        with_peers = _busy(node, SECONDS)
    yield at_most("idle.cpu", with_peers, "cores", GOAL, alone)


def _busy(node: Started, seconds: float) -> float:
    time.sleep(SETTLE)
    before, began = own_cpu([node]), time.monotonic()
    time.sleep(seconds)
    return (own_cpu([node]) - before) / (time.monotonic() - began)
