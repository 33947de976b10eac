"""Peers of other projects that are connected for the hash table's sake only.

A node parts with whoever is of another project as soon as it knows. With the hash table on, such a peer may stay until
its questions are asked, or ours to it are answered.

Always holds: at most GUESTS at a time; one leaves when it has been silent for GUEST_SECONDS, and sooner when it was we
who came to ask and have the answer, or when another needs the place.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

GUESTS = 8
GUEST_SECONDS = 15.0
MANNERS_SECONDS = 2.0
"""A guest silent for so long makes room for another."""


class Guests:
    """The guests of one node. `connected` says whether a peer is, `close` closes the connections with one."""

    def __init__(self, connected: Callable[[str], bool], close: Callable[[str], Awaitable[None]]) -> None:
        self._connected = connected
        self._close = close
        self._heard: dict[str, float] = {}
        self._leaving: list[str] = []
        self._dialled: set[str] = set()
        self._asking: Counter[str] = Counter()
        self._news = trio.Event()

    def __len__(self) -> int:
        return len(self._heard)

    def admit(self, peer: str) -> bool:
        """Whether `peer`, which proved to be of another project, may stay; it is closed by `run` then."""
        self._heard = {guest: at for guest, at in self._heard.items() if self._connected(guest)}
        if peer in self._dialled and not self._asking[peer]:
            return False  # it has answered already
        if len(self._heard) >= GUESTS and not self._make_room():
            return False
        self._heard[peer] = trio.current_time()
        self._wake()
        return True

    def heard(self, peer: str) -> None:
        """`peer` asked something."""
        if peer in self._heard:
            self._heard[peer] = trio.current_time()

    @asynccontextmanager
    async def asking(self, peer: str) -> AsyncIterator[None]:
        """Inside the block we want something of `peer`; afterwards it goes if we dialled it for that."""
        self._asking[peer] += 1
        try:
            yield
        finally:
            self._asking -= Counter([peer])
            self._dialled = {other for other in self._dialled if self._connected(other)}
            if peer in self._dialled and peer in self._heard and not self._asking[peer]:
                self._send_off(peer)

    def dialled(self, peer: str) -> None:
        """We connected to `peer` to ask it something."""
        self._dialled.add(peer)

    async def run(self) -> None:
        """Close the connections of guests that have to go, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                for peer in [peer for peer, at in self._heard.items() if now - at >= GUEST_SECONDS]:
                    self._send_off(peer)
                while self._leaving:
                    nursery.start_soon(self._close, self._leaving.pop())
                with trio.move_on_at(min(self._heard.values(), default=float("inf")) + GUEST_SECONDS):
                    await self._news.wait()

    def _make_room(self) -> bool:
        silent = min(self._heard, key=lambda guest: self._heard[guest])
        if trio.current_time() - self._heard[silent] < MANNERS_SECONDS:
            return False
        self._send_off(silent)
        return True

    def _send_off(self, peer: str) -> None:
        del self._heard[peer]
        self._leaving.append(peer)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()
