"""The rows of a Parquet file for planners: key, metadata and one more column, read row group by row group.

Always holds: every row comes once, in order; only the columns that are asked for are moved, and they lie on disk one
row group at a time.
"""

import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from p2pcap.errors import ConfigError
from p2pcap.sources.child import ChildFailed, ChildSlow
from p2pcap.sources.columns import Column
from p2pcap.sources.locations import Location
from p2pcap.sources.parquet_file import Table, Unreadable, batch_rows, merged
from p2pcap.sources.parquet_frames import Cell, Read, Row, Span, Value

NEAR = 64 * 1024
"""Bytes between two columns that are moved with them: that is faster than another request."""


MAX_SYNTHETIC = 1_024
"""Rows that are handed on at once where nothing of them is read."""


NO_FIELDS: dict[str, str] = {}


class Found(NamedTuple):
    """A row: its number in the file, its key and metadata as they stand there, the hash that it says, and its cell of
    the main column."""

    row: int
    key: str | None
    fields: dict[str, str]
    hash: str | None
    main: Value


@dataclass(frozen=True)
class Asked:
    """The columns that a planner reads. `image`: the cells of `main` are image files."""

    key: Column | None
    fields: Sequence[Column] = ()
    hash: Column | None = None
    main: Column | None = None
    image: bool = False

    def cells(self, columns: Sequence[Column]) -> list[Cell]:
        """One for each column that is asked for: key, fields, hash, main."""
        found = [self.key, *self.fields, self.hash, self.main]
        cells = [Cell(columns.index(column)) for column in found if column]
        if self.key and self.key.path:  # the struct that holds the image names it
            cells[0] = Cell(cells[0].column, "path")
        if self.image:
            cells[-1] = Cell(cells[-1].column, image=True)
        return cells

    def found(self, first: int, some: Sequence[Row]) -> list[Found]:
        """What the cells of some rows say; `first` is the first row of their group."""
        if self.main and not (self.key or self.fields or self.hash):
            return [Found(first + row, None, NO_FIELDS, None, main) for row, (main,) in some]
        return [self._found(first + row, values) for row, values in some]

    def _found(self, row: int, values: Sequence[Value]) -> Found:
        left = iter(values)
        key = text(next(left)) if self.key else None
        fields = {column.name: value for column in self.fields if (value := text(next(left)))}
        hash_ = text(next(left)) if self.hash else None
        return Found(row, key, fields, hash_, next(left) if self.main else None)


async def rows(table: Table, asked: Asked) -> AsyncGenerator[list[Found], None]:
    """Every row of the table, some at a time: a step of an asynchronous generator costs as much as a row. Raises
    Unreadable, ChildFailed, ChildSlow, and what `Files.save` raises."""
    cells = tuple(asked.cells(table.columns))
    with tempfile.TemporaryDirectory(prefix="p2pcap-", ignore_cleanup_errors=True) as scratch:
        for group, (first, count) in enumerate(zip(accumulate(table.rows, initial=0), table.rows, strict=False)):
            expected = 0
            async with aclosing(_group(table, cells, group, Path(scratch, "columns"))) as parts:
                async for part in parts:
                    if [row for row, _ in part] != list(range(expected, expected + len(part))):
                        raise Unreadable("A row group of the file has other rows than it says.")
                    expected += len(part)
                    yield asked.found(first, part)
            if expected != count:
                raise Unreadable(f"A row group of the file has {expected} rows; it says {count}.")


async def _group(table: Table, cells: tuple[Cell, ...], group: int, path: Path) -> AsyncGenerator[Sequence[Row], None]:
    if not table.rows[group]:
        return
    if not cells:
        for start in range(0, table.rows[group], MAX_SYNTHETIC):
            yield [(row, ()) for row in range(start, min(start + MAX_SYNTHETIC, table.rows[group]))]
        return
    place = await table.locate(cells, group)
    spans = tuple(merged(place.spans, near))
    await table.save(spans, path)
    read = Read(cells, group, str(path), spans, batch_rows(table.rows[group], place.unpacked), None)
    async with aclosing(table.read(read)) as parts:
        async for part in parts:
            yield part


def near(left: Span, right: Span) -> bool:
    """Whether what lies between two columns is moved with them."""
    return right[0] - sum(left) <= NEAR


def text(value: Value) -> str | None:
    """A cell of text; None for a blank one."""
    found = value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
    return found if found and not found.isspace() else None


@contextmanager
def readable(location: Location) -> Iterator[None]:
    """For planners: a file that cannot be read is a ConfigError."""
    try:
        yield
    except (Unreadable, ChildFailed, ChildSlow) as error:
        raise ConfigError(f"{location} cannot be planned. {error} Leave it out, or write it anew.") from error
