"""Seeds of the simulator. `python -m tests.simulation --seed N --trace` tells all of one; `make soak` runs 10,000."""

import os
import subprocess
import sys

import pytest

from tests.simulation.run import simulate

SEEDS = 200
TOGETHER = 10


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_seeds(first: int) -> None:
    outcomes = [simulate(seed) for seed in range(first, first + TOGETHER)]
    broken = [str(outcome) for outcome in outcomes if outcome.broken]
    assert not broken, "\n\n".join(broken)


def test_a_seed_decides_everything() -> None:
    here = simulate(7).digest
    assert here == simulate(7).digest
    for order in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", "7"]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": order}, capture_output=True, text=True, check=False
        )
        assert f"trace {here}" in done.stdout


def test_seeds_differ() -> None:
    assert len({simulate(seed).digest for seed in (7, 8, 9)}) == 3
