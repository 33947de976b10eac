"""The gate: many at once up to the engine's capacity, fewer around suspects, and nobody waits for ever."""

import itertools

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.worker.gate import EVERYBODY, Gate, admits, tolerated
from tests.twins import simulated

LIMITS = st.one_of(st.just(EVERYBODY), st.integers(1, 12))


@given(st.integers(2, 10), st.integers(1, 2_000))
def test_company_shrinks_from_everybody_to_none(tries: int, capacity: int) -> None:
    company = [min(capacity, tolerated(deaths, tries, capacity)) for deaths in range(tries)]
    assert company[0] == capacity
    assert company[-1] == 1
    assert company == sorted(company, reverse=True)
    steps = [before / after for before, after in itertools.pairwise(company)]
    assert max(steps) <= 2 * capacity ** (1 / (tries - 1)), "each step costs about as much as the others"


def test_of_80_with_three_tries_80_then_9_then_1() -> None:
    assert [min(80, tolerated(deaths, 3, 80)) for deaths in range(3)] == [80, 9, 1]


@given(st.lists(LIMITS), LIMITS, st.integers(1, 20))
def test_who_is_admitted_is_tolerated_and_tolerates(inside: list[int], limit: int, capacity: int) -> None:
    after = [*inside, limit]
    assert admits(inside, limit, capacity) == (len(after) <= min(capacity, *after))
    assert admits([], limit, capacity), "an empty engine takes anybody"


class Watched:
    """A gate that notes who is inside."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.gate = Gate(lambda: self.capacity)
        self.inside: dict[str, int] = {}
        self.order: list[str] = []
        self.most = 0

    async def enter(self, name: str, limit: int = EVERYBODY, seconds: float = 1.0) -> None:
        async with self.gate.entered(limit):
            self.inside[name] = limit
            self.order.append(name)
            assert len(self.inside) <= self.gate.inside <= min(self.inside.values())
            self.most = max(self.most, len(self.inside))
            try:
                await trio.sleep(seconds)
            finally:
                del self.inside[name]


@pytest.mark.parametrize("capacity", [1, 3, 10])
@simulated
async def test_no_more_than_the_capacity_come_in(capacity: int) -> None:
    watched = Watched(capacity)
    async with trio.open_nursery() as nursery:
        for number in range(25):
            nursery.start_soon(watched.enter, str(number))
    assert watched.most == capacity
    assert trio.current_time() == -(-25 // capacity)


@given(
    st.integers(1, 10),
    st.lists(st.tuples(LIMITS, st.integers(0, 3), st.integers(1, 5), st.integers(1, 9)), max_size=40),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 12)), max_size=5),
)
def test_all_come_in_whatever_they_tolerate_and_leave_or_give_up(
    capacity: int, comers: list[tuple[int, int, int, int]], changes: list[tuple[int, int]]
) -> None:
    """Each comes after a pause, stays a while, and loses patience; the capacity changes meanwhile."""

    @simulated
    async def run() -> None:
        watched = Watched(capacity)

        async def change() -> None:
            for seconds, room in changes:
                await trio.sleep(seconds)
                watched.capacity = room

        async def patient(name: str, limit: int, stay: int, patience: int) -> None:
            with trio.move_on_after(patience):
                await watched.enter(name, limit, stay)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            for number, (limit, pause, stay, patience) in enumerate(comers):
                await trio.sleep(pause)
                nursery.start_soon(patient, str(number), limit, stay, patience * 40)
                nursery.start_soon(patient, f"impatient {number}", limit, stay, patience)
        assert watched.gate.inside == 0
        with trio.fail_after(0.5):
            await watched.gate.enter(1)

    run()


@simulated
async def test_who_asks_first_enters_first() -> None:
    watched = Watched(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.enter, "first", EVERYBODY, 10)
        await trio.sleep(1)
        nursery.start_soon(watched.enter, "alone", 1)
        for number in range(5):
            await trio.sleep(0.1)
            nursery.start_soon(watched.enter, str(number))
    assert watched.order[:2] == ["first", "alone"]
    assert [set(watched.order[at : at + 2]) for at in (2, 4, 6)] == [{"0", "1"}, {"2", "3"}, {"4"}]


@simulated
async def test_the_gate_follows_the_capacity() -> None:
    watched = Watched(4)
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(watched.enter, str(number))
        await trio.sleep(0.5)
        assert len(watched.inside) == 4
        watched.capacity = 10
        await trio.sleep(1)
        assert len(watched.inside) == 10
        watched.capacity = 2
        await trio.sleep(1)
        assert len(watched.inside) == 2


@simulated
async def test_giving_up_gives_the_place_back() -> None:
    watched = Watched(3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.enter, "stays", EVERYBODY, 10)
        await trio.sleep(1)
        with trio.move_on_after(1):
            await watched.enter("gives up while it waits", 1)
        with trio.move_on_after(1):
            await watched.enter("is cancelled inside", EVERYBODY, 100)
        assert list(watched.inside) == ["stays"]
    with trio.move_on_after(1):
        await watched.enter("is cancelled alone", 1, 100)
    assert watched.gate.inside == 0


@simulated
async def test_whoever_is_cancelled_as_it_enters_takes_no_place() -> None:
    gate = Gate(lambda: 2)
    with trio.CancelScope() as scope:
        scope.cancel()
        await gate.enter()
    assert scope.cancelled_caught
    assert gate.inside == 0


@simulated
async def test_who_was_behind_one_that_gives_up_enters_at_once() -> None:
    watched = Watched(3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.enter, "stays", EVERYBODY, 10)
        await trio.sleep(1)

        async def gives_up() -> None:
            with trio.move_on_after(1):
                await watched.enter("alone", 1)

        nursery.start_soon(gives_up)
        await trio.sleep(0.5)
        nursery.start_soon(watched.enter, "behind")
        await trio.sleep(1)
        assert set(watched.inside) == {"stays", "behind"}


@simulated
async def test_a_fault_inside_gives_the_place_back() -> None:
    gate = Gate(lambda: 1)
    for limit in (EVERYBODY, 1):
        with pytest.raises(ZeroDivisionError):
            async with gate.entered(limit):
                _ = 1 // 0
    with trio.fail_after(1):
        await gate.enter(1)
