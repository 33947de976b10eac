"""SQL from people: one SELECT, read-only, bounded in time and rows.

That DuckDB calls a statement a SELECT is not enough (`WITH x AS (DELETE …) SELECT …` is one), so it also runs in a READ
ONLY transaction; and the connection reaches no file and no network (p2pcap.store.database). The same function serves a
running node, on a thread and a connection of its own, and the file of one that is not running.

Always holds: what is not one SELECT is never run; rows are streamed, so a result needs no memory for the whole of it.
Only here a node needs pyarrow, so it is imported when the first query comes: a coordinator can do without.
"""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import duckdb

from p2pcap.errors import QueryError, StoreError
from p2pcap.store.guard import BROKEN_OFF, TOO_MUCH_MEMORY, Guard
from p2pcap.store.present import Peer, show
from p2pcap.store.readers import Lender

BATCH_ROWS = 1_024
"""Rows in one record batch."""

MAX_SQL = 65_536
"""Characters of a query."""

BROKEN = (duckdb.FatalException, duckdb.InternalException, duckdb.IOException)
"""Errors that are the database's, not the query's."""


@dataclass(frozen=True)
class Limits:
    """What a query may use: rows of its result, and seconds until the last of them is read."""

    rows: int = 1_000_000
    seconds: float = 60.0


class Rows(Protocol):
    """Rows on their way: Arrow schema and record batches."""

    schema: Any

    def __iter__(self) -> Iterator[Any]:
        """The batches."""


@dataclass
class Selection:
    """A running query: the columns, and the rows as one goes through it. `truncated`: the row limit cut it short."""

    schema: Any
    _reader: Any
    _guard: Guard
    _limit: int
    rows: int = field(default=0, init=False)
    truncated: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Any]:
        """The result as Arrow record batches. Raises QueryError when it fails or is broken off."""
        with explained(self._guard):
            for batch in self._reader:
                if self._guard.reason:
                    raise QueryError(self._guard.reason)
                room = self._limit - self.rows
                self.truncated = batch.num_rows > room
                part = batch.slice(0, room)
                self.rows += part.num_rows
                if part.num_rows:
                    yield part
                if self.truncated:
                    return


@contextmanager
def select(
    readers: Lender, sql: str, limits: Limits, stop: threading.Event | None = None, peers: Sequence[Peer] = ()
) -> Iterator[Selection]:
    """Run `sql` and read its result while the block lasts, all on the calling thread. Setting `stop` breaks it off.
    `peers` are what the table of that name has.

    Raises QueryError for anything but one SELECT, and with DuckDB's own words for one that does not run.
    """
    with (
        readers.lend() as cursor,
        Guard(readers, cursor, limits.seconds, stop or threading.Event()) as guard,
    ):
        with explained(guard):
            check(cursor, sql)
            show(cursor, peers)
            reader = cursor.sql(sql).to_arrow_reader(BATCH_ROWS)
        try:
            yield Selection(reader.schema, reader, guard, limits.rows)
        finally:
            reader.close()


def check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises QueryError for anything but one SELECT."""
    if len(sql) > MAX_SQL:
        raise QueryError(f"The query is longer than {MAX_SQL} characters. Shorten it.")
    statements = cursor.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError("Only one SELECT statement at a time can be run. The table to select from is called captions.")


@contextmanager
def explained(guard: Guard) -> Iterator[None]:
    """DuckDB's errors as ours. One that comes after the first rows comes through Arrow, as an OSError with its text."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise QueryError(f"{error.msg}. Queries need it; install it: pip install pyarrow") from error
    except (duckdb.Error, OSError) as error:
        text = str(error)
        if isinstance(error, BROKEN) and not guard.reason:
            raise StoreError(f"The database cannot be read: {text.splitlines()[0]}") from error
        if guard.reason or text.startswith("INTERRUPT"):
            raise QueryError(guard.reason or BROKEN_OFF) from error
        if text.startswith("Out of Memory"):
            raise QueryError(TOO_MUCH_MEMORY) from error
        raise QueryError(f"The query does not run. {text}") from error


def arrow_stream(selection: Rows) -> Iterator[bytes]:
    """The result as the bytes of one Arrow IPC stream, in parts as they come."""
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, selection.schema) as writer:
        for batch in selection:
            writer.write_batch(batch)
            yield _take(sink)
    yield _take(sink)


def _take(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data
