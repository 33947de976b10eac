"""Rows out of a node's tables: from the node while it runs, and from its file when it does not.

Always holds: both give the same rows, as Arrow record batches that are never in memory all at a time.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from p2pcap.cli.nodes import Target
from p2pcap.errors import FrameError, P2pcapError, QueryError
from p2pcap.export.source import ALL_CHUNKS, Order, Source

if TYPE_CHECKING:
    from p2pcap.store.readers import Readers

MEMORY = "256MB"
"""What DuckDB may take for an export from a file, beside this program's own share."""

BUFFER = 1024 * 1024

ALL_ROWS, ALL_SECONDS = 10_000_000, 600.0
"""What a node gives for one query at most."""


class Rows(Protocol):
    """A query's result: Arrow schema and record batches; `truncated` is known at the end."""

    schema: Any
    truncated: bool

    def __iter__(self) -> Iterator[Any]:
        """The batches."""


@contextmanager
def run_query(target: Target, sql: str, rows: int, seconds: float) -> Iterator[Rows]:
    """The result of `sql`, from the node if it runs, and else from its file. Raises QueryError."""
    if target.running:
        from p2pcap.node.client import Client

        with Client(target.running.socket) as client:
            yield Streamed(client.query(sql, rows, seconds))
        return
    from p2pcap.store.database import reading
    from p2pcap.store.query import Limits, select

    with reading(target.paths.database) as readers, select(readers, sql, Limits(rows, seconds)) as selection:
        yield selection


@contextmanager
def open_source(target: Target) -> Iterator[Source]:
    """The node's tables as exports read them, while the block lasts."""
    if target.running:
        yield _RunningNode(target.running.socket)
        return
    from p2pcap.store.database import reading

    with reading(target.paths.database, MEMORY) as readers:
        yield _File(readers)


class _RunningNode:
    """The source that is a node's control socket."""

    def __init__(self, socket: Path, state: str = "") -> None:
        self._socket = socket
        self._state = state

    @contextmanager
    def held(self) -> Iterator[Source]:
        from p2pcap.node.client import Client

        with Client(self._socket) as client:
            yield _RunningNode(self._socket, client.hold())

    def select(self, sql: str) -> Iterator[Any]:
        from p2pcap.node.client import Client

        with Client(self._socket) as client:
            found = Streamed(client.query(sql, ALL_ROWS, ALL_SECONDS, self._state))
            yield from found
        _check_whole(found)

    @contextmanager
    def parts(self, sql: str, order: Order, chunks: tuple[int, int] = ALL_CHUNKS) -> Iterator[Rows]:
        from p2pcap.node.client import Client

        with Client(self._socket) as client:
            yield Streamed(client.parts(sql, order, chunks, self._state))


class _File:
    """The source that is the file of a node that does not run."""

    def __init__(self, readers: "Readers") -> None:
        self._readers = readers

    @contextmanager
    def held(self) -> Iterator[Source]:
        yield self  # while it is open nobody writes

    def select(self, sql: str) -> Iterator[Any]:
        from p2pcap.store.query import Limits, select

        with select(self._readers, sql, Limits(ALL_ROWS, ALL_SECONDS)) as found:
            yield from found
        _check_whole(found)

    @contextmanager
    def parts(self, sql: str, order: Order, chunks: tuple[int, int] = ALL_CHUNKS) -> Iterator[Rows]:
        from p2pcap.store.parts import parts

        with parts(self._readers, sql, order, chunks) as found:
            yield found


def _check_whole(rows: Rows) -> None:
    if rows.truncated:
        raise QueryError(f"The node gave {ALL_ROWS} rows and has more. Ask for less at a time.")


class Streamed:
    """Rows that a running node sends."""

    def __init__(self, reply: Any) -> None:
        try:
            import pyarrow as pa
        except ModuleNotFoundError as error:
            raise QueryError(f"{error.msg}. Queries need it; install it: pip install pyarrow") from error

        self._reply = reply
        self._pipe = _Pipe(iter(reply))
        # Arrow takes a short read for the end; the buffer reads on until it has all that was asked for.
        self._stream = pa.ipc.open_stream(io.BufferedReader(self._pipe, BUFFER))
        self.schema = self._stream.schema
        self.truncated = False

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._stream
        except OSError as error:  # Arrow misses bytes, and does not know why
            raise self._pipe.error or FrameError("The node's answer was cut short. Ask again.") from error
        for _ in self._reply:
            pass  # what follows the stream's own end is the last frame
        self.truncated = bool(self._reply.end.get("truncated"))


class _Pipe(io.RawIOBase):
    """Parts of a byte stream as a file that can be read once."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._part = memoryview(next(parts, b""))
        self.error: P2pcapError | None = None
        """Why the bytes ended before their time."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._part:
            try:
                self._part = memoryview(next(self._parts))
            except StopIteration:
                return 0
            except P2pcapError as error:
                self.error = error
                raise
        size = min(len(buffer), len(self._part))
        buffer[:size] = self._part[:size]
        self._part = self._part[size:]
        return size
