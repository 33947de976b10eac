"""Opening the database file: one process writes it, or several read it while nobody writes.

Always holds: a connection made here cannot reach any other file or the network (docs/sql.md tells what that means for
queries), and its settings cannot be changed by SQL.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from p2pcap import __version__
from p2pcap.errors import StoreError
from p2pcap.store import schema
from p2pcap.store.readers import Readers

MEMORY = "1GB"
"""DuckDB would take 80 % of the machine, which on a volunteer's belongs to the volunteer and the model."""

CHECKPOINT_AT = "512MB"
"""Log size at which DuckDB writes the log back by itself. With its own 16 MB, commits stall for up to seconds."""

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY,
    "threads": 2,
    "wal_autocheckpoint": CHECKPOINT_AT,
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def connect_writer(path: Path) -> duckdb.DuckDBPyConnection:
    """The file opened for writing, made if there is none. Raises StoreError: in use, damaged, of another version."""
    _prepare(path)
    connection = _connect(path, read_only=False)
    try:
        if not schema.exists(connection):
            schema.create(connection, __version__)
        schema.check(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reading(path: Path) -> Iterator[Readers]:
    """Readers of the file of a node that is not running, while the block lasts. Raises StoreError."""
    connection = _connect_reader(path)
    readers = Readers(connection)
    try:
        yield readers
    finally:
        readers.close()
        connection.close()


def _connect_reader(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        path.stat()
    except FileNotFoundError as error:
        raise StoreError(f"There is no database at {path}. Name the folder of a node that has run before.") from error
    except OSError as error:
        raise StoreError(_unopened(path, error.strerror)) from error
    connection = _connect(path, read_only=True)
    try:
        schema.check(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(path, read_only=read_only, config=SETTINGS)
    except duckdb.Error as error:
        raise StoreError(unusable(path, str(error))) from error


def unusable(path: Path, message: str) -> str:
    """What DuckDB's `message` means to the user, and what to do."""
    if holder := re.search(r"\(PID (\d+)\)", message):
        return f"{path} is in use by process {holder[1]}. Stop that node first (p2pcap stop), or choose another folder."
    if "not a valid DuckDB database" in message or "Corrupt" in message:
        return f"{path} is damaged, or no database. Move it away; peers send its contents again."
    return _unopened(path, message.splitlines()[0].rstrip("."))


def _unopened(path: Path, why: str | None) -> str:
    return f"{path} cannot be opened: {why}. Check the folder and its owner."


def _prepare(path: Path) -> None:
    """Make the folder, for this user alone. Remove an empty file: a node killed in the instant after it made the file
    leaves one, and DuckDB does not take it for a new database."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
    except OSError as error:
        raise StoreError(_unopened(path, error.strerror)) from error
