"""The chunk table: what is read is what was added, a stranger's table is refused, and one that grows stays the same."""

import hashlib
import struct
from functools import cache
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.errors import CodecError, UntrustedError
from p2pcap.project.chunks import (
    PAGE_BYTES,
    Chunk,
    Chunks,
    TableBuilder,
    goes_on,
    open_counts,
    open_page,
    page_over,
    table_of,
)
from p2pcap.project.opened import check_follows
from p2pcap.project.records import MAX_CHUNK, MAX_CHUNKS, MAX_LIST, PAGE, ROW, ChunkTable, Plan, Stage
from tests.makers import TASK, signed


def chunk(number: int) -> Chunk:
    return Chunk(1 + number % MAX_CHUNK, hashlib.sha256(b"%d" % number).digest(), 1 + number % MAX_LIST)


CHUNKS = [chunk(number) for number in range(3 * PAGE)]


@cache
def made(count: int) -> tuple[ChunkTable, dict[bytes, bytes]]:
    """The table of the first `count` chunks, and its pages."""
    pages: list[bytes] = []
    table = table_of(CHUNKS[:count], pages.append)
    return table, {hashlib.sha256(page).digest(): page for page in pages}


def packed(*counts: int) -> bytes:
    return zstandard.ZstdCompressor().compress(struct.pack(f"<{len(counts)}H", *counts))


@pytest.mark.parametrize("count", [1, 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 400])
def test_every_chunk_is_found_in_order_and_by_number(count: int) -> None:
    table, pages = made(count)
    chunks = Chunks(table, open_counts(table), pages.__getitem__)
    assert len(chunks) == count
    assert list(chunks) == CHUNKS[:count]
    assert [chunks[number] for number in range(count - 1, -1, -97)] == CHUNKS[count - 1 :: -97][
        : len(range(count - 1, -1, -97))
    ]
    assert (len(table.pages), len(table.rows)) == (count // PAGE, count % PAGE * ROW)
    with pytest.raises(IndexError):
        chunks[count]


def test_a_page_is_asked_for_once_while_its_chunks_are_read_in_order() -> None:
    table, pages = made(2 * PAGE + 400)
    asked: list[bytes] = []

    def page(hash_: bytes) -> bytes:
        asked.append(hash_)
        return pages[hash_]

    assert list(Chunks(table, open_counts(table), page)) == CHUNKS[: 2 * PAGE + 400]
    assert asked == list(table.pages)


ROWS = bytes(32) + (5).to_bytes(4, "big")
SMALL = ChunkTable(packed(5), (), ROWS)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"counts": packed()}, id="no chunk"),
        pytest.param({"counts": packed(5, 5)}, id="more counts than rows"),
        pytest.param({"rows": b""}, id="no row"),
        pytest.param({"rows": ROWS * 2}, id="more rows than counts"),
        pytest.param({"rows": ROWS[:-1]}, id="part of a row"),
        pytest.param({"pages": (bytes(32),)}, id="a page too many"),
        pytest.param({"counts": packed(*[5] * PAGE), "rows": b""}, id="a page is missing"),
        pytest.param({"counts": packed(0)}, id="a chunk without images"),
        pytest.param({"counts": packed(MAX_CHUNK + 1)}, id="a chunk with too many images"),
        pytest.param({"rows": bytes(36)}, id="an empty list"),
        pytest.param({"rows": bytes(32) + (MAX_LIST + 1).to_bytes(4, "big")}, id="a list that is too long"),
        pytest.param({"counts": b"no frame"}, id="no frame"),
        pytest.param({"counts": packed(5)[:-1]}, id="half a frame"),
        pytest.param({"counts": packed(5) + b"more"}, id="something behind the frame"),
        pytest.param({"counts": zstandard.ZstdCompressor().compress(b"\1\0\1")}, id="half a number"),
        pytest.param({"counts": packed(*[1] * (MAX_CHUNKS + 1))}, id="more chunks than a project may have"),
        pytest.param(
            {"counts": zstandard.ZstdCompressor(write_content_size=False).compress(b"\5\0")},
            id="a frame without its size",
        ),
    ],
)
def test_a_strangers_table_is_refused(changes: dict[str, Any]) -> None:
    assert list(open_counts(SMALL)) == [5]
    with pytest.raises(UntrustedError):
        open_counts(msgspec.structs.replace(SMALL, **changes))


def test_a_strangers_page_is_refused() -> None:
    table, pages = made(PAGE)
    (hash_,) = table.pages
    page = pages[hash_]
    assert open_page(page, hash_) == page
    other = made(2 * PAGE)[1][made(2 * PAGE)[0].pages[1]]
    for wrong in (b"", page[:-1], page + bytes(ROW), page[:-ROW], other, bytes([page[0] ^ 1]) + page[1:]):
        with pytest.raises(UntrustedError, match="not the one that the plan names"):
            open_page(wrong, hash_)


