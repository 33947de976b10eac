"""The gate: many at once up to its capacity, or one alone, and nobody waits for ever."""

import pytest
import trio

from p2pcap.worker.gate import Gate
from tests.twins import simulated


class Watched:
    """A gate that notes who is inside."""

    def __init__(self, capacity: int) -> None:
        self.gate = Gate(capacity)
        self.inside: list[str] = []
        self.order: list[str] = []
        self.most = 0
        self.disturbed = False

    async def shared(self, name: str, seconds: float = 1.0) -> None:
        async with self.gate.shared():
            await self._stay(name, seconds)

    async def alone(self, name: str, seconds: float = 1.0) -> None:
        async with self.gate.alone():
            self.disturbed |= bool(self.inside)
            await self._stay(name, seconds)
            self.disturbed |= bool(self.inside)

    async def _stay(self, name: str, seconds: float) -> None:
        self.inside.append(name)
        self.order.append(name)
        self.most = max(self.most, len(self.inside))
        try:
            await trio.sleep(seconds)
        finally:
            self.inside.remove(name)


@pytest.mark.parametrize("capacity", [1, 3, 10])
@simulated
async def test_no_more_than_the_capacity_come_in(capacity: int) -> None:
    watched = Watched(capacity)
    async with trio.open_nursery() as nursery:
        for number in range(25):
            nursery.start_soon(watched.shared, str(number))
    assert watched.most == capacity
    assert trio.current_time() == -(-25 // capacity)


@pytest.mark.parametrize("capacity", [1, 3, 10])
@simulated
async def test_who_is_alone_is_alone(capacity: int) -> None:
    watched = Watched(capacity)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(watched.shared, f"shared {number}", number % 3 + 1)
            nursery.start_soon(watched.alone, f"alone {number}", number % 2 + 1)
    assert len(watched.order) == 40
    assert not watched.disturbed


@simulated
async def test_newcomers_do_not_overtake_who_wants_to_be_alone() -> None:
    watched = Watched(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.shared, "first", 10)
        await trio.sleep(1)
        nursery.start_soon(watched.alone, "alone")
        await trio.sleep(1)
        for number in range(5):
            nursery.start_soon(watched.shared, f"late {number}")
    assert watched.order[:2] == ["first", "alone"]


@simulated
async def test_giving_up_gives_every_place_back() -> None:
    watched = Watched(3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.shared, "stays", 10)
        await trio.sleep(1)
        with trio.move_on_after(1):
            await watched.alone("gives up while it waits")
        with trio.move_on_after(1):
            await watched.shared("is cancelled inside", 100)
        assert watched.inside == ["stays"]
    with trio.move_on_after(1):
        await watched.alone("is cancelled alone", 100)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(watched.shared, str(number))
        await trio.sleep(0.5)
        assert len(watched.inside) == 3


@simulated
async def test_a_fault_inside_gives_the_place_back() -> None:
    gate = Gate(1)
    for enter in (gate.shared, gate.alone):
        with pytest.raises(ZeroDivisionError):
            async with enter():
                _ = 1 // 0
    with trio.fail_after(1):
        async with gate.alone():
            pass
