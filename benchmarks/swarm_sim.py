"""How well volunteers share a job among themselves, in simulated time: work done twice, and how long the job takes.

Two simulations. `policy` has 1,000 volunteers with the real choice of work over shared views (benchmarks.sim_policy);
`nodes` has 100 volunteers with all the real code of ledger and worker (benchmarks.sim_nodes). Each volunteer would do
30 chunks if all were equally fast; speeds are spread, and statements take a second to everybody.

`policy` has its real size, 16 slices a chunk, and is run with each of SEEDS. `nodes` is cut down to one seed and to two
slices a chunk: a collision weighs eight times as much there, and so do the last slices of the slowest volunteers in the
makespan. `python -m benchmarks.swarm_sim [SLICES]` runs it with every seed, for hours with 16.

The baseline of a makespan is that of a central queue without delay over the same volunteers: 1. That of work done twice
is the central queue's: none.

Always holds: figures follow from the seeds alone.
"""

import sys
from collections.abc import Callable, Sequence

from benchmarks import sim_nodes, sim_policy
from benchmarks.report import Line, Lines, at_most
from benchmarks.sim_outcome import Outcome, central_queue, speeds_of
from benchmarks.sim_project import project_of
from p2pcap.project.opened import Project

SEEDS = (1, 2, 3)
CHUNKS = 30
"""Chunks for each volunteer."""

LAST_TENTH = 0.9

REPEATED, REPEATED_EARLY, MAKESPAN, SQUATTED = 0.01, 0.001, 1.05, 1.06
"""Goals: work done twice, in all and before the last tenth of the time; makespan, alone and with as many squatters as
volunteers, both against the central queue (docs/protocol.md, Goals)."""

Simulation = Callable[[Project, list[float], int, int], Outcome]


def run() -> Lines:
    """Both simulations, each with and without squatters."""
    yield from _figures("policy", sim_policy.run, 1_000, 16, SEEDS)
    yield from _figures("nodes", sim_nodes.run, 100, 2, SEEDS[:1])


def _figures(name: str, simulation: Simulation, volunteers: int, slices: int, seeds: Sequence[int]) -> Lines:
    project = project_of(volunteers * CHUNKS, slices)
    for seed in seeds:
        speeds = speeds_of(volunteers, seed)
        queue = central_queue(speeds, volunteers * CHUNKS * slices, seed)
        for squatters, goal in ((0, MAKESPAN), (volunteers, SQUATTED)):
            outcome = simulation(project, speeds, squatters, seed)
            run = f"swarm_sim.{name}.{seed}{'.squatters' if squatters else ''}"
            yield at_most(f"{run}.repeated", outcome.duplicates(), "of all", REPEATED, 0.0)
            yield at_most(f"{run}.repeated_early", outcome.duplicates(LAST_TENTH), "of all", REPEATED_EARLY, 0.0)
            yield Line(f"{run}.makespan", outcome.makespan, "s", baseline=queue)
            yield at_most(f"{run}.makespan_ratio", outcome.makespan / queue, "ratio", goal, 1.0)


if __name__ == "__main__":
    for line in _figures("nodes", sim_nodes.run, 100, int(sys.argv[1]) if len(sys.argv) > 1 else 16, SEEDS):
        print(line.json(), flush=True)
