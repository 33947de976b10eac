"""Requests that wait for their turn, bounded in all by the memory they take.

Each peer has but so many streams, and peers are many. When too much waits, the peer that asked for the most waits for
the least: whoever fills the memory does so at the cost of its own requests.

Always holds: the requests that wait take no more than `most` bytes together; what is refused is the newest request of
the peer whose requests take the most.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from p2pcap.errors import SwarmError


class Crowded(SwarmError):
    """Too much waits, and most of it comes from this peer."""


@dataclass(eq=False)
class Waiting:
    """One request that waits. `scope` ends its waiting."""

    size: int
    scope: trio.CancelScope


class Backlog:
    """The waiting requests of all peers, oldest first, of at most `most` bytes together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, list[Waiting]] = {}
        self._sizes: dict[str, int] = {}
        self._total = 0

    @contextmanager
    def wait(self, peer: str, size: int) -> Iterator[Waiting]:
        """Count a request of `peer` that takes `size` bytes, until `done` or the end of the block.

        Raises Crowded, at a checkpoint of the block, when it is refused for the sake of others.
        """
        with trio.CancelScope() as scope:
            waiting = Waiting(size, scope)
            self._add(peer, waiting)
            try:
                yield waiting
            finally:
                self.done(peer, waiting)
        if scope.cancelled_caught:
            raise Crowded("Too many requests wait here, and most of them are yours. Ask again later, for less.")

    def done(self, peer: str, waiting: Waiting) -> None:
        """It waits no more, and can be refused no more."""
        if waiting in self._of.get(peer, ()):
            self._of[peer].remove(waiting)
            self._sizes[peer] -= waiting.size
            self._total -= waiting.size
            if not self._of[peer]:
                del self._of[peer], self._sizes[peer]

    def _add(self, peer: str, waiting: Waiting) -> None:
        self._of.setdefault(peer, []).append(waiting)
        self._sizes[peer] = self._sizes.get(peer, 0) + waiting.size
        self._total += waiting.size
        while self._total > self._most:
            greediest = max(self._sizes, key=self._sizes.__getitem__)
            newest = self._of[greediest][-1]
            self.done(greediest, newest)
            newest.scope.cancel()
