"""What the node and the process that reads Parquet files say to each other.

Frames are MessagePack. What the process says was made of a stranger's file, so the node checks it again: every field
has a type, and `p2pcap.sources.parquet_file` checks ranges against the file's size.
"""

import msgspec

from p2pcap.project.items import MAX_FIELD, MAX_IMAGE
from p2pcap.project.task import MAX_FIELDS
from p2pcap.sources.columns import Column

MAX_FOOTER = 16 * 1024 * 1024
"""Bytes of a file's footer. One of 10,000 row groups with ten columns has about half of that."""

MAX_FRAME = MAX_IMAGE + 4 * MAX_FIELDS * MAX_FIELD + 1024 * 1024
"""Bytes that the process sends at once: a row with the largest image and all its metadata, and some rows before it."""

Span = tuple[int, int]
"""First byte and number of bytes, in the file."""

PATH_ONLY = -1

Value = bytes | int | None
"""A cell. An image is its bytes; their number when they are more than MAX_IMAGE; PATH_ONLY when the row says a path
instead; None when there is nothing. Any other cell is text of MAX_FIELD characters at most, as the bytes that the file
has, which need not be UTF-8; or None."""

Row = tuple[int, tuple[Value, ...]]
"""A row's number in its group, and its cells."""


class Cell(msgspec.Struct, frozen=True, tag=True):
    """What is wanted of each row: a column by its number, or the field `part` of a column that is a struct."""

    column: int
    part: str = ""
    image: bool = False


class Open(msgspec.Struct, frozen=True, tag=True):
    """The end of a file, footer and magic bytes, and the size of the whole file."""

    footer: bytes
    size: int


class Locate(msgspec.Struct, frozen=True, tag=True):
    """Where are these cells of a row group?"""

    cells: tuple[Cell, ...]
    group: int


class Read(msgspec.Struct, frozen=True, tag=True):
    """Send the cells of a row group, `batch` rows at a time. The file `path` has the bytes of `spans`, one behind the
    other. `rows` are the ones wanted, ascending; None: all."""

    cells: tuple[Cell, ...]
    group: int
    path: str
    spans: tuple[Span, ...]
    batch: int
    rows: tuple[int, ...] | None


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The columns, and the number of rows in each row group."""

    columns: tuple[Column, ...]
    rows: tuple[int, ...]


class Located(msgspec.Struct, frozen=True, tag=True):
    """The spans of the cells, ascending, and the bytes that they have when they are unpacked."""

    spans: tuple[Span, ...]
    unpacked: int


class Rows(msgspec.Struct, frozen=True, tag=True):
    """Some rows of the group."""

    rows: tuple[Row, ...]


class Done(msgspec.Struct, frozen=True, tag=True):
    """The row group has no more rows."""


class Fault(msgspec.Struct, frozen=True, tag=True):
    """The library cannot read this file, or this row group; what it says of it."""

    text: str


Question = Open | Locate | Read
Answer = Opened | Located | Rows | Done | Fault

encode = msgspec.msgpack.encode
questions = msgspec.msgpack.Decoder(Question)
answers = msgspec.msgpack.Decoder(Answer)
