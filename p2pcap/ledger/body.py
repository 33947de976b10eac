"""A result's body: its rows, compressed, under one Merkle root.

The body is zstd over the DAG-CBOR array of rows. A body is named by its rows' root, so whoever serves rows of that root
is honest, whatever some header says of them: two authors with equal rows have equal roots, and anybody can sign a
header that names another's root. What a header says beside the root is checked after that, and held against its author.

Always holds: `open_body` returns rows only when every one of them is what the author signed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, Misdescribed, UntrustedError
from p2pcap.ledger import merkle
from p2pcap.ledger.packing import packed, unpacked
from p2pcap.ledger.records import MAX_RAW, Result, Row
from p2pcap.project.items import NO_IMAGE, Item
from p2pcap.project.task import Task

ARRAY_HEAD = 9
"""Bytes the array around the rows may add."""

MAX_ROW = MAX_RAW - ARRAY_HEAD
"""Bytes of a row that still fits a body."""


@dataclass(frozen=True)
class Body:
    """A body ready to be announced: compressed bytes, Merkle root, length before compression, coverage mask."""

    data: bytes
    root: bytes
    raw: int
    mask: bytes


def in_bodies(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """`rows` in runs that each fit one body: nearly always a single one."""
    run: list[Row] = []
    size = 0
    for row in rows:
        length = len(encode(row))
        if run and size + length > MAX_ROW:
            yield run
            run, size = [], 0
        run.append(row)
        size += length
    if run:
        yield run


def build_body(rows: Sequence[Row], offset: int) -> Body:
    """The body of `rows`, which are in order of their items; `offset` is the slice's first item."""
    raw = encode(rows)
    leaves = [merkle.leaf(encode(row)) for row in rows]
    bits = sum(1 << (row.item - offset) for row in rows)
    return Body(packed(raw), merkle.root(leaves), len(raw), bits.to_bytes(8, "little"))


@dataclass(frozen=True)
class Opened:
    """What a body holds: its rows, their Merkle root, and the bytes before compression."""

    rows: tuple[Row, ...]
    root: bytes
    raw: int


def open_rows(data: bytes) -> Opened:
    """The rows in `data`, whoever's they are. Raises UntrustedError when it holds no rows."""
    raw = unpacked(data, MAX_RAW, "body")
    try:
        rows = decode(raw, tuple[Row, ...], MAX_RAW)
    except CodecError as error:
        raise UntrustedError(f"The body cannot be read: {error}") from error
    return Opened(rows, merkle.root([merkle.leaf(encode(row)) for row in rows]), len(raw))


def described(opened: Opened, header: Result) -> tuple[Row, ...]:
    """The rows of a body that has the root `header` names. Raises Misdescribed when it is not as long as that says."""
    if opened.raw != header.raw:
        raise Misdescribed("The body is not as long as its header says.")
    return opened.rows


def open_body(data: bytes, header: Result) -> tuple[Row, ...]:
    """The rows in `data`, when they are the ones its header signs.

    Raises UntrustedError when the bytes are not rows of the header's root (whoever served them lied), and Misdescribed
    when they are, but not as long as the header says (its author lied).
    """
    opened = open_rows(data)
    if opened.root != header.root:
        raise UntrustedError("The body's rows do not have the signed root.")
    return described(opened, header)


def check_rows(rows: Sequence[Row], header: Result, items: Sequence[Item], task: Task) -> None:
    """Whether signed rows fit the chunk's items and the task.

    Raises Misdescribed with the fault: the batch is void then, and its author, not whoever served it, is to blame.
    """
    expected = [index for index in range(header.offset, header.offset + header.n) if header.items >> index & 1]
    if [row.item for row in rows] != expected:
        raise Misdescribed("The body's rows are not the items its header covers.")
    for row in rows:
        planned = items[row.item].hash
        if planned and row.image != planned:
            raise Misdescribed("A row names another image than the project.")
        if row.answers and row.image == NO_IMAGE:
            raise Misdescribed("A row has answers about an image that nobody had.")
        if bool(row.error) == bool(row.answers) or len(row.answers) not in (0, len(task.prompts)):
            raise Misdescribed("A row is neither an answer to every prompt nor an error.")
        if (row.given is not UNSET) != bool(task.needs and row.answers):
            raise Misdescribed("A row does not say which answers of other stages it used, or says so without need.")


def error_bits(rows: Sequence[Row]) -> int:
    """The items whose row is an error, as bits of the chunk."""
    return sum(1 << row.item for row in rows if row.error)
