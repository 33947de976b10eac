"""Which server gets the next question, and when. The shell around p2pcap.engine.pacing, on the engine's event loop.

Questions get places in the order they came in, each at the server that is least busy then. While no server has any,
they wait here: for an answer to another question, or for the time that a server has asked for.

Always holds: a place that was given out is given back, whatever becomes of the question.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from p2pcap.engine.pacing import Pace, choose, next_time
from p2pcap.errors import EngineDied

_Waiter = tuple["asyncio.Future[int]", frozenset[int]]


class Dispatch:
    """Places at the servers with these paces."""

    def __init__(self, paces: Sequence[Pace]) -> None:
        self._paces = paces
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Questions without a place."""
        return len(self._waiters)

    @asynccontextmanager
    async def place(self, without: frozenset[int]) -> AsyncIterator[int]:
        """The number of the server to ask now, none of `without`. Raises EngineDied when nobody is to be waited for."""
        number = await self._wait(without)
        try:
            yield number
        finally:
            self._paces[number].ended()
            self.admit()

    async def _wait(self, without: frozenset[int]) -> int:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, without))
        self.admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            if (waiter, without) in self._waiters:
                self._waiters.remove((waiter, without))
            elif not waiter.cancelled() and waiter.exception() is None:  # it got a place in the same turn of the loop
                self._paces[waiter.result()].ended()
                self.admit()
            raise

    def admit(self) -> None:
        """Give out the places there are. To be called whenever there may be more."""
        now = asyncio.get_running_loop().time()
        left: deque[_Waiter] = deque()
        while self._waiters and choose(self._paces, now) is not None:
            waiter, without = self._waiters.popleft()
            if waiter.done():
                continue
            number = choose(self._paces, now, without)
            if number is None:
                left.append((waiter, without))
            else:
                self._paces[number].begin(now)
                waiter.set_result(number)
        self._waiters.extendleft(reversed(left))
        self._set_timer(now)

    def give_up(self, error: EngineDied) -> None:
        """Nobody waits for a place any more: all that do get the error."""
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_exception(EngineDied(str(error)))

    def close(self) -> None:
        """Set no timer any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, now: float) -> None:
        self.close()
        when = next_time(self._paces, now) if self._waiters else math.inf
        self._timer = asyncio.get_running_loop().call_at(when, self.admit) if math.isfinite(when) else None
