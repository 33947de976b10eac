"""The store as the node sees it: awaitable writes and look-ups over one DuckDB file.

Always holds: `commit` returns after what it was given is on disk. A caller that is cancelled while it waits loses the
answer, not the write. At most QUEUE commits wait at a time; the next caller waits for room.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb
import trio

from p2pcap.errors import CodecError, StoreError, UntrustedError
from p2pcap.project.items import Item
from p2pcap.store import canonical, reads
from p2pcap.store.database import abandon, connect_writer, unusable
from p2pcap.store.readers import Readers, store_errors
from p2pcap.store.reads import Bodiless, Contribution, Loaded
from p2pcap.store.recall import known as recall
from p2pcap.store.writer import Job, Writer
from p2pcap.store.writes import Write

QUEUE = 1_024
"""Commits in the queue; each is one caller that waits."""

LOOK_UPS = 4
"""Look-ups that run at one time."""

T = TypeVar("T")


class Store:
    """One open database. Made by `Store.open`; belongs to one trio run."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self.readers = Readers(connection)
        with self.readers.lend() as cursor:
            known = recall(cursor)
        self._connection = connection
        self._writer = Writer(connection.cursor(), known)
        self._room = trio.Semaphore(QUEUE)
        self._look_ups = trio.CapacityLimiter(LOOK_UPS)
        self._closed = False

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The database at `path`, made if there is none. Raises StoreError when another process has it open, when it
        is damaged, or when a newer version of p2pcap wrote it."""
        connection = connect_writer(path)
        try:
            return cls(path, connection)
        except (duckdb.Error, CodecError, UntrustedError) as error:
            abandon(connection)
            raise StoreError(unusable(path, str(error))) from error

    async def close(self) -> None:
        """Commit what is queued, end all reading, and close the file with nothing left to replay."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        """Closing the last connection makes DuckDB write its log back into the file."""
        self.readers.close()
        self._writer.close()
        self._connection.close()

    async def commit(self, *writes: Write) -> None:
        """Make `writes` durable, in one transaction. Raises StoreError when that failed, and then none of it is stored.

        Said twice, a write changes nothing. Cancelled while it waits for the disk, the writes are made all the same;
        cancelled while it waits for room in the queue, none is.
        """
        await self._room.acquire()
        if self._closed:
            self._room.release()
            raise StoreError("The database is closed because the node is stopping. Start it again.")
        outcome = _Outcome(self._room)
        self._writer.submit(Job(writes, outcome.tell))
        await outcome.wait()

    async def load(self) -> Loaded:
        """Everything a node's memory is rebuilt from."""
        return await self._look_up(reads.load)

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        """The envelopes with these ids, without those not held."""
        return await self._look_up(lambda cursor: reads.statements(cursor, ids))

    async def body(self, root: bytes) -> bytes | None:
        """A held body whose rows have the Merkle root `root`."""
        return await self._look_up(lambda cursor: reads.body(cursor, root))

    async def blob(self, hash: bytes) -> bytes | None:
        """The blob with this SHA-256."""
        return await self._look_up(lambda cursor: reads.blob(cursor, hash))

    async def items(self, chunk: int) -> tuple[Item, ...] | None:
        """The chunk's items, in order; None when its list is not stored."""
        return await self._look_up(lambda cursor: reads.items(cursor, chunk))

    async def has_items(self, chunk: int) -> bool:
        """Whether the chunk's list is stored."""
        return await self._look_up(lambda cursor: reads.has_items(cursor, chunk))

    async def bodies_missing(self, after: int, limit: int) -> list[Bodiless]:
        """At most `limit` results whose body was never here, by number, of those numbered above `after` (-1: all)."""
        return await self._look_up(lambda cursor: reads.bodies_missing(cursor, after, limit))

    async def dropped(self) -> set[bytes]:
        """The ids of the results whose bodies were checked and are not kept."""
        return await self._look_up(reads.dropped)

    async def contributions(self) -> tuple[Contribution, ...]:
        """Who made how many of the canonical rows, most first."""
        return await self._look_up(reads.contributions)

    async def answers(self, tid: bytes, chunk: int) -> dict[int, list[str]]:
        """The canonical answers of a task to the images of a chunk, by item, as far as they are here."""
        return await self._look_up(lambda cursor: reads.answers(cursor, tid, chunk))

    async def roots_of_dropped(self, tid: bytes, chunk: int, wanted: Sequence[int]) -> dict[int, bytes]:
        """The roots of the bodies, checked here and not kept, that hold the canonical answers of a task to those of the
        images `wanted` of a chunk, by item."""
        return await self._look_up(lambda cursor: reads.roots_of_dropped(cursor, tid, chunk, wanted))

    async def failures(self) -> tuple[tuple[str, int], ...]:
        """The codes of the canonical error rows, with the number of rows of each; most first."""
        return await self._look_up(reads.failures)

    async def table_hash(self) -> str:
        """The canonical table in 64 hex digits: equal on nodes whose tables are equal (p2pcap.store.canonical). Raises
        StoreError when not all of it is kept here."""
        return await self._look_up(canonical.table_hash)

    async def _look_up(self, ask: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        return await trio.to_thread.run_sync(self._ask, ask, limiter=self._look_ups)

    def _ask(self, ask: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        with store_errors(), self.readers.lend() as cursor:
            return ask(cursor)


class _Outcome:
    """Carries a job's end from the writer's thread to the task that waits, and gives its place in the queue back."""

    def __init__(self, room: trio.Semaphore) -> None:
        self._room = room
        self._token = trio.lowlevel.current_trio_token()
        self._ended = trio.Event()
        self._error: Exception | None = None

    async def wait(self) -> None:
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    def tell(self, error: Exception | None) -> None:
        self._error = error
        try:
            self._token.run_sync_soon(self._end)
        except trio.RunFinishedError:
            return  # the program is ending, and nobody waits any more

    def _end(self) -> None:
        self._room.release()
        self._ended.set()
