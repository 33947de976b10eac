"""Connections for threads that read, beside the one thread that writes.

DuckDB gives every reader a consistent snapshot and holds up nobody for it, provided each thread has a connection of its
own. They are lent from here.

Always holds: what is lent sits in a READ ONLY transaction, so it sees one state of the ledger and can change nothing;
after `close` no reader is left.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

import duckdb

from p2pcap.errors import StoreError

READERS = 12
"""Connections there are: one more reader than that waits."""

OPERATOR_MEMORY = "256MB"
"""From here on a reader's sorts and joins go to disk. DuckDB takes it for a wish, not for a limit."""

MEMORY_IN_USE = """
SELECT coalesce(sum(memory_usage_bytes) FILTER (tag = 'ALLOCATOR'), 0), coalesce(sum(memory_usage_bytes), 0)
FROM duckdb_memory() WHERE tag <> 'BASE_TABLE'
"""


class Lender(Protocol):
    """Who lends connections to readers."""

    def lend(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection in a READ ONLY transaction, for this thread alone. Raises StoreError."""

    def memory(self) -> tuple[int, int]:
        """Bytes that DuckDB holds beside its cache of the file: those it cannot move to disk, and all of them."""


class Readers:
    """Lends connections that are duplicates of `connection`; any thread may ask.

    Once they are made, no setting of the database can be changed any more, by nobody.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._idle = [connection.cursor() for _ in range(READERS)]
        for cursor in self._idle:
            cursor.execute(f"SET operator_memory_limit = '{OPERATOR_MEMORY}'")
        connection.execute("SET lock_configuration = true")
        self._watching = connection.cursor()
        self._lent: set[duckdb.DuckDBPyConnection] = set()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in a READ ONLY transaction, for this thread alone. Raises StoreError after `close`."""
        cursor = self._take()
        try:
            with store_errors():  # `close` may interrupt this very statement
                cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        finally:
            with suppress(duckdb.Error):  # an error may have ended the transaction
                cursor.rollback()
            self._give_back(cursor)

    @contextmanager
    def hold(self) -> Iterator["Held"]:
        """One state of the ledger, while the block lasts, for as many readings as one wants. Raises StoreError."""
        with self.lend() as cursor:
            held = Held(self, cursor)
            try:
                yield held
            finally:
                held.close()

    def memory(self) -> tuple[int, int]:
        """Bytes that DuckDB holds beside its cache of the file: those it cannot move to disk, and all of them."""
        with self._changed:
            try:
                row = self._watching.execute(MEMORY_IN_USE).fetchone()
            except duckdb.OutOfMemoryException:  # not even enough to count
                return sys.maxsize, sys.maxsize
        return (int(row[0]), int(row[1])) if row else (0, 0)

    @property
    def closed(self) -> bool:
        """Whether nothing is lent any more."""
        return self._closed

    def close(self) -> None:
        """Lend no more, break off what runs, and wait until every reader has given its connection back."""
        with self._changed:
            self._closed = True
            while self._lent:
                for cursor in self._lent:
                    cursor.interrupt()
                self._changed.wait(timeout=0.1)  # an interrupt between two statements of a reader is lost
            for cursor in (*self._idle, self._watching):
                cursor.close()
            self._idle.clear()

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise StoreError("The database was closed: the node stops, or takes up a new root. Ask again.")
            cursor = self._idle.pop()
            self._lent.add(cursor)
            self._changed.notify_all()
            return cursor

    def _give_back(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._changed:
            self._lent.discard(cursor)
            self._idle.append(cursor)
            self._changed.notify_all()


class Held:
    """One state of the ledger, lent to one reader after the other. An error in one reading may end it for all."""

    def __init__(self, readers: Readers, cursor: duckdb.DuckDBPyConnection) -> None:
        self._readers = readers
        self._cursor: duckdb.DuckDBPyConnection | None = cursor
        self._turn = threading.Lock()

    @contextmanager
    def lend(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The connection, when the one before has given it back. Raises StoreError after `close`."""
        with self._turn:
            if self._cursor is None:
                raise StoreError("The node does not hold that state of its tables any more. Ask again.")
            yield self._cursor

    @property
    def busy(self) -> bool:
        """Whether it is lent."""
        return self._turn.locked()

    def memory(self) -> tuple[int, int]:
        """As that of all readers."""
        return self._readers.memory()

    def close(self) -> None:
        """Lend no more, once what is lent is given back."""
        with self._turn:
            self._cursor = None


@contextmanager
def store_errors() -> Iterator[None]:
    """DuckDB's errors of our own look-ups as StoreError."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise StoreError("The reading was broken off: the node stops, or takes up a new root. Ask again.") from error
    except duckdb.Error as error:
        what = str(error).splitlines()[0].rstrip(".")
        raise StoreError(f"The database cannot be read: {what}. Start the node again.") from error
