"""Connections for threads that read, beside the one thread that writes.

DuckDB gives every reader a consistent snapshot and holds up nobody for it, provided each thread has a connection of its
own. They are lent from here.

Always holds: what is lent sits in a READ ONLY transaction, so it sees one state of the ledger and can change nothing;
after `close` no reader is left.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb

from p2pcap.errors import StoreError
from p2pcap.store.interrupt import Interrupt

IDLE = 4
"""Connections kept for the next reader."""


class Readers:
    """Lends connections that are duplicates of `connection`; any thread may ask."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._lent: set[duckdb.DuckDBPyConnection] = set()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def lend(self, interrupt: Interrupt | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in a READ ONLY transaction, for this thread alone. Raises StoreError after `close`.

        `interrupt` breaks off what runs on it.
        """
        cursor = self._take()
        interrupt = interrupt or Interrupt()
        try:
            interrupt.attach(cursor)
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        finally:
            interrupt.attach(None)
            with suppress(duckdb.Error):  # an error may have ended the transaction
                cursor.rollback()
            self._give_back(cursor)

    def interrupt(self) -> None:
        """Break off whatever any reader is running."""
        with self._changed:
            for cursor in self._lent:
                cursor.interrupt()

    def close(self) -> None:
        """Lend no more, break off what runs, and wait until every reader has given its connection back."""
        with self._changed:
            self._closed = True
            while self._lent:
                for cursor in self._lent:
                    cursor.interrupt()
                self._changed.wait(timeout=0.1)  # an interrupt between two statements of a reader is lost
            for cursor in self._idle:
                cursor.close()
            self._idle.clear()

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._changed:
            if self._closed:
                raise StoreError("The database was closed because the node is stopping. Ask again when it runs.")
            cursor = self._idle.pop() if self._idle else self._connection.cursor()
            self._lent.add(cursor)
            self._changed.notify_all()
            return cursor

    def _give_back(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._changed:
            self._lent.discard(cursor)
            if len(self._idle) < IDLE and not self._closed:
                self._idle.append(cursor)
            else:
                cursor.close()
            self._changed.notify_all()


@contextmanager
def store_errors() -> Iterator[None]:
    """DuckDB's errors of our own look-ups as StoreError."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise StoreError("The reading was broken off because the node is stopping. Ask again when it runs.") from error
    except duckdb.Error as error:
        what = str(error).splitlines()[0].rstrip(".")
        raise StoreError(f"The database cannot be read: {what}. Start the node again.") from error
