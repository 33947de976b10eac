"""Bodies: what goes in comes out, what a stranger changed is refused, and nothing costs more than its header says."""

import contextlib
import resource
import struct
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import encode
from p2pcap.errors import Misdescribed, UntrustedError
from p2pcap.ledger import merkle
from p2pcap.ledger.body import MAX_ROW, build_body, check_rows, in_bodies, open_body
from p2pcap.ledger.given import given_hash
from p2pcap.ledger.records import MAX_ANSWER, MAX_RAW, Answer, Result, Row
from p2pcap.project.task import Input
from tests.makers import make_project, make_result, task_of
from tests.strategies import records

MADE = make_project((128, 100))
ROWS = [MADE.row(0, index, f"a red circle, number {index}") for index in range(64, 128)]
HEADER, BODY = make_result(MADE.project, 0, ROWS)


def header(**fields: Any) -> Result:
    return msgspec.structs.replace(HEADER, **fields)


def packed(raw: bytes, **fields: Any) -> tuple[bytes, Result]:
    """Any bytes as a body, with the header that announces just these."""
    data = zstandard.ZstdCompressor().compress(raw)
    return data, header(length=len(data), raw=len(raw), **fields)


@given(st.lists(records(Row), min_size=1, max_size=5, unique_by=lambda row: row.item))
def test_rows_come_back(rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda row: row.item)
    rows = [msgspec.structs.replace(row, item=place) for place, row in enumerate(rows)]
    body = build_body(rows, 0)
    opened = open_body(body.data, header(root=body.root, length=len(body.data), raw=body.raw, mask=body.mask))
    assert list(opened) == rows


def test_the_body_is_what_the_protocol_says() -> None:
    assert zstandard.ZstdDecompressor().decompress(BODY.data) == encode(ROWS)
    assert BODY.root == merkle.root([merkle.leaf(encode(row)) for row in ROWS])
    assert BODY.raw == len(encode(ROWS))
    assert BODY.mask == b"\xff" * 8


def test_the_mask_names_the_items() -> None:
    body = build_body([MADE.row(0, 64), MADE.row(0, 66), MADE.row(0, 127)], 64)
    assert body.mask == bytes([0b101, 0, 0, 0, 0, 0, 0, 0x80])


@given(st.integers(0, 8 * len(BODY.data) - 1))
def test_a_changed_bit_is_noticed_or_changes_nothing(at: int) -> None:
    tampered = bytearray(BODY.data)
    tampered[at // 8] ^= 1 << at % 8
    with contextlib.suppress(UntrustedError):
        assert list(open_body(bytes(tampered), HEADER)) == ROWS


@pytest.mark.parametrize("data", [b"", BODY.data[:-1], BODY.data + b"\0", b"\0" * len(BODY.data)])
def test_another_length_or_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError):
        open_body(data, HEADER)
    with pytest.raises(UntrustedError):
        open_body(data, header(length=max(1, len(data))))


def test_equal_rows_compressed_in_another_way_are_the_same_body() -> None:
    data = zstandard.ZstdCompressor(level=19).compress(encode(ROWS))
    assert data != BODY.data
    assert list(open_body(data, HEADER)) == ROWS
    assert list(open_body(BODY.data, header(length=HEADER.length + 1))) == ROWS


@pytest.mark.parametrize("raw", [1, BODY.raw - 1, BODY.raw + 1, MAX_RAW])
def test_a_body_is_as_long_as_its_header_says(raw: int) -> None:
    with pytest.raises(Misdescribed, match="not as long as its header says"):
        open_body(BODY.data, header(raw=raw))


def test_another_root_is_refused() -> None:
    with pytest.raises(UntrustedError, match="do not have the signed root") as caught:
        open_body(BODY.data, header(root=bytes(32)))
    assert not isinstance(caught.value, Misdescribed)


def test_rows_in_another_order_are_refused() -> None:
    data, announced = packed(encode(ROWS[::-1]))
    with pytest.raises(UntrustedError, match="do not have the signed root"):
        open_body(data, announced)


