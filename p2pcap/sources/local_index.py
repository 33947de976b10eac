"""Which of a project's images a local folder has: a small database beside the node's, which outlives a restart.

Always holds: it is no more than a note of what was seen once: lost or damaged, it is made again. It belongs to one
folder and one plan. Who asks never waits for what is being noted.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from p2pcap.errors import StoreError

SCHEMA = """
CREATE TABLE made_for (folder BLOB, plan BLOB);
CREATE TABLE chunk (number INTEGER PRIMARY KEY, found INTEGER, missing INTEGER);
CREATE TABLE image (prefix INTEGER, chunk INTEGER, place INTEGER, PRIMARY KEY (prefix, chunk, place)) WITHOUT ROWID;
"""
"""`prefix`: the first 8 bytes of the image's hash; the item list has the rest of it."""

DELETE = "DELETE FROM image WHERE prefix = ? AND chunk = ? AND place = ?"

Known = tuple[bytes, int]
"""The hash of an image, and its place in its chunk's list."""

SAME = 8
"""Places that are tried for an image that the dataset holds several times."""

log = structlog.get_logger()


class LocalIndex:
    """Where the images are that were found. Safe to use from several threads; to be closed.

    `folder` and `plan` name what it is made for. Raises StoreError when the disk refuses, now and later. Closed, it
    knows of nothing: while a node ends, somebody may still ask.
    """

    def __init__(self, path: Path, folder: bytes, plan: bytes) -> None:
        self._path = path
        self._closed = False
        self._noting, self._asking = threading.Lock(), threading.Lock()
        with self._errors(self._noting):
            self._notes = _kept(path, (folder, plan)) or _new(path, (folder, plan))
            self._answers = _connect(path)
            query = "SELECT ifnull(sum(found), 0) FROM chunk"
            self.images: int = self._answers.execute(query).fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        with self._noting, self._asking:
            self._closed = True
            self._answers.close()
            self._notes.close()

    def is_whole(self, chunk: int) -> bool:
        """Whether every image of the chunk was found."""
        with self._errors(self._asking):
            row = self._answers.execute("SELECT missing FROM chunk WHERE number = ?", (chunk,)).fetchone()
        return bool(row == (0,))

    def places(self, hash_: bytes) -> list[tuple[int, int]]:
        """Chunk and place of images that may have this hash."""
        query = "SELECT chunk, place FROM image WHERE prefix = ? LIMIT ?"
        with self._errors(self._asking):
            return [] if self._closed else self._answers.execute(query, (_prefix(hash_), SAME)).fetchall()

    def note(self, chunk: int, here: Sequence[Known], missing: Sequence[Known]) -> None:
        """Which images of `chunk` are here, and which are not."""
        rows = sorted(_row(chunk, known) for known in here)
        with self._errors(self._noting):
            with self._notes as notes:
                notes.execute("BEGIN")
                before = notes.execute("SELECT found FROM chunk WHERE number = ?", (chunk,)).fetchone()
                if before:
                    notes.executemany(DELETE, [_row(chunk, known) for known in missing])
                notes.executemany("INSERT OR IGNORE INTO image VALUES (?, ?, ?)", rows)
                notes.execute("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?)", (chunk, len(rows), len(missing)))
            self.images += len(rows) - (before[0] if before else 0)

    def forget(self, chunk: int, gone: Sequence[Known]) -> None:
        """These images of `chunk` are not here any more."""
        sums = "UPDATE chunk SET found = found - ?, missing = missing + ? WHERE number = ?"
        with self._errors(self._noting):
            if self._closed:
                return
            with self._notes as notes:
                notes.execute("BEGIN")
                count = notes.executemany(DELETE, [_row(chunk, known) for known in gone]).rowcount
                notes.execute(sums, (count, count, chunk))
            self.images -= count

    @contextmanager
    def _errors(self, lock: threading.Lock) -> Iterator[None]:
        with lock:
            try:
                yield
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"{self._path} cannot be used: {error}. See that there is room.") from error


def _kept(path: Path, made_for: tuple[bytes, bytes]) -> sqlite3.Connection | None:
    """The database that is there; None when it was made for another folder or plan, or is damaged."""
    if not path.exists():
        return None
    connection = _connect(path)
    try:
        _prepare(connection)
        if connection.execute("SELECT folder, plan FROM made_for").fetchall() == [made_for]:
            return connection
    except sqlite3.DatabaseError as error:
        log.info("local images are noted anew", reason=str(error))
    connection.close()
    return None


def _new(path: Path, made_for: tuple[bytes, bytes]) -> sqlite3.Connection:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    connection = _connect(path)
    try:
        _prepare(connection)
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO made_for VALUES (?, ?)", made_for)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, isolation_level=None)


def _prepare(connection: sqlite3.Connection) -> None:
    """Settings of the connection that writes: with a write-ahead log the file is whole after any crash."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _row(chunk: int, known: Known) -> tuple[int, int, int]:
    hash_, place = known
    return _prefix(hash_), chunk, place


def _prefix(hash_: bytes) -> int:
    return int.from_bytes(hash_[:8], "big", signed=True)
