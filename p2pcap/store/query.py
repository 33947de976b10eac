"""SQL from people: one SELECT, read-only, bounded in time and rows.

That DuckDB calls a statement a SELECT is not enough (`WITH x AS (DELETE …) SELECT …` is one), so it also runs in a READ
ONLY transaction; and the connection reaches no file and no network (p2pcap.store.database). The same function serves a
running node, on a thread and a connection of its own, and the file of one that is not running.

Always holds: what is not one SELECT is never run; rows are streamed, so a result needs no memory for the whole of it.
"""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from p2pcap.errors import QueryError, StoreError
from p2pcap.store.interrupt import Interrupt
from p2pcap.store.readers import Readers

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


@dataclass
class Selection:
    """A running query: the columns, and the rows as one goes through it. `truncated`: the row limit cut it short."""

    schema: Any
    _reader: Any
    _limits: Limits
    _deadline: float
    rows: int = field(default=0, init=False)
    truncated: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Any]:
        """The result as Arrow record batches. Raises QueryError when it fails or runs too long."""
        with _explained(self._limits):
            for batch in self._reader:
                if time.monotonic() > self._deadline:
                    raise QueryError(_too_long(self._limits))
                room = self._limits.rows - self.rows
                self.truncated = batch.num_rows > room
                part = batch.slice(0, room)
                self.rows += part.num_rows
                if part.num_rows:
                    yield part
                if self.truncated:
                    return


@contextmanager
def select(readers: Readers, sql: str, limits: Limits, interrupt: Interrupt | None = None) -> Iterator[Selection]:
    """Run `sql` and read its result while the block lasts, all on the calling thread. `interrupt` breaks it off.

    Raises QueryError for anything but one SELECT, and with DuckDB's own words for one that does not run.
    """
    with _explained(limits), readers.lend(interrupt) as cursor:
        _check(cursor, sql)
        with _time_limit(cursor, limits.seconds):
            reader = cursor.sql(sql).to_arrow_reader(BATCH_ROWS)
            try:
                yield Selection(reader.schema, reader, limits, time.monotonic() + limits.seconds)
            finally:
                reader.close()


def _check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    if len(sql) > MAX_SQL:
        raise QueryError(f"The query is longer than {MAX_SQL} characters. Shorten it.")
    statements = cursor.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError("Only one SELECT statement at a time can be run. The table to select from is called captions.")


@contextmanager
def _time_limit(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _explained(limits: Limits) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryError(_too_long(limits)) from error
    except BROKEN as error:
        raise StoreError(f"The database cannot be read: {str(error).splitlines()[0]}") from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryError(f"The query does not run. {error}") from error


def _too_long(limits: Limits) -> str:
    return f"The query was stopped after {limits.seconds:g} s. Ask for less, or allow more time with --seconds."


def arrow_stream(selection: Selection) -> Iterator[bytes]:
    """The result as the bytes of one Arrow IPC stream, in parts as they come."""
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
