"""Formats of text in one file: SQL renders the lines, and here they are joined.

DuckDB makes the lines in its own threads, millions a second, and Arrow brings them as one stretch of bytes, which is
written as it is, without a copy. Always holds: the bytes depend on the rows alone; memory does not grow with their
number.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from p2pcap.export.ahead import reading_ahead
from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts, counted
from p2pcap.export.destination import whole_file
from p2pcap.export.escape import is_plain, safe_json
from p2pcap.export.source import Order, Source

STDOUT = Path("-")

Progress = Callable[[int], None]


def write(
    source: Source,
    sql: str,
    order: Order,
    asked: Asked,
    destination: Path,
    *,
    force: bool,
    progress: Progress,
    head: bytes = b"",
    escape: bool = False,
) -> Counts:
    """Write `head`, then the column `line` of `sql`; with `escape` as JSON that may be shown on a terminal. "-" is
    standard output.

    Raises ConfigError when the file exists (unless `force`) or cannot be written; what the source raises.
    """
    counts = Counts()
    with source.parts(sql, order) as rows, reading_ahead(rows) as batches:
        lines = _lines(counted(batches, counts, asked.limit, progress), escape)
        if destination == STDOUT:
            _into(sys.stdout.buffer, head, lines)
            sys.stdout.buffer.flush()
        else:
            with whole_file(destination, force=force) as file:
                _into(file, head, lines)
    return counts


def _into(file: BinaryIO, head: bytes, lines: Iterator[bytes | memoryview]) -> None:
    file.write(head)
    for part in lines:
        file.write(part)


def _lines(batches: Iterator[Any], escape: bool) -> Iterator[bytes | memoryview]:
    for batch in batches:
        data = text_of(batch.column("line"))
        yield safe_json(bytes(data)) if escape and not is_plain(data) else data


def text_of(column: Any) -> memoryview:
    """All texts of an Arrow column without nulls, one after the other."""
    _, offsets, data = column.buffers()
    ends = memoryview(offsets).cast("i")
    return memoryview(data or b"")[ends[column.offset] : ends[column.offset + len(column)]]
