"""Five volunteers whom the maintainer knows, in an open project that 200 other identities flood.

The baseline is the same project with the same volunteers and nobody else, in the same run. What is measured is
simulated time, with the real ledger and the real choice of work (benchmarks.sim_sybils).

Always holds: figures follow from the seeds alone.
"""

from benchmarks.report import Lines, at_most
from benchmarks.sim_outcome import speeds_of
from benchmarks.sim_project import project_of
from benchmarks.sim_sybils import Flooded, opened

SEEDS = (1, 2, 3)
VOLUNTEERS, SYBILS = 5, 200
CHUNKS, SLICES = 30, 16
POWER = 0.95
"""The probability with which a verifier finds a wrong caption."""

SLOWED = 1.05


def run() -> Lines:
    """For each seed: how much longer it takes, how much garbage counts, and how many of them are trusted."""
    project = opened(project_of(VOLUNTEERS * CHUNKS, SLICES))
    for seed in SEEDS:
        speeds = speeds_of(VOLUNTEERS, seed)
        alone = Flooded(project, speeds, 0, POWER, seed).run().makespan
        flooded = Flooded(project, speeds, SYBILS, POWER, seed)
        makespan = flooded.run().makespan
        yield at_most(f"sybils.{seed}.makespan_ratio", makespan / alone, "ratio", SLOWED, 1.0)
        yield at_most(f"sybils.{seed}.rows", flooded.fooled, "of their rows count", 0.01 * SYBILS * 512, 0.0)
        yield at_most(f"sybils.{seed}.trusted", flooded.trusted, "of them", 0, 0.0)
