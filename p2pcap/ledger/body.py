"""A result's body: its rows, compressed, under one Merkle root.

The body is zstd over the DAG-CBOR array of rows. A stranger's body is decompressed only up to what its signed header
announced, then checked against the header row by row.

Always holds: `open_body` returns rows only when every one of them is what the author signed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import zstandard

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.ledger import merkle
from p2pcap.ledger.records import MAX_RAW, Result, Row
from p2pcap.project.records import Item

LEVEL = 3
"""zstd's default: bodies are small, and a higher level saves less than 3 % of them."""

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
    data = zstandard.ZstdCompressor(level=LEVEL).compress(raw)
    return Body(data, merkle.root(leaves), len(raw), bits.to_bytes(8, "little"))


def open_body(data: bytes, header: Result) -> tuple[Row, ...]:
    """The rows in `data`, when they are the ones its header signs. Raises UntrustedError: whoever served it lied."""
    raw = _decompress(data, header)
    try:
        rows = decode(raw, tuple[Row, ...], MAX_RAW)
    except CodecError as error:
        raise UntrustedError(f"The body cannot be read: {error}") from error
    if merkle.root([merkle.leaf(encode(row)) for row in rows]) != header.root:
        raise UntrustedError("The body's rows do not have the signed root.")
    return rows


def check_rows(rows: Sequence[Row], header: Result, items: Sequence[Item], prompts: int) -> None:
    """Whether signed rows fit the chunk's items and the number of prompts.

    Raises UntrustedError with the fault: the batch is void then, and its author, not whoever served it, is to blame.
    """
    expected = [index for index in range(header.offset, header.offset + header.n) if header.items >> index & 1]
    if [row.item for row in rows] != expected:
        raise UntrustedError("The body's rows are not the items its header covers.")
    for row in rows:
        if row.image != items[row.item].hash:
            raise UntrustedError("A row names another image than the project.")
        if bool(row.error) == bool(row.answers) or len(row.answers) not in (0, prompts):
            raise UntrustedError("A row is neither an answer to every prompt nor an error.")


def _decompress(data: bytes, header: Result) -> bytes:
    if len(data) != header.length:
        raise UntrustedError("The body's length is not the announced one.")
    try:
        # zstandard allocates what the frame declares, whatever max_output_size says: check the declaration first.
        if zstandard.get_frame_parameters(data).content_size != header.raw:
            raise UntrustedError("The body declares another length than its header.")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=header.raw, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UntrustedError(f"The body cannot be decompressed: {error}.") from error
    if len(raw) != header.raw:
        raise UntrustedError("The body's length before compression is not the announced one.")
    return raw