@pytest.mark.parametrize("length", [0, MAX_LIST + 1, 2**32 - 1])
def test_a_page_with_a_row_out_of_bounds_is_refused(length: int) -> None:
    page = (ROWS * PAGE)[:-4] + length.to_bytes(4, "big")
    with pytest.raises(UntrustedError, match="empty or too long"):
        open_page(page, hashlib.sha256(page).digest())


@pytest.mark.parametrize(
    "wrong", [Chunk(0, bytes(32), 5), Chunk(MAX_CHUNK + 1, bytes(32), 5), Chunk(5, bytes(32), MAX_LIST + 1)]
)
def test_a_chunk_beyond_the_limits_is_not_added(wrong: Chunk) -> None:
    builder = TableBuilder(len)
    with pytest.raises(CodecError):
        builder.add(wrong)
    assert len(builder) == 0


@given(st.lists(st.integers(1, 600), min_size=1, max_size=6))
def test_many_signings_make_the_table_that_one_makes(added: list[int]) -> None:
    table, pages = made(1)
    pages = dict(pages)
    for number in added:
        before, count = table, len(open_counts(table))
        builder = TableBuilder(lambda page: pages.update({hashlib.sha256(page).digest(): page}), before)
        for one in CHUNKS[count : count + number]:
            builder.add(one)
        table = builder.table()
        over = page_over(table, before)
        assert goes_on(table, before, b"" if over is None else pages[over])
    assert table == made(len(open_counts(table)))[0]


OLD = 1_000
"""Chunks of a plan that has no page yet."""


def swapped(chunks: list[Chunk]) -> list[Chunk]:
    return [chunks[1], chunks[0], *chunks[2:]]


@pytest.mark.parametrize(
    ("old", "new", "follows"),
    [
        (OLD, CHUNKS[:OLD], True),
        (OLD, CHUNKS[: OLD + 5], True),
        (OLD, CHUNKS[:PAGE], True),
        (OLD, CHUNKS[: PAGE + 5], True),
        (OLD, CHUNKS[: 3 * PAGE], True),
        (PAGE, CHUNKS[: PAGE + 5], True),
        (PAGE + 5, CHUNKS[: 2 * PAGE + 5], True),
        (OLD, CHUNKS[: OLD - 1], False),
        (OLD, swapped(CHUNKS[:OLD]), False),
        (OLD, swapped(CHUNKS[: PAGE + 5]), False),
        (PAGE, CHUNKS[: PAGE - 1], False),
        (PAGE + 5, swapped(CHUNKS[: PAGE + 5]), False),
        (PAGE + 5, [*CHUNKS[:PAGE], *swapped(CHUNKS[PAGE : PAGE + 5])], False),
        (PAGE + 5, [*CHUNKS[:PAGE], *swapped(CHUNKS[PAGE : 2 * PAGE])], False),
    ],
)
def test_a_plan_is_followed_if_the_chunks_keep_their_places(old: int, new: list[Chunk], follows: bool) -> None:
    pages: dict[bytes, bytes] = {}
    before = made(old)[0]
    after = table_of(new, lambda page: pages.update({hashlib.sha256(page).digest(): page}))
    over = page_over(after, before)
    page = b"" if over is None else pages[over]
    assert goes_on(after, before, page) is follows
    first, second = (signed(Plan("Shapes", (Stage("caption", TASK),), table)) for table in (before, after))
    if follows:
        check_follows(second, first, page)
    else:
        with pytest.raises(UntrustedError, match="renumbers images"):
            check_follows(second, first, page)


def test_other_counts_are_other_chunks() -> None:
    changed = [Chunk(chunk.count + 1, chunk.items, chunk.length) for chunk in CHUNKS[:5]]
    first, second = (
        signed(Plan("Shapes", (Stage("caption", TASK),), table_of(some))) for some in (CHUNKS[:5], changed)
    )
    with pytest.raises(UntrustedError, match="renumbers images"):
        check_follows(second, first)


@pytest.mark.parametrize("page", [b"", bytes(PAGE_BYTES), made(2 * PAGE)[1][made(2 * PAGE)[0].pages[1]]])
def test_the_page_that_shows_it_cannot_be_another(page: bytes) -> None:
    with pytest.raises(UntrustedError, match="not the one that the plan names"):
        goes_on(made(PAGE + 5)[0], made(OLD)[0], page)


def test_a_table_of_ten_million_images_is_small() -> None:
    """What a joiner gets before it can claim, in a project of chunks of 1,000 images with the longest tail."""
    table = table_of(Chunk(1_000, bytes(32), 100_000) for _ in range(10 * PAGE - 1))
    assert len(table.counts) + 34 * len(table.pages) + len(table.rows) < 38_000
