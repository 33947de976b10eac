"""Two hundred identities that cost nothing flood an open project: the volunteers are no slower, and nobody trusts them.

In simulated time, with the real ledger and the real choice of work (benchmarks.sim_sybils); `python -m benchmarks run
sybils` is the same with more work.
"""

from benchmarks.sim_outcome import speeds_of
from benchmarks.sim_project import project_of
from benchmarks.sim_sybils import Flooded, opened
from benchmarks.sybils import POWER, SLOWED, SYBILS, VOLUNTEERS


def test_a_flood_of_identities_slows_nobody_and_is_not_trusted() -> None:
    project, speeds = opened(project_of(VOLUNTEERS * 12, 16)), speeds_of(VOLUNTEERS, 1)
    alone = Flooded(project, speeds, 0, POWER, 1).run().makespan
    flooded = Flooded(project, speeds, SYBILS, POWER, 1)
    assert flooded.run().makespan <= SLOWED * alone
    assert flooded.trusted == 0
    assert flooded.fooled <= 0.01 * SYBILS * 512
