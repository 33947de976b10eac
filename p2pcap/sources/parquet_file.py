"""A Parquet file of which only the bytes that are needed are moved: the footer, then columns of row groups.

What the bytes mean is found out by `p2pcap.sources.parquet_child`, in a process of its own, which is started again when
a file has ended it. Here are the requests for bytes, and the checks of what that process says.

Always holds: a request for bytes lies within the file; the rows of a group take bounded memory in this process.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec
import trio

from p2pcap.errors import SourceError, SourceGone
from p2pcap.sources import parquet_frames as frames
from p2pcap.sources.child import ChildFailed, Limits
from p2pcap.sources.columns import Column
from p2pcap.sources.files import Files
from p2pcap.sources.locations import DataFile, Location
from p2pcap.sources.spare import Lent, lent_child

TAIL = 64 * 1024
"""Bytes that the first look at a file asks for: most footers are shorter, and two requests are saved by one."""

END = 8
MAGIC = b"PAR1"
"""At a file's start and end; before the latter the footer's length, which makes END bytes."""

KEPT_FOOTERS = 16 * 1024 * 1024
"""Bytes of footers that are kept for the next chunks of their files."""

MAX_COLUMN = 8 * 1024**3
"""Bytes, as stored and as unpacked, that the wanted columns of a row group may say they have."""

MAX_ROWS = 2**40
"""Rows that a file may say it has."""

MEMORY = 2 * 1024**3
"""Bytes that the process may take. A page, which a writer makes as large as it likes, often all of a row group, is
unpacked as a whole: one of 85 MB takes 250 MB, the 65 MB of Python and pyarrow included, and one of 500 MB 1.5 GB."""

SECONDS = 60.0
"""What the process may take for the next rows; unpacking a page of 500 MB takes about one."""

BATCH_BYTES, MAX_BATCH = 1024 * 1024, 1_024
"""Rows are unpacked by so many bytes at a time, and never more rows than this."""


class Unreadable(SourceError):
    """The library cannot read the file, or a row group of it."""


class Table:
    """An open Parquet file. `columns` are all it has, `rows` the number of rows in each row group."""

    def __init__(self, files: Files, location: Location, footer: bytes, size: int) -> None:
        self._files, self._location, self._footer = files, location, footer
        self._process = AsyncExitStack()
        self._lent: Lent | None = None
        self.size = size
        self.columns: tuple[Column, ...] = ()
        self.rows: tuple[int, ...] = ()

    async def open(self) -> None:
        """Start the process, which reads the footer. Raises Unreadable, ChildFailed, ChildSlow."""
        self._lent = await self._process.enter_async_context(
            lent_child("p2pcap.sources.parquet_child", Limits(MEMORY), SECONDS)
        )
        match await self._ask(frames.Open(self._footer, self.size)):
            case frames.Opened(columns, rows):
                self.columns, self.rows = columns, rows
        if min(self.rows, default=0) < 0 or sum(self.rows) > MAX_ROWS:
            raise Unreadable("The file says that it has an impossible number of rows.")

    async def close(self) -> None:
        """Give the process back; the next question starts another."""
        self._lent = None
        await self._process.aclose()

    async def locate(self, cells: Sequence[frames.Cell], group: int) -> frames.Located:
        """Where these cells of a row group are. Raises Unreadable when they are not within the file, or are too many
        bytes; ChildFailed, ChildSlow."""
        answer = await self._answer(frames.Locate(tuple(cells), group))
        if not isinstance(answer, frames.Located):
            raise self._nonsense()
        return checked(answer, self.size)

    async def save(self, spans: Iterable[frames.Span], path: Path) -> None:
        """Write these bytes of the file, one span behind the other, into a new file."""
        try:
            with path.open("wb") as file:
                for start, length in spans:
                    await self._files.save(self._location, start, length, file)
        except OSError as error:
            raise SourceError(f"{path.parent} cannot be written: {error.strerror}. Make room there.") from error

    async def read(self, wanted: frames.Read) -> AsyncGenerator[tuple[frames.Row, ...], None]:
        """The wanted rows of a row group. Raises Unreadable, ChildFailed, ChildSlow; rows that came before are good."""
        answer = await self._answer(wanted)
        while isinstance(answer, frames.Rows):
            if answer.rows and {len(values) for _, values in answer.rows} != {len(wanted.cells)}:
                raise self._nonsense()
            yield answer.rows
            answer = await self._next()
        if not isinstance(answer, frames.Done):
            raise self._nonsense()

    async def _answer(self, question: frames.Question) -> frames.Answer:
        if self._lent and not self._lent.idle:
            await self.close()  # it failed, or what it still sends belongs to rows that nobody waits for
        if self._lent is None:
            await self.open()
        return await self._ask(question)

    async def _ask(self, question: frames.Question) -> frames.Answer:
        assert self._lent
        self._lent.idle = False
        await self._lent.child.send(frames.encode(question))
        return await self._next()

    async def _next(self) -> frames.Answer:
        """The next frame of an answer; the process is idle again behind the last one."""
        assert self._lent
        try:
            answer: frames.Answer = frames.answers.decode(await self._lent.child.receive(frames.MAX_FRAME))
        except msgspec.MsgspecError as error:
            raise self._nonsense() from error
        self._lent.idle = not isinstance(answer, frames.Rows)
        if isinstance(answer, frames.Fault):
            raise Unreadable(f"The file cannot be read as Parquet: {answer.text}")
        return answer

    def _nonsense(self) -> ChildFailed:
        """The process answered something else than it was asked: nothing that it says counts any more."""
        assert self._lent
        self._lent.idle = False
        return ChildFailed("The process that reads the file sent what is no answer.")


@asynccontextmanager
async def open_table(files: Files, location: Location, size: int | None = None) -> AsyncIterator[Table]:
    """Open the file, which has `size` bytes, or any number. Raises SourceGone when it has another, Unreadable when it
    is no Parquet file, ChildFailed and ChildSlow when that cannot be found out, and what `files` raises."""
    footer, found = await _footer(files, location, size)
    table = Table(files, location, footer, found)
    try:
        await table.open()
        yield table
    finally:
        await table.close()


def batch_rows(rows: int, unpacked: int) -> int:
    """Rows that are unpacked at once, of a row group with so many rows and bytes."""
    return max(1, min(MAX_BATCH, BATCH_BYTES * rows // max(1, unpacked)))


def checked(found: frames.Located, size: int) -> frames.Located:
    """`found`, when it lies in a file of `size` bytes. Raises Unreadable."""
    if any(start < 0 or length < 0 or start + length > size for start, length in found.spans):
        raise Unreadable("The file points to bytes that it does not have.")
    if max(found.unpacked, sum(length for _, length in found.spans)) > MAX_COLUMN:
        raise Unreadable(f"A row group has over {MAX_COLUMN} bytes of a column.")
    return found


def merged(spans: Iterable[frames.Span], joins: Callable[[frames.Span, frames.Span], bool]) -> list[frames.Span]:
    """Ascending spans, with those joined that overlap, or between which `joins` allows the gap."""
    found: list[frames.Span] = []
    for span in spans:
        start, length = span
        if found and (start <= sum(found[-1]) or joins(found[-1], span)):
            first = found[-1][0]
            found[-1] = first, max(sum(found[-1]), start + length) - first
        else:
            found.append(span)
    return found


async def _footer(files: Files, location: Location, planned: int | None) -> tuple[bytes, int]:
    """The end of the file from the footer on, and the file's size."""
    footers = _kept.setdefault(files, Footers())
    async with footers.turn:  # chunks of one file are read side by side, and all want its footer
        kept = footers.get(location, planned)
        if kept is not None:
            return kept
        size = await files.size(location)
        if planned not in (None, size):
            raise SourceGone(f"The file has {size} bytes; it had {planned} when it was planned.")
        footer = await _fetch_footer(files, location, size)
        footers.put(location, footer, size)
        return footer, size


