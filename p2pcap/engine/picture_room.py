"""Room for decoded pictures, so that a dataset of huge images does not fill the memory.

A picture stays until its last prompt is answered. A file of 300 kB may hold 360 MB of pixels, and dozens of images are
in hand; so whoever wants to decode one waits while those that are there take too much.

Always holds: who came first decodes first. The pixels held are at most `pixels`, and beyond that what `at_once` images
have that were let in before.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from PIL import Image

from p2pcap.engine.device import machine_memory
from p2pcap.engine.images import MAX_PIXELS

BYTES_PER_PIXEL = 3
SHARE = 8
"""One part in so many of the machine's memory is for pictures."""


class PictureRoom:
    """The room of one engine: for `pixels` that are held, and for `at_once` images that are being decoded."""

    def __init__(self, pixels: int, at_once: int) -> None:
        self._pixels = pixels
        self._at_once = at_once
        self._held = 0
        self._decoding = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def place(self) -> AsyncIterator["Place"]:
        """A place for one picture; it is free again at the end of the block."""
        await self._enter()
        place = Place(self)
        try:
            yield place
        finally:
            place.leave()

    async def _enter(self) -> None:
        if not self._waiting and self._admits():
            self._decoding += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._decoding -= 1
            self._admit()
            raise

    def _admits(self) -> bool:
        return self._decoding < self._at_once and self._held < self._pixels

    def _admit(self) -> None:
        while self._waiting and self._admits():
            turn = self._waiting.popleft()
            if not turn.done():
                self._decoding += 1
                turn.set_result(None)

    def _change(self, decoding: int, held: int) -> None:
        self._decoding += decoding
        self._held += held
        self._admit()


class Place:
    """Of one picture: first it is being decoded, then it is there, then it is gone."""

    def __init__(self, room: PictureRoom) -> None:
        self._room = room
        self._size = -1

    def decoded(self, picture: Image.Image) -> None:
        """The picture is there."""
        self._size = picture.width * picture.height
        self._room._change(-1, self._size)

    def leave(self) -> None:
        """It is needed no more, or will not come."""
        if self._size < 0:
            self._room._change(-1, 0)
        else:
            self._room._change(0, -self._size)


def room_here(decoders: int) -> PictureRoom:
    """The room on this machine: two of the largest pictures at least."""
    return PictureRoom(max(2 * MAX_PIXELS, int(machine_memory() / SHARE / BYTES_PER_PIXEL)), 2 * decoders)
