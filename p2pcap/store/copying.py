"""A copy of a node's database, taken through a reader: consistent, and without holding up whoever writes.

The rows leave as Arrow, table by table, and stand in a new file with the same tables and views. So the node opens no
file for others, and a copy can be taken through its control socket.

Always holds: all tables are of one state of the ledger; the memory needed does not grow with them.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from p2pcap.errors import FrameError, StoreError
from p2pcap.store import schema
from p2pcap.store.database import MEMORY, unusable

WIDE_ROWS, ROWS = 16, 8_192
"""Rows that leave at one time: of the tables with bytes that may be megabytes each, and of the others."""

WIDE = frozenset({"batch", "blob", "statement"})

NAMES = "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary ORDER BY table_name"

Piece = tuple[str, bytes]
"""A table's name, and some of its rows as an Arrow IPC stream."""


def pieces(cursor: duckdb.DuckDBPyConnection) -> Iterator[Piece]:
    """All rows of all tables, in one transaction that the caller holds."""
    for (name,) in cursor.execute(NAMES).fetchall():
        reader = cursor.sql(f'SELECT * FROM "{name}"').to_arrow_reader(WIDE_ROWS if name in WIDE else ROWS)
        with reader:
            for batch in reader:
                yield name, _packed(batch)


def _packed(batch: Any) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def write_copy(path: Path, found: Iterable[Piece]) -> None:
    """Make a database of `found` at `path`, where nothing is. Raises StoreError, and FrameError for tables that are not
    this program's."""
    try:
        with duckdb.connect(path, config={"memory_limit": MEMORY, "threads": 2}) as connection:
            connection.begin()
            names = _make_tables(connection)
            for name, data in found:
                if name not in names:
                    raise FrameError("The node has tables that this program does not know. Use the same version.")
                _insert(connection, name, data)
            schema.views(connection)
            connection.commit()
    except duckdb.Error as error:
        raise StoreError(unusable(path, str(error))) from error


def _make_tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    for statement in connection.extract_statements(schema.TABLES):
        connection.execute(statement)
    return {name for (name,) in connection.execute(NAMES).fetchall()}


def _insert(connection: duckdb.DuckDBPyConnection, name: str, data: bytes) -> None:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        connection.register("arrived", stream.read_all())
    connection.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM arrived')
    connection.unregister("arrived")
