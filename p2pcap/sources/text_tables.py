"""CSV and JSON Lines, row by row.

Always holds: of a table of any size one row is in memory, and a row has at most MAX_ROW bytes; what is no table raises
ValueError with the line's number, and no row is passed over in silence.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import BinaryIO

import msgspec

MAX_ROW = 1024 * 1024
"""Bytes of a row. A field of CSV may have 128 Ki characters (csv.field_size_limit)."""

FIRST_ROWS = 100
"""Objects of JSON Lines that are looked at to know the columns."""

BOM = b"\xef\xbb\xbf"

Cells = Mapping[str, object]

_objects = msgspec.json.Decoder(dict[str, object])


class TextTable:
    """The rows of a file. `columns` are known before the first row is taken."""

    def __init__(self, columns: Sequence[str], rows: Iterator[Cells]) -> None:
        self.columns = columns
        self.rows = rows


def csv_table(file: BinaryIO, delimiter: str = "") -> TextTable:
    """A table with a header; without `delimiter` it is told from the header. Raises ValueError, as its rows do."""
    rows = _csv_rows(_Lines(file), delimiter)
    header = next(rows, [])
    return TextTable(header, (dict(zip(header, row, strict=False)) for row in rows))


def json_table(file: BinaryIO) -> TextTable:
    """An object a line. Raises ValueError, as its rows do."""
    rows = _json_rows(file)
    first = list(islice(rows, FIRST_ROWS))
    return TextTable(list(dict.fromkeys(name for row in first for name in row)), chain(first, rows))


def cell_text(value: object) -> str | None:
    """A cell as text: JSON where it is none; None for a blank one."""
    if value is None or value != value:  # NaN, which Python writes into JSON where there is nothing
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text, but JSON can hold it
    return text if text and not text.isspace() else None


def _delimiter(header: str) -> str:
    """A comma, unless there is none and another usual one is there."""
    return next((mark for mark in ",\t;|" if mark in header), ",")


class _Lines:
    """The lines of a table, which together have at most MAX_ROW bytes until `row` is called. `number` is the last's."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._taken = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW + 1):
            self.number += 1
            self._taken += len(line)
            if self._taken > MAX_ROW:
                raise ValueError(f"a row has over {MAX_ROW} bytes")
            yield line.removeprefix(BOM if self.number == 1 else b"").decode()

    def row(self) -> None:
        """A row ends."""
        self._taken = 0


def _csv_rows(lines: _Lines, delimiter: str) -> Iterator[list[str]]:
    try:
        source = iter(lines)
        first = next(source, "")
        for row in csv.reader(chain([first], source), delimiter=delimiter or _delimiter(first), strict=True):
            lines.row()
            if row:
                yield row
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {lines.number}: {error}") from error


def _json_rows(file: BinaryIO) -> Iterator[Cells]:
    number = 0
    while line := file.readline(MAX_ROW + 1):
        number += 1
        if len(line) > MAX_ROW:
            raise ValueError(f"line {number}: a row has over {MAX_ROW} bytes")
        if row := line.removeprefix(BOM if number == 1 else b"").strip():
            try:
                yield _object(row)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error


def _object(row: bytes) -> Cells:
    try:
        return _objects.decode(row)
    except msgspec.DecodeError:
        found = json.loads(row)  # slower, but it takes NaN and halves of surrogate pairs, which Python writes
        if not isinstance(found, dict):
            raise
        return found
