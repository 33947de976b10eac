"""Admission to the engine: many at once up to its capacity, or one all alone.

An image that was in hand each time the engine died may be the one that kills it. It gets its last try alone, so its
neighbours are not blamed for it and it is not blamed for theirs.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Gate:
    """`shared()` admits up to `capacity` holders; `alone()` waits until it can hold the whole capacity."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._places = trio.Semaphore(capacity, max_value=capacity)
        self._turn = trio.Lock()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """One place among many."""
        await self.enter()
        try:
            yield
        finally:
            self.leave()

    async def enter(self) -> None:
        """Take a place; whoever takes one gives it back with `leave`."""
        async with self._turn:
            await self._places.acquire()

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Every place at once. The caller must not hold one. Newcomers wait, so this is not starved."""
        taken = 0
        async with self._turn:
            try:
                while taken < self._capacity:
                    await self._places.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._places.release()
