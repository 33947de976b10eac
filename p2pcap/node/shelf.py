"""Numbered things that cost something to get: got once, also when several tasks want one, and kept while there is room.

Always holds: a thing is got by one task at a time, and those in memory are the ones last asked for.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

V = TypeVar("V")


class Shelf(Generic[V]):
    """`get` gets the thing with a number, and says how much of the `room` it takes; one is kept in any case."""

    def __init__(self, get: Callable[[int], Awaitable[tuple[V, int]]], room: int) -> None:
        self._get = get
        self._room = room
        self._held: OrderedDict[int, tuple[V, int]] = OrderedDict()
        self._taken = 0
        self._coming: dict[int, trio.Event] = {}

    async def of(self, number: int) -> V:
        """The thing with this number. Raises what getting it raises."""
        while number not in self._held and number in self._coming:
            await self._coming[number].wait()
        if number not in self._held:
            await self._bring(number)
        self._held.move_to_end(number)
        return self._held[number][0]

    async def _bring(self, number: int) -> None:
        """Get it, and put away the oldest ones that have no room beside it. Who waits for it meanwhile looks again,
        also when this task failed or was cancelled."""
        self._coming[number] = trio.Event()
        try:
            self._held[number] = await self._get(number)
        finally:
            self._coming.pop(number).set()
        self._taken += self._held[number][1]
        while self._taken > self._room and len(self._held) > 1:
            _, (_, size) = self._held.popitem(last=False)
            self._taken -= size
