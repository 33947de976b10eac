"""What the readers and planners of sources need of files, wherever they are: sizes, ranges, whole images.

`p2pcap.sources.open_files` fills it in: the data folder from disk, Hub and web with httpx2 under trio.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, Protocol

from p2pcap.sources.locations import Location

MAX_PART = 64 * 1024 * 1024
"""Bytes that `Files.read` returns at most; more is saved to a file."""

Reserve = Callable[[int], Awaitable[None]]
"""Waits until there is room for so many bytes."""


class Files(Protocol):
    """Files by location. Everything here has deadlines, and tries again what may pass.

    Raises SourceGone, SourceDenied, SourceUnavailable, or SourceError (also for a full disk).
    """

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
        the room that it needs before any of it is read; it may be asked once for each try.

        Raises ImageError when it will never be had, ImageUnavailable when it may be had later, SourceDenied when this
        machine may not read it, SourceError for a fault of this machine.
        """
