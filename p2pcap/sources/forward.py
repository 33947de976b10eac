"""A range of a file that is read once, from front to back, as it streams in.

Always holds: no more is held than what is taken at once, and the one part that came last.
"""

import io
from collections.abc import AsyncIterator, Callable

from p2pcap.errors import SourceGone


class Forward:
    """The bytes of a file from byte `at` on; `at` moves with what is read."""

    def __init__(self, parts: AsyncIterator[bytes], at: int) -> None:
        self._parts = parts
        self._part = memoryview(b"")
        self.at = at

    async def skip_to(self, start: int) -> None:
        """Let everything before byte `start` of the file pass."""
        await self.hand(start - self.at, _drop)

    async def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        taken = io.BytesIO()
        await self.hand(length, taken.write)
        return taken.getvalue()

    async def hand(self, length: int, sink: Callable[[memoryview], object]) -> None:
        """Give the next `length` bytes to `sink`, as they come. Raises SourceGone when the stream ends before."""
        while length > 0:
            if not self._part:
                part = await anext(self._parts, None)
                if part is None:
                    raise SourceGone("The file is shorter than was planned.")
                self._part = memoryview(part)
            passing, self._part = self._part[:length], self._part[length:]
            sink(passing)
            self.at += len(passing)
            length -= len(passing)


def _drop(part: memoryview) -> None:
    """Nobody wants it."""