def frame(size: int, blocks: bytes) -> bytes:
    """A zstd frame of one segment that declares `size` bytes (RFC 8878)."""
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + struct.pack("<Q", size) + blocks


def run_of(count: int, last: bool) -> bytes:
    """A block of `count` equal bytes, which takes four."""
    return struct.pack("<I", count << 3 | 1 << 1 | last)[:3] + b"\0"


@pytest.mark.parametrize("declared", [2**62, 2**40, 2**31, MAX_RAW + 1])
def test_a_frame_that_declares_a_huge_size_costs_nothing(declared: int) -> None:
    bomb = frame(declared, run_of(100_000, last=True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for raw in (1, MAX_RAW):
        with pytest.raises(UntrustedError):
            open_body(bomb, header(length=len(bomb), raw=raw))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "KiB"


def test_a_frame_that_holds_more_than_it_declares_is_cut_off() -> None:
    bomb = frame(MAX_RAW, run_of(2**17, last=False) * 2_000 + run_of(1, last=True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UntrustedError):
        open_body(bomb, header(length=len(bomb), raw=MAX_RAW))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "KiB"


def test_a_frame_that_holds_less_than_it_declares_is_refused() -> None:
    short = frame(5_000, run_of(4_000, last=True))
    with pytest.raises(UntrustedError):
        open_body(short, header(length=len(short), raw=5_000))


def test_a_frame_that_declares_nothing_is_refused() -> None:
    raw = encode(ROWS)
    data = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    with pytest.raises(UntrustedError, match="declares no length"):
        open_body(data, header(length=len(data)))


def test_bytes_after_the_frame_are_refused() -> None:
    for rest in (b"\0", BODY.data, frame(0, run_of(0, last=True))):
        data = BODY.data + rest
        with pytest.raises(UntrustedError):
            open_body(data, header(length=len(data)))


@pytest.mark.parametrize("exponent", [0, 10, 17, 18, 20, 21, 22, 31])
def test_a_declared_window_costs_nothing(exponent: int) -> None:
    """The frame says that 2 ** (10 + exponent) bytes of memory are needed, for a few of content."""
    raw = encode(ROWS)
    blocks = struct.pack("<I", len(raw) << 3 | 1)[:3] + raw
    wide = b"\x28\xb5\x2f\xfd" + b"\xc0" + bytes([exponent << 3]) + struct.pack("<Q", len(raw)) + blocks
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert list(open_body(wide, header(length=len(wide)))) == ROWS
    except UntrustedError:
        assert exponent not in (10, 17)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "KiB"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff", id="no record"),
        pytest.param(b"\x81" * 10_000, id="deep"),
        pytest.param(bytes.fromhex("9affffffff"), id="an endless list"),
        pytest.param(bytes.fromhex("9a00020000") + b"\xa0" * 0x20000, id="many empty rows"),
        pytest.param(encode([]), id="no row"),
        pytest.param(encode({"rows": []}), id="no list"),
        pytest.param(encode([1, 2]), id="no rows"),
        pytest.param(encode([{"item": 1, "image": bytes(32)}]), id="fields left out"),
    ],
)
def test_what_is_no_list_of_rows_is_refused(raw: bytes) -> None:
    data, announced = packed(raw)
    with pytest.raises(UntrustedError):
        open_body(data, announced)


def check(rows: list[Row], **fields: Any) -> None:
    check_rows(rows, header(**fields), MADE.items[0], task_of(MADE.project))


def test_sound_rows_pass() -> None:
    check(ROWS)
    check([MADE.error(0, 64)], mask=(1).to_bytes(8, "little"))
    check(ROWS[1:], mask=(2**64 - 2).to_bytes(8, "little"))


WRONG_ROWS = {
    "one missing": ROWS[:-1],
    "none": [],
    "one twice": [*ROWS[:-1], ROWS[-2]],
    "one before its place": [ROWS[1], ROWS[0], *ROWS[2:]],
    "one of another slice": [MADE.row(0, 0), *ROWS[1:]],
    "one beyond the chunk": [*ROWS[:-1], msgspec.structs.replace(ROWS[-1], item=16_000)],
    "another image": [msgspec.structs.replace(ROWS[0], image=ROWS[1].image), *ROWS[1:]],
    "no answer and no error": [msgspec.structs.replace(ROWS[0], answers=()), *ROWS[1:]],
    "an answer and an error": [msgspec.structs.replace(ROWS[0], error="undecodable"), *ROWS[1:]],
    "two answers to one prompt": [msgspec.structs.replace(ROWS[0], answers=ROWS[0].answers * 2), *ROWS[1:]],
}


@pytest.mark.parametrize("rows", WRONG_ROWS.values(), ids=WRONG_ROWS.keys())
def test_rows_that_do_not_fit_the_project_are_refused(rows: list[Row]) -> None:
    with pytest.raises(UntrustedError):
        check(rows)


NEEDS = msgspec.structs.replace(task_of(MADE.project), inputs=(Input("look", b"earlier1", ("caption",)),))
GIVEN = [msgspec.structs.replace(row, given=given_hash({"look.caption": "a circle"})) for row in ROWS]


def test_a_row_says_which_answers_of_other_tasks_it_used_and_only_then() -> None:
    error = MADE.error(0, 64)
    check_rows(GIVEN, header(), MADE.items[0], NEEDS)
    check_rows([error, *GIVEN[1:]], header(), MADE.items[0], NEEDS)
    said_of_error = [msgspec.structs.replace(error, given=bytes(8)), *GIVEN[1:]]
    for rows, task in ((ROWS, NEEDS), (GIVEN, task_of(MADE.project)), (said_of_error, NEEDS)):
        with pytest.raises(Misdescribed, match="which answers of other stages"):
            check_rows(rows, header(), MADE.items[0], task)


def test_what_was_given_is_told_apart_by_names_and_texts_and_by_nothing_else() -> None:
    pairs = {"look.caption": "a circle", "look.colour": "red"}
    assert given_hash(pairs) == given_hash(dict(reversed(pairs.items())))
    others = [{"look.caption": "red", "look.colour": "a circle"}, {"look.caption": "a circle"}, {}]
    assert len({given_hash(one) for one in [pairs, *others]}) == 4
    assert len(given_hash({})) == 8


@given(st.lists(st.integers(0, MAX_ANSWER), min_size=1, max_size=64))
def test_each_run_of_rows_fits_a_body(lengths: list[int]) -> None:
    rows = [Row(index, bytes(32), (Answer("x" * length, 1, "stop"),)) for index, length in enumerate(lengths)]
    runs = list(in_bodies(rows))
    assert [row for run in runs for row in run] == rows
    assert all(run and len(encode(run)) <= MAX_RAW for run in runs)


@pytest.mark.parametrize(("more", "runs"), [(0, [16]), (1, [15, 1])])
def test_a_body_is_filled_to_the_last_byte(more: int, runs: list[int]) -> None:
    empty = len(encode(Row(0, bytes(32), (Answer("x" * MAX_ANSWER, 1, "stop"),))))
    rows = [Row(index, bytes(32), (Answer("x" * (MAX_ANSWER - 1_000), 1, "stop"),)) for index in range(15)]
    rest = MAX_ROW - sum(len(encode(row)) for row in rows) - (empty - MAX_ANSWER)
    rows.append(Row(15, bytes(32), (Answer("x" * (rest + more), 1, "stop"),)))
    assert sum(len(encode(row)) for row in rows) == MAX_ROW + more
    assert [len(run) for run in in_bodies(rows)] == runs


def test_rows_are_split_no_earlier_than_needed() -> None:
    rows = [Row(index, bytes(32), (Answer("é" * MAX_ANSWER, 1, "stop"),)) for index in range(16)]
    assert [len(run) for run in in_bodies(rows)] == [7, 7, 2]
    assert len(list(in_bodies(ROWS))) == 1
    assert list(in_bodies([])) == []
