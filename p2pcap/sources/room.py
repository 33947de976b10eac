"""The memory that images may take which each have an address: on their way, or waiting for whoever takes them.

All reads of one `Files` share it. A read holds at most as much as it leaves free, half of it when it is alone: so one
that nobody takes from leaves room to the next. An image takes what has come of it, step by step; only at its beginning,
when most images come at once, it counts for a little more, so that many do not begin that find no room to end in.

Always holds: the oldest image of each read goes on without waiting, so that no read waits for ever, neither for itself
nor for another; all others together have at most SIZE bytes.
"""

import math
from collections import OrderedDict
from typing import Self

import trio

SIZE = 80 * 1024 * 1024
"""Bytes. With images of 32 MiB, the oldest of two reads and what both may hold beside it have 124 MiB."""

HOPED, YOUNG = 4 * 1024 * 1024, 5.0
"""An image counts for at least this many bytes, if it is so large, for so many seconds from its beginning."""

LOOK = 1.0
"""Seconds between two looks at which images are not young any more, while somebody waits for room."""


class Room:
    """Room for `size` bytes, but for the oldest image of each read."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._parts: set[Part] = set()
        self._freed = trio.Event()
        self._looked = -math.inf

    @property
    def left(self) -> int:
        """Bytes that nothing counts for."""
        return self._size - sum(part.shared for part in self._parts)

    def open(self) -> "Part":
        """The part of one read, which opens now."""
        part = Part(self)
        self._parts.add(part)
        return part

    def close(self, part: "Part") -> None:
        """This read has ended."""
        self._parts.remove(part)
        self.tell()

    def tell(self) -> None:
        """Something is free again."""
        self._freed.set()
        self._freed = trio.Event()

    async def wait(self) -> None:
        """Return when something is free again, or may be, as images are not young for ever."""
        with trio.move_on_after(LOOK):
            await self._freed.wait()
        if trio.current_time() >= self._looked + LOOK:
            self._looked = trio.current_time()
            for part in self._parts:
                part.grow_old()


class Part:
    """What one read takes of the room; its images, oldest first. A context manager: it ends with the read."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.counted = 0
        self.shares: OrderedDict[Share, None] = OrderedDict()

    @property
    def oldest(self) -> "Share | None":
        """The image that goes on without waiting."""
        return next(iter(self.shares), None)

    @property
    def shared(self) -> int:
        """Bytes that its other images count for."""
        return self.counted - (self.oldest.counted if self.oldest is not None else 0)

    async def begin(self) -> None:
        """Wait until another image may be asked for: while the read has half of what it may have, those on their way
        find room, and their servers need not wait for us."""
        while 2 * self.shared > self.room.left:
            await self.room.wait()

    def fits(self, size: int) -> bool:
        """Whether there are so many more bytes for this read."""
        return self.shared + size <= self.room.left - size

    def grow_old(self) -> None:
        """Let images that began long ago count for no more than what has come."""
        now = trio.current_time()
        for share in self.shares:
            if now >= share.young_until:
                share.count(share.taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.room.close(self)


class Share:
    """What one image takes: `taken` bytes have come, or may come now; it counts for `counted`."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.taken = 0
        self.counted = 0
        self.young_until = 0.0

    async def take(self, size: int, whole: int = 0) -> None:
        """Have room for `size` bytes in all, of `whole` that are expected. Waits for it when that is more than before,
        with what it has in hand."""
        if size < self.taken or not size:
            self.keep(size)
            return
        hoped = 0 if self in self._part.shares else min(whole, HOPED)
        self._part.shares.setdefault(self)
        while not self._may_count(max(size, hoped)):
            await self._part.room.wait()
        if not self.counted:
            self.young_until = trio.current_time() + YOUNG
        self.taken = size
        self.count(max(size, hoped, self.counted))

    def _may_count(self, size: int) -> bool:
        return self is self._part.oldest or size <= self.counted or self._part.fits(size - self.counted)

    def keep(self, size: int) -> None:
        """All has come, and has `size` bytes; with 0, nothing is left of it."""
        if size:
            self._part.shares.setdefault(self)
        self.taken, self.young_until = size, 0.0
        self.count(size)
        if not size:
            self._part.shares.pop(self, None)
        self._part.room.tell()

    def count(self, size: int) -> None:
        """Count for `size` bytes."""
        self._part.counted += size - self.counted
        self.counted = size
