"""What waits is bounded, and whoever asked for the most is refused first."""

from contextlib import ExitStack

import pytest
import trio
import trio.testing

from p2pcap.swarm.backlog import Backlog, Crowded
from p2pcap.swarm.rates import TokenBucket
from tests.swarm.twin import within


@within(10)
async def test_the_newest_of_the_peer_with_the_most_is_refused() -> None:
    backlog = Backlog(100)
    with ExitStack() as stack:

        def waits(peer: str, size: int) -> trio.CancelScope:
            return stack.enter_context(backlog.wait(peer, size)).scope

        small = waits("modest", 20)
        greedy = [waits("greedy", 30) for _ in range(2)]
        late = waits("late", 30)
        assert [scope.cancel_called for scope in (small, *greedy, late)] == [False, False, True, False]
        largest = waits("huge", 90)
        assert largest.cancel_called, "it would have the most itself"
        assert not any(scope.cancel_called for scope in (small, greedy[0], late))
    assert (backlog._total, backlog._of, backlog._sizes) == (0, {}, {})


@within(10)
async def test_what_is_refused_ends_at_once_and_what_has_its_turn_is_safe() -> None:
    backlog = Backlog(100)
    with backlog.wait("peer", 60) as first:
        with pytest.raises(Crowded), backlog.wait("peer", 60):
            await trio.sleep_forever()
        assert backlog._total == 60
        backlog.done("peer", first)
        with backlog.wait("peer", 90):
            await trio.lowlevel.checkpoint()


# those who wait for tokens


def run_fast(main: object) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


def test_who_stops_waiting_for_tokens_has_spent_none_and_holds_up_nobody() -> None:
    async def main() -> None:
        bucket = TokenBucket(rate=1.0, burst=1.0)
        await bucket.take()
        async with trio.open_nursery() as nursery:
            for _ in range(1_000):
                nursery.start_soon(bucket.take)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert bucket._tokens == pytest.approx(0.0)
        start = trio.current_time()
        await bucket.take()
        assert trio.current_time() - start == pytest.approx(1.0)

    run_fast(main)


def test_those_behind_move_up() -> None:
    async def main() -> None:
        bucket = TokenBucket(rate=1.0, burst=1.0)
        await bucket.take()
        start = trio.current_time()
        first = trio.CancelScope()

        async def take_many() -> None:
            with first:
                await bucket.take(100.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_many)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(bucket.take)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
        assert trio.current_time() - start == pytest.approx(1.0)

    run_fast(main)


def test_a_bucket_is_full_again_when_it_has_earned_back_what_was_spent() -> None:
    async def main() -> None:
        bucket = TokenBucket(rate=1.0, burst=2.0)
        assert bucket.full()
        await bucket.take(2.0)
        await trio.sleep(1.0)
        assert not bucket.full()
        await trio.sleep(1.0)
        assert bucket.full()

    run_fast(main)
