"""Who may have work done now: one place for each peer, and some more for those that want several.

Peers that take their answers slowly, or not at all, keep their places until their requests' deadlines. With a common
number of places for all, some of them lock everybody out.

Always holds: a peer that has no place gets one without waiting; no peer has more than `each`, and beyond the first ones
of all peers no more than `more` are given out.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Places:
    """Places for any number of peers; times of waiting are bounded by the caller."""

    def __init__(self, each: int, more: int) -> None:
        self._each = each
        self._more = more
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, trio.Event]] = []

    @asynccontextmanager
    async def place(self, peer: str) -> AsyncIterator[None]:
        """Hold a place inside the block; waits for one. Those of one peer are given in order of arrival."""
        await self._enter(peer)
        try:
            yield
        finally:
            self._leave(peer)

    async def _enter(self, peer: str) -> None:
        if self._free(peer):
            self._held[peer] += 1
            return
        ticket = peer, trio.Event()
        self._waiting.append(ticket)
        try:
            await ticket[1].wait()
        except trio.Cancelled:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                self._leave(peer)
            raise

    def _leave(self, peer: str) -> None:
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]
        for ticket in list(self._waiting):
            if self._free(ticket[0]):
                self._held[ticket[0]] += 1
                self._waiting.remove(ticket)
                ticket[1].set()

    def _free(self, peer: str) -> bool:
        held = self._held.get(peer, 0)
        beyond = self._held.total() - len(self._held)
        return not held or (held < self._each and beyond < self._more)
