"""What 50 connections cost a whole node in memory: its RSS with them, less its RSS with none.

The peers are in other processes. All have met the node, told their status and listen to its gossip. The baseline is the
same process before the first one came.
"""

import time

import psutil

from benchmarks.processes import Started, temporary_processes
from benchmarks.report import Line, Lines, at_most
from benchmarks.swarm_runs import meet, new_project, start_node, start_peers

GROUPS, EACH = 5, 10
SETTLE = 15.0
"""Seconds before each look."""

GOAL = 30.0
"""MiB that 50 connections may cost."""

MIB = 1024**2


def run() -> Lines:
    """MiB more, and for each connection."""
    with temporary_processes() as processes:
        folder = new_project(processes)
        node, address = start_node(processes, folder)
        none = _rss(node)
        meet(start_peers(processes, folder, GROUPS, EACH, 1, [address]), 1)
        with_all = _rss(node)
    number = GROUPS * EACH
    yield at_most("connections.rss", with_all - none, "MiB", GOAL, none)
    yield Line("connections.rss_each", 1_024 * (with_all - none) / number, "KiB")


def _rss(node: Started) -> float:
    """MiB, a while after the last change."""
    time.sleep(SETTLE)
    return float(psutil.Process(node.process.pid).memory_info().rss) / MIB
