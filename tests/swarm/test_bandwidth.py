"""Caps on bandwidth, on a clock that jumps: the rate is kept, and peers share it."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from p2pcap.swarm.bandwidth import LEAST_PART, Bandwidth, Line
from p2pcap.swarm.counters import Counters, Tally, Traffic
from p2pcap.swarm.frames import WRITE_SIZE
from p2pcap.swarm.peers import MAX_PEERS


def jumping(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_without_a_cap_nobody_waits() -> None:
    async def main() -> None:
        bandwidth = Bandwidth()
        await bandwidth.upload("a", 10**12)
        await bandwidth.download("a", 10**11)
        assert (trio.current_time() - start, bandwidth.up.passed, bandwidth.down.passed) == (0, 10**12, 10**11)

    start = 0.0
    jumping(main)


@pytest.mark.parametrize("rate", [20_000.0, 1e6, 5e7])
def test_a_line_carries_its_rate_and_no_more(rate: float) -> None:
    async def main() -> None:
        line = Line(rate)
        async with trio.open_nursery() as nursery:
            for peer in "abc":
                nursery.start_soon(line.take, peer, int(rate))
        seconds = trio.current_time()
        assert line.passed == 3 * int(rate)
        assert seconds == pytest.approx(3.0, abs=0.2)
        await trio.sleep(3_600)
        start = trio.current_time()
        await line.take("a", int(rate))
        assert trio.current_time() - start > 0.8, "nothing is saved up while nobody asks"

    jumping(main)


def test_peers_share_a_line_whatever_each_asks_for() -> None:
    """One peer with eight requests gets as much as each of three with one."""
    passed: Counter[str] = Counter()

    async def ask(line: Line, peer: str) -> None:
        while True:
            await line.take(peer, line.part)
            passed[peer] += line.part

    async def main() -> None:
        line = Line(1e6)
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:
                for peer in ("greedy",) * 8 + ("a", "b", "c"):
                    nursery.start_soon(ask, line, peer)

    jumping(main)
    for peer in ("greedy", "a", "b", "c"):
        assert passed[peer] == pytest.approx(5e6, rel=0.05)


def test_who_comes_late_is_owed_nothing_for_the_time_before() -> None:
    passed: Counter[str] = Counter()

    async def ask(line: Line, peer: str) -> None:
        while True:
            await line.take(peer, line.part)
            passed[peer] += line.part

    async def main() -> None:
        line = Line(1e6)
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ask, line, "early")
                await trio.sleep(10)
                for _ in range(3):
                    nursery.start_soon(ask, line, "late")

    jumping(main)
    assert passed["late"] == pytest.approx(5e6, rel=0.05)


def test_a_long_wait_is_cut_into_parts_so_that_others_get_in_between() -> None:
    done: list[str] = []

    async def ask(line: Line, peer: str, size: int) -> None:
        await line.take(peer, size)
        done.append(peer)

    async def main() -> None:
        line = Line(100_000.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, line, "much", 10_000_000)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, line, "little", 1_000)
        assert done == ["little", "much"]

    jumping(main)


def test_who_gives_up_waiting_holds_up_nobody() -> None:
    async def main() -> None:
        line = Line(10_000.0)
        async with trio.open_nursery() as nursery:
            for peer in "abcd":
                nursery.start_soon(line.take, peer, 5_000)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for patience in (0.0, 0.05, 0.31, 1.7):
                nursery.start_soon(give_up_after, patience, line, "hasty")
                nursery.start_soon(line.take, "patient", 5_000)
        assert (line._busy, len(line._waiting)) == (False, 0)

    async def give_up_after(patience: float, line: Line, peer: str) -> None:
        with trio.move_on_after(patience):
            await line.take(peer, 100_000)

    jumping(main)


def test_giving_up_in_the_moment_of_ones_turn_passes_it_on() -> None:
    async def main() -> None:
        line = Line(1e6)
        await line._turn("first", 10)
        async with trio.open_nursery() as nursery:
            hasty = trio.CancelScope()
            nursery.start_soon(cancelled, hasty, line)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(line.take, "last", 10)
            await trio.testing.wait_all_tasks_blocked()
            line._next()
            hasty.cancel()
        assert line.passed == 10
        assert not line._busy

    async def cancelled(scope: trio.CancelScope, line: Line) -> None:
        with scope:
            await line.take("hasty", 10)

    jumping(main)


def test_parts_are_a_tenth_of_a_second_within_limits() -> None:
    assert [Line(rate).part for rate in (100.0, 1e5, 1e9, math.inf)] == [LEAST_PART, 10_000, WRITE_SIZE, WRITE_SIZE]


def test_transfers_share_a_line_as_far_as_it_carries_them() -> None:
    async def main() -> None:
        assert [Line(rate).places.total_tokens for rate in (100.0, 1e6, math.inf)] == [2, 30, math.inf]

    jumping(main)


def test_traffic_of_many_peers_is_bounded_and_nothing_is_lost() -> None:
    traffic = Traffic()
    for n in range(MAX_PEERS + 100):
        tally = traffic.of(f"p{n}")
        tally.sent += 1
        tally.received += 2
    assert (traffic.sent, traffic.received) == (MAX_PEERS + 100, 2 * (MAX_PEERS + 100))
    assert len(traffic._of) == MAX_PEERS
    assert traffic.of(f"p{MAX_PEERS}") == Tally(1, 2)
    assert traffic.of("p0") == Tally(0, 0), "forgotten"


def test_counters_begin_at_nothing() -> None:
    assert Counters() == Counters()
    assert Counters().gossip["accept"] == 0
