"""Admission to the engine: as many images at once as it has room for, and fewer around one that may kill it.

An image that was in hand when the engine died may be what it died of. It is tried again in ever smaller company, down
to none: so the one that kills is found in a few deaths, and no neighbour is blamed for it. Whoever is inside tolerates
at most so many inside, itself included; nobody enters whom somebody inside would not tolerate.

Always holds: who asked first enters first, so nobody waits for ever as long as whoever is inside leaves.
"""

import math
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

EVERYBODY = sys.maxsize
"""Tolerates as many as the engine has room for."""


def tolerated(deaths: int, tries: int, capacity: int) -> int:
    """How many may be with the engine together with an image that was in hand at `deaths` deaths, itself included.

    From everybody to one alone at the last of its `tries` (at least 2), by the same factor each time: of 80, with three
    tries, 80, 9 and 1.
    """
    if deaths == 0:
        return EVERYBODY
    if deaths >= tries - 1:
        return 1
    return max(1, round(math.pow(capacity, 1 - deaths / (tries - 1))))


def admits(inside: Collection[int], limit: int, capacity: int) -> bool:
    """Whether one that tolerates `limit` may enter, those inside tolerating what `inside` says."""
    return len(inside) < min(capacity, limit, *inside)


@dataclass(eq=False)
class _Turn:
    limit: int
    admitted: trio.Event = field(default_factory=trio.Event)


class Gate:
    """`capacity` is asked again at each change, so the gate follows an engine that finds it has room for more, or less.
    It is at least 1; of more room, whoever waits hears when the next one enters or leaves."""

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._inside: list[int] = []
        self._waiting: deque[_Turn] = deque()

    @property
    def inside(self) -> int:
        """How many are inside."""
        return len(self._inside)

    @asynccontextmanager
    async def entered(self, limit: int = EVERYBODY) -> AsyncIterator[None]:
        """Inside, with at most `limit` there, itself included."""
        await self.enter(limit)
        try:
            yield
        finally:
            self.leave(limit)

    async def enter(self, limit: int = EVERYBODY) -> None:
        """Wait for the turn; whoever enters leaves with `leave`, saying the same limit."""
        turn = _Turn(limit)
        self._waiting.append(turn)
        self._admit()
        try:
            await turn.admitted.wait()
        except BaseException:
            if turn.admitted.is_set():
                self.leave(limit)
            else:
                self._waiting.remove(turn)
                self._admit()
            raise

    def leave(self, limit: int = EVERYBODY) -> None:
        """Make room for the next."""
        self._inside.remove(limit)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and admits(self._inside, self._waiting[0].limit, self._capacity()):
            turn = self._waiting.popleft()
            self._inside.append(turn.limit)
            turn.admitted.set()
