"""How long a statement takes from whoever says it to everybody else: 20 nodes in 5 processes, on real sockets.

All nodes talk in turn, 10 statements a second in all, for a minute. Each judges every statement by the rules of the
ledger before it passes it on. A statement that gossip lost and sync brought later counts with the time it took.

The baseline is the round-trip time of the connections, as the nodes' own pings measure it meanwhile.
"""

import statistics
import time

from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least, at_most
from benchmarks.swarm_runs import delays, meet, new_project, own_cpu, percentile, start_peers, talk

GROUPS, EACH = 5, 4
LINKS = 8
LEAST = 8
"""Peers each node has before it begins: all that it looks for."""

RATE = 10.0
SECONDS = 60.0
SETTLE = 10.0
"""Seconds after the last one in which statements may still arrive."""

GOAL = 1.0
"""Seconds that 99 of 100 may take, on loopback (two cores)."""


def run() -> Lines:
    """Median and 99th percentile of the delays, and the share that arrived."""
    with temporary_processes() as processes:
        folder = new_project(processes)
        groups = start_peers(processes, folder, GROUPS, EACH, LINKS, ())
        meet(groups, LEAST)
        before = own_cpu(groups)
        said = talk(groups, int(RATE * SECONDS) // (GROUPS * EACH), RATE)
        cpu = own_cpu(groups) - before
        time.sleep(SETTLE)
        heard = [there for group in groups for there in group.ask(60.0, "heard")]
        rtt = statistics.median(seconds for group in groups for seconds in group.ask(60.0, "rtt"))
    took = delays(said, heard)
    yield at_most("gossip_latency.p99", percentile(took, 0.99), "s", GOAL, rtt)
    yield Line("gossip_latency.p50", percentile(took, 0.5), "s", baseline=rtt)
    yield at_least("gossip_latency.arrived", len(took) / (len(said) * len(heard)), "ratio", 1.0)
    yield Line("gossip_latency.cpu", 1_000 * cpu / (len(said) * len(heard)), "ms/statement/node")
