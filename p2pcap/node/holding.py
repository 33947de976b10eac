"""States of the ledger that the control socket's clients have a node hold, so that several readings say the same.

DuckDB keeps what an old state needs for as long as somebody reads it, so it is held for those who use it, and not for
many at a time.

Always holds: a state is let go when its client hangs up, when nobody has read it for IDLE seconds, or when the database
is closed, which waits for that. A reading of it
that nobody wants any more ends with the next rows it makes: to interrupt it would end the state for the others.
"""

import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from p2pcap.errors import QueryError
from p2pcap.store.readers import Held, Lender, Readers

MAX_HELD = 4
"""States at one time; each takes one of the readers there are."""

IDLE, LOOKS = 600.0, 120
"""Seconds after which a state that nobody reads is let go; how often one looks in that time whether somebody does."""


@dataclass
class _State:
    """`stop` breaks off its readings; `read` is when one was last seen to run, in seconds of the monotonic clock."""

    held: Held
    read: float
    stop: threading.Event = field(default_factory=threading.Event)


class Holding:
    """The states that are held, by their names. `readers` gives those of the database that is open now: a new root
    closes one and opens another."""

    def __init__(self, readers: Callable[[], Readers]) -> None:
        self._readers = readers
        self._states: dict[str, _State] = {}
        self._places = MAX_HELD

    @asynccontextmanager
    async def new(self) -> AsyncIterator[str]:
        """Hold the state of now, and name it. Raises QueryError where there are too many, StoreError."""
        if not self._places:
            raise QueryError(f"The node answers {MAX_HELD} exports already. Wait until one of them has ended.")
        self._places -= 1
        holding, name = self._readers().hold(), secrets.token_hex(8)
        try:
            state = _State(await trio.to_thread.run_sync(holding.__enter__), time.monotonic())
            self._states[name] = state
            try:
                yield name
            finally:
                del self._states[name]
                state.stop.set()
                with trio.CancelScope(shield=True):  # a reading that was told to stop soon does
                    await trio.to_thread.run_sync(holding.__exit__, None, None, None)
        finally:
            self._places += 1

    async def used(self, name: str) -> None:
        """Returns when nobody has read the state for IDLE seconds, or its database is to be closed."""
        state, readers = self._states[name], self._readers()
        while (now := time.monotonic()) < state.read + IDLE and not readers.closed:
            if state.held.busy:
                state.read = now
            await trio.sleep(IDLE / LOOKS)

    @contextmanager
    def lent(self, name: str, stop: threading.Event) -> Iterator[tuple[Lender, threading.Event]]:
        """Whom to read from, and what breaks the reading off; for the state of that name, or where there is no name for
        the newest one. Raises QueryError when the state is not held."""
        if not name:
            yield self._readers(), stop
            return
        state = self._states.get(name)
        if state is None:
            raise QueryError("The node does not hold that state of its tables any more. Export again.")
        state.read = time.monotonic()
        yield state.held, state.stop