async def _fetch_footer(files: Files, location: Location, size: int) -> bytes:
    tail = await files.read(location, max(0, size - TAIL), min(size, TAIL))
    if tail[-len(MAGIC) :] != MAGIC or size < END + len(MAGIC):
        raise Unreadable("The file is no Parquet file, or is cut off.")
    length = int.from_bytes(tail[-END : -len(MAGIC)], "little") + END
    if length > min(frames.MAX_FOOTER, size - len(MAGIC)):
        raise Unreadable(f"The file says that its footer has {length} bytes.")
    if length > len(tail):
        tail = await files.read(location, size - length, length - len(tail)) + tail
    return tail[-length:]


class Footers:
    """Footers and sizes by file, the least recently used ones dropped first. A local file's are not kept: the file may
    change."""

    def __init__(self, most: int = KEPT_FOOTERS) -> None:
        self._found: OrderedDict[Location, tuple[bytes, int]] = OrderedDict()
        self._most = most
        self.turn = trio.Lock()
        self.bytes = 0

    def get(self, location: Location, size: int | None) -> tuple[bytes, int] | None:
        """The footer and size of the file, if it has `size` bytes; None: any number."""
        found = self._found.get(location)
        if found is None or size not in (None, found[1]):
            return None
        self._found.move_to_end(location)
        return found

    def put(self, location: Location, footer: bytes, size: int) -> None:
        """Keep a footer."""
        if isinstance(location, DataFile):
            return
        self.bytes += len(footer) - len(self._found.pop(location, (b"", 0))[0])
        self._found[location] = footer, size
        while self.bytes > self._most:
            self.bytes -= len(self._found.popitem(last=False)[1][0])


_kept: WeakKeyDictionary[Files, Footers] = WeakKeyDictionary()
