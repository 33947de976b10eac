"""What the readers and planners of sources need of files, wherever they are: sizes, ranges, whole images.

`p2pcap.sources.open_files` fills it in: the data folder from disk, Hub and web with httpx2 under trio.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, Protocol

from p2pcap.sources.locations import Location
from p2pcap.sources.room import Room

MAX_PART = 64 * 1024 * 1024
"""Bytes that `Files.read` returns at most; more is saved to a file."""


class Reserve(Protocol):
    """Waits until there is room for so many bytes of an image."""

    async def __call__(self, size: int, whole: int = 0, /) -> None:
        """Room for `size` bytes in all; `whole`: how many are expected in the end, where that is known. With 0, what
        came is given up; that does not wait."""


class Files(Protocol):
    """Files by location. Everything here has deadlines, and tries again what may pass. `room` is shared by all who read
    images from these.

    Raises SourceGone, SourceDenied, SourceUnavailable, or SourceError (also for a full disk).
    """

    room: Room

    async def size(self, location: Location) -> int:
        """The file's bytes."""

    async def read(self, location: Location, start: int, length: int) -> bytes:
        """Exactly these bytes, at most MAX_PART of them: a footer, an index."""

    async def save(self, location: Location, start: int, length: int, file: BinaryIO) -> None:
        """Append exactly these bytes to `file`. What breaks off goes on where it stopped; a file that has changed
        meanwhile raises SourceGone. Memory does not grow with `length`."""

    def stream(self, location: Location, start: int, length: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Exactly these bytes, in parts of at most 1 MiB, as they come; goes on where it broke off."""

    async def image(self, location: Location, limit: int, reserve: Reserve | None = None) -> bytes:
        """A whole image file of at most `limit` bytes, by the rules for strangers' addresses. `reserve` is asked for
        room as the image comes, before each step; in each try anew.

        Raises ImageError when it will never be had, ImageUnavailable when it may be had later, ImageResting when
        whoever has it is left alone and was not asked for it, SourceDenied when this machine may not read it,
        SourceError for a fault of this machine.
        """
