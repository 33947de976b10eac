"""Opening the database file: one process writes it, or several read it while nobody writes.

Always holds: a connection made here cannot reach any other file or the network (docs/sql.md tells what that means for
queries), and its settings cannot be changed by SQL.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from p2pcap import __version__
from p2pcap.errors import StoreError
from p2pcap.store import migrations, schema
from p2pcap.store.readers import Readers

MEMORY = "1GB"
"""DuckDB would take 80 % of the machine, which on a volunteer's belongs to the volunteer and the model."""

CHECKPOINT_AT = "512MB"
"""Log size at which DuckDB writes the log back by itself. With its own 16 MB, commits stall for up to seconds."""

HEADERS = 3 * 4_096
"""Bytes before the first block of a DuckDB file."""

DAMAGE = ("not a valid DuckDB database", "Corrupt", "Could not read enough bytes", "checksum")
FULL = ("No space left", "File too large", "Could not write")
"""What DuckDB says of a file that is damaged or cut short, and of a full disk."""

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY,
    "threads": 2,
    "wal_autocheckpoint": CHECKPOINT_AT,
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def connect_writer(path: Path) -> duckdb.DuckDBPyConnection:
    """The file opened for writing, made if there is none, brought up to date if it is older. Raises StoreError: in use,
    damaged, of a newer version, no room on the disk. A file that is refused is not changed."""
    _prepare(path)
    connection = _open(path)
    found = _version(connection, path)
    if found == schema.SCHEMA:
        return connection
    connection.close()  # writes its log into the file; and only a file that nobody has open can be copied
    copy = migrations.keep_copy(path, found)
    connection = _open(path)
    with _abandoned_on_error(connection, path, f" What it held before is in {copy.name}."):
        migrations.migrate(connection, _version(connection, path), __version__)
    return connection


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    """The file opened for writing, with its tables made if it is new."""
    connection = _connect(path, read_only=False)
    with _abandoned_on_error(connection, path):
        if not schema.exists(connection):
            schema.create(connection, __version__)
    return connection


def _version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The file's schema. Raises StoreError for one that this program cannot use, and leaves the file alone then."""
    with _abandoned_on_error(connection, path):
        _check_length(connection, path)
        return schema.version(connection, str(path))


def _check_length(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Whether the file is as long as it must be. DuckDB would notice when it first reads what is not there.

    It cuts free blocks off the end after it has written how many blocks there are, so these may be missing.
    """
    row = connection.execute("SELECT total_blocks - free_blocks, block_size FROM pragma_database_size()").fetchone()
    if row is not None and path.stat().st_size < HEADERS + row[0] * row[1]:
        raise StoreError(_damaged(path))


@contextmanager
def _abandoned_on_error(connection: duckdb.DuckDBPyConnection, path: Path, note: str = "") -> Iterator[None]:
    """Abandon the connection when the block fails. Raises StoreError for DuckDB's errors; `note` ends its message."""
    try:
        yield
    except duckdb.Error as error:
        abandon(connection)
        raise StoreError(unusable(path, str(error)) + note) from error
    except BaseException:
        abandon(connection)
        raise


def abandon(connection: duckdb.DuckDBPyConnection) -> None:
    """Close the connection of a file that cannot be used, without writing to it."""
    with suppress(duckdb.Error):  # of a database that an error has shut down
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.close()


@contextmanager
def reading(path: Path, memory: str = MEMORY) -> Iterator[Readers]:
    """Readers of the file of a node that is not running, while the block lasts; they may take so much memory. Raises
    StoreError."""
    connection = _connect_reader(path, memory)
    readers = Readers(connection)
    try:
        yield readers
    finally:
        readers.close()
        connection.close()


def _connect_reader(path: Path, memory: str) -> duckdb.DuckDBPyConnection:
    try:
        path.stat()
    except FileNotFoundError as error:
        raise StoreError(f"There is no database at {path}. Name the folder of a node that has run before.") from error
    except OSError as error:
        raise StoreError(_unopened(path, error.strerror)) from error
    connection = _connect(path, read_only=True, memory=memory)
    if _version(connection, path) < schema.SCHEMA:
        connection.close()
        raise StoreError(f"{path} was written by an older p2pcap. Start its node once: that brings it up to date.")
    return connection


def _connect(path: Path, *, read_only: bool, memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(path, read_only=read_only, config=SETTINGS | {"memory_limit": memory})
    except duckdb.Error as error:
        raise StoreError(unusable(path, str(error))) from error


def unusable(path: Path, message: str) -> str:
    """What DuckDB's `message` means to the user, and what to do."""
    if holder := re.search(r"\(PID (\d+)\)", message):
        return f"{path} is in use by process {holder[1]}. Stop that node first (p2pcap stop), or choose another folder."
    if any(sign in message for sign in DAMAGE):
        return _damaged(path)
    if any(sign in message for sign in FULL):
        return f"{path} cannot be written: {_first_line(message)}. See that the disk has room, then start again."
    return _unopened(path, _first_line(message))


def _damaged(path: Path) -> str:
    return f"{path} is damaged, or no database. Move it away; peers send its contents again."


def _first_line(message: str) -> str:
    return message.splitlines()[0].rstrip(".")


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
