"""The chunk table: how many images each chunk has, and which item list.

The numbers of images are in the plan, because every node needs all of them to choose its work. Hash and length of an
item list are a row of ROW bytes. PAGE rows make a page, a blob of its own that is fetched when one of its chunks is
claimed; the plan has the pages' hashes, and itself the rows behind the last page. So a joiner's share of the table is
less than one page and 34 bytes for each other one, whatever the size of the project.

Always holds: a page is full and never changes. Rows that are added stand in the plan until they fill a page, however
many signings that takes; so whether a table goes on from an older one is seen from the plans alone and, where the rows
of the older plan lie in a page by now, from that one page.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import zstandard

from p2pcap.errors import CodecError, UntrustedError
from p2pcap.project.records import MAX_CHUNK, MAX_CHUNKS, MAX_LIST, PAGE, ROW, ChunkTable

PAGE_BYTES = PAGE * ROW
_ROW = struct.Struct(">32sI")

Pages = Callable[[bytes], bytes]
"""Gives the blob of a page by its hash; raises UntrustedError when it is not to be had."""


@dataclass(frozen=True)
class Chunk:
    """A chunk by the table: its number of images, and SHA-256 and bytes of its item list."""

    count: int
    items: bytes
    length: int


def open_counts(table: ChunkTable) -> "array[int]":
    """The number of images of each chunk, once the table's parts fit each other. Raises UntrustedError."""
    raw = _unpacked(table.counts)
    counts = array("H", struct.unpack(f"<{len(raw) // 2}H", raw))
    pages, rows = divmod(len(counts), PAGE)
    if not counts or len(table.pages) != pages or len(table.rows) != rows * ROW:
        raise UntrustedError("The parts of the chunk table do not fit each other. It has to be signed again.")
    if min(counts) < 1 or max(counts) > MAX_CHUNK:
        raise UntrustedError(f"A chunk of the table has no image, or more than {MAX_CHUNK}. It has to be signed again.")
    _check_rows(table.rows)
    return counts


def _unpacked(counts: bytes) -> bytes:
    most = 2 * MAX_CHUNKS
    try:
        if zstandard.get_frame_parameters(counts).content_size > most:
            raise UntrustedError("The chunk table has more chunks than a project may have.")
        raw = zstandard.ZstdDecompressor().decompress(counts, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UntrustedError(f"The chunk table cannot be read: {error}.") from error
    if len(raw) % 2:
        raise UntrustedError("The chunk table has half a number. It has to be signed again.")
    return raw


def open_page(data: bytes, hash_: bytes) -> bytes:
    """The rows of a page. Raises UntrustedError for what is not the page with this hash, or has rows out of bounds."""
    if len(data) != PAGE_BYTES or hashlib.sha256(data).digest() != hash_:
        raise UntrustedError("A page of the chunk table is not the one that the plan names.")
    _check_rows(data)
    return data


def are_rows(data: bytes) -> bool:
    """Whether these are rows whose lengths are in bounds."""
    return len(data) % ROW == 0 and all(1 <= length <= MAX_LIST for _, length in _ROW.iter_unpack(data))


def _check_rows(rows: bytes) -> None:
    if not are_rows(rows):
        raise UntrustedError("The chunk table names an item list that is empty or too long. It has to be signed again.")


def row_in(rows: bytes, place: int, count: int) -> Chunk:
    """The chunk with `count` images whose row stands at `place` in `rows`."""
    return Chunk(count, *_ROW.unpack_from(rows, place * ROW))


class Chunks:
    """The chunks of a table in order, or by number; `counts` are those of `open_counts`. The last page that was asked
    for is kept. Raises UntrustedError for a page that is none, and what `pages` raises."""

    def __init__(self, table: ChunkTable, counts: "array[int]", pages: Pages) -> None:
        self._table = table
        self._counts = counts
        self._pages = pages
        self._opened = (-1, b"")

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[Chunk]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Chunk:
        page, place = divmod(number, PAGE)
        if page == len(self._table.pages):
            return row_in(self._table.rows, place, self._counts[number])
        if page != self._opened[0]:
            hash_ = self._table.pages[page]
            self._opened = page, open_page(self._pages(hash_), hash_)
        return row_in(self._opened[1], place, self._counts[number])


class TableBuilder:
    """A table that grows, behind the chunks of `before` where there are some. `put` gets each page that is full."""

    def __init__(self, put: Callable[[bytes], object], before: ChunkTable | None = None) -> None:
        self._put = put
        self._counts = open_counts(before) if before else array("H")
        self._pages = list(before.pages) if before else []
        self._rows = bytearray(before.rows if before else b"")

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, chunk: Chunk) -> None:
        """One chunk more. Raises CodecError when it is beyond the table's limits."""
        if not 1 <= chunk.count <= MAX_CHUNK:
            raise CodecError(f"A chunk has {chunk.count} images; 1 to {MAX_CHUNK} are allowed.")
        if not 1 <= chunk.length <= MAX_LIST:
            raise CodecError(f"An item list has {chunk.length} bytes; at most {MAX_LIST} are allowed.")
        self._counts.append(chunk.count)
        self._rows += _ROW.pack(chunk.items, chunk.length)
        if len(self._rows) == PAGE_BYTES:
            page = bytes(self._rows)
            self._put(page)
            self._pages.append(hashlib.sha256(page).digest())
            self._rows.clear()

    def table(self) -> ChunkTable:
        """The table as far as it goes."""
        raw = struct.pack(f"<{len(self._counts)}H", *self._counts)
        return ChunkTable(zstandard.ZstdCompressor().compress(raw), tuple(self._pages), bytes(self._rows))


def table_of(chunks: Iterable[Chunk], put: Callable[[bytes], object] = len) -> ChunkTable:
    """The table of these chunks; `put` gets its pages, and without it they are dropped."""
    builder = TableBuilder(put)
    for chunk in chunks:
        builder.add(chunk)
    return builder.table()


def page_over(new: ChunkTable, old: ChunkTable) -> bytes | None:
    """The hash of the page of `new` that holds the rows which `old` has behind its pages; None when they are in no
    page, or there are none."""
    return new.pages[len(old.pages)] if old.rows and len(new.pages) > len(old.pages) else None


def goes_on(new: ChunkTable, old: ChunkTable, page: bytes = b"") -> bool:
    """Whether `new` has the rows of `old` in their places, and perhaps others behind them. `page` is the blob of
    `page_over`, where there is one. Raises UntrustedError when it is another."""
    over = page_over(new, old)
    rows = open_page(page, over) if over is not None else new.rows if len(new.pages) == len(old.pages) else b""
    return new.pages[: len(old.pages)] == old.pages and rows.startswith(old.rows)
