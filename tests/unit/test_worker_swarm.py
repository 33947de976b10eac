"""Small swarms in simulated time: little is done twice, and the job ends about when a central queue would end it."""

import pytest

from benchmarks import sim_nodes, sim_policy
from benchmarks.sim_outcome import Outcome, central_queue, speeds_of
from benchmarks.sim_project import project_of


def compared(outcome: Outcome, volunteers: int, slices: int, seed: int) -> float:
    return outcome.makespan / central_queue(speeds_of(volunteers, seed), slices, seed)


@pytest.mark.parametrize("squatters", [0, 40])
def test_volunteers_share_a_job_without_a_centre(squatters: int) -> None:
    outcome = sim_policy.run(project_of(400, 16), speeds_of(40, 1), squatters, 1)
    assert outcome.over
    assert outcome.duplicates() < 0.01
    assert compared(outcome, 40, 6_400, 1) < 1.05


@pytest.mark.parametrize("squatters", [0, 6])
def test_real_workers_do_as_well(squatters: int) -> None:
    outcome = sim_nodes.run(project_of(36, 8), speeds_of(6, 1), squatters, 1)
    assert outcome.over
    assert outcome.duplicates() < 0.02
    assert compared(outcome, 6, 288, 1) < 1.1


def test_the_same_seed_gives_the_same_figures() -> None:
    one, again = (sim_policy.run(project_of(50, 4), speeds_of(10, 5), 10, 5) for _ in range(2))
    assert (one.makespan, one.repeated) == (again.makespan, again.repeated)
    one, again = (sim_nodes.run(project_of(12, 4), speeds_of(4, 5), 4, 5) for _ in range(2))
    assert (one.makespan, one.repeated) == (again.makespan, again.repeated)


def test_work_done_twice_is_counted() -> None:
    outcome = Outcome(4)
    outcome.publish(0, 0b0011, 10.0)
    outcome.publish(0, 0b0110, 50.0)
    assert outcome.left == 1
    outcome.publish(0, 0b1000, 100.0)
    assert outcome.over
    outcome.publish(0, 0b1000, 110.0)
    assert outcome.makespan == 100.0
    assert (outcome.duplicates(), outcome.duplicates(0.9)) == (0.5, 0.25)


def test_a_central_queue_leaves_nobody_waiting() -> None:
    assert central_queue([10.0, 10.0], 20, 1) == pytest.approx(100.0, rel=0.1)
    assert central_queue([10.0, 1e6], 21, 1) > 1e5, "the slow one takes a slice as well"
