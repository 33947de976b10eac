"""Changing the ledger and its database together, and telling waiting tasks of it."""

import trio


class Change:
    """`tell()` wakes every task that is in `wait()` at that moment. Nothing is remembered: look first, then wait.

    Whoever works out writes from the ledger, commits them and then adds them to the ledger holds `turn` from the first
    to the last: so what was worked out is still true when it is on disk.
    """

    def __init__(self) -> None:
        self.turn = trio.Lock()
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
