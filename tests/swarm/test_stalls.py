"""Who stalled: passed over for a while, and blamed only when it does nothing else. Only the test moves the clock."""

from collections.abc import Callable

import trio
from trio.testing import MockClock

from p2pcap.swarm.peers import BAN_AT, MAX_PEERS, STALLED, Standing
from p2pcap.swarm.stalls import PASS_OVER, Stalls


class Scene:
    """Stalls, and what is held against whom."""

    def __init__(self, clock: MockClock) -> None:
        self.pass_time = clock.jump
        self.standing = Standing()
        self.stalls = Stalls(self._blame)

    def _blame(self, peer: str, penalty: float) -> None:
        self.standing.penalise(peer, penalty, trio.current_time())

    def score(self) -> float:
        return self.standing.score("peer", trio.current_time())

    def banned(self) -> bool:
        return self.standing.banned("peer", trio.current_time())


def in_trio(test: Callable[[Scene], None]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            test(Scene(clock))

        clock = MockClock()
        trio.run(main, clock=clock)

    return run


@in_trio
def test_a_peer_that_stalled_is_passed_over_for_a_while(scene: Scene) -> None:
    assert not scene.stalls.passed_over("peer")
    scene.stalls.stalled("peer")
    assert scene.stalls.passed_over("peer")
    assert not scene.stalls.passed_over("other")
    scene.pass_time(PASS_OVER)
    assert not scene.stalls.passed_over("peer")


@in_trio
def test_however_many_fetches_fall_into_a_bad_minute_it_costs_nothing(scene: Scene) -> None:
    for _ in range(1_000):
        scene.stalls.stalled("peer")
        scene.pass_time(PASS_OVER / 1_001)
    assert scene.score() == 0


@in_trio
def test_a_slow_peer_that_brings_something_now_and_then_is_never_blamed(scene: Scene) -> None:
    for _ in range(1_000):
        scene.stalls.stalled("peer")
        scene.stalls.brought("peer")
        scene.pass_time(PASS_OVER)
    assert scene.score() == 0


@in_trio
def test_a_peer_that_only_stalls_is_banned_in_the_end(scene: Scene) -> None:
    stalled = 0
    while not scene.banned():
        scene.stalls.stalled("peer")
        scene.pass_time(PASS_OVER)
        stalled += 1
        assert stalled < 60, "it never is"
    assert stalled > BAN_AT / STALLED


@in_trio
def test_a_bounded_number_of_peers_is_remembered(scene: Scene) -> None:
    for number in range(MAX_PEERS + 1):
        scene.stalls.stalled(str(number))
    assert not scene.stalls.passed_over("0")
    assert scene.stalls.passed_over("1")
    assert scene.stalls.passed_over(str(MAX_PEERS))
