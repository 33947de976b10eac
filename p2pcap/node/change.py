"""Telling waiting tasks that something changed."""

import trio


class Change:
    """`tell()` wakes every task that is in `wait()` at that moment. Nothing is remembered: look first, then wait."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self.count = 0

    def tell(self) -> None:
        """Something changed."""
        self.count += 1
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return at the next `tell()`."""
        await self._event.wait()
