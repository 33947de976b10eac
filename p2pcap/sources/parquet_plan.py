"""Planning the images of a Parquet file: lists of whole row groups.

Always holds: each row is in one list, once, at its row within the list's row groups.
"""

import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import accumulate
from typing import NamedTuple

import structlog
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_GROUPS, MAX_LOCATION, Item, ItemList, ParquetRows
from p2pcap.project.records import MAX_CHUNK
from p2pcap.sources.columns import Column, field_columns, image_column, item_key, key_column
from p2pcap.sources.files import Files
from p2pcap.sources.locations import DataFile, Location
from p2pcap.sources.parquet_file import Table, open_table
from p2pcap.sources.parquet_frames import PATH_ONLY
from p2pcap.sources.parquet_rows import Asked, Found, readable, rows
from p2pcap.sources.spec import Images

log = structlog.get_logger()

MAX_TEXT = 8 * 1024 * 1024
"""Characters of keys and metadata in a list. Row groups with more make several lists, each of which reads them."""

MAX_COLUMN = 256
"""Characters of a column's name (items.Column)."""


async def plan(files: Files, location: Location, images: Images, size: int) -> AsyncGenerator[ItemList, None]:
    """The images of one file, in lists of whole row groups: small groups joined up to `size` images, a larger one by
    itself. Where the images are hashed, rows without one are left out.

    Raises ConfigError when the columns are not there, or the file is no Parquet file; and what `files` raises.
    """
    left_out = 0
    with readable(location):
        async with open_table(files, location) as table:
            column = _image_column(table, location, images)
            asked = _asked(table, column, location, images)
            lists = _Lists(location, table, column.name, size)
            async with aclosing(rows(table, asked)) as found:
                async for some in found:
                    for row in some:
                        if asked.main and row.main in (None, PATH_ONLY):
                            left_out += 1
                        elif done := lists.add(row):
                            yield done
            if done := lists.take():
                yield done
    if left_out:
        log.warning("rows hold no image and are left out", file=str(location), rows=left_out)


def _image_column(table: Table, location: Location, images: Images) -> Column:
    column = image_column(table.columns, images)
    if len(column.name) > MAX_COLUMN or len(str(location)) > MAX_LOCATION:
        raise ConfigError(f"The name of {location}, or of its column of images, is too long. Rename it.")
    return column


def _asked(table: Table, column: Column, location: Location, images: Images) -> Asked:
    """The images themselves are read only to be hashed."""
    key = key_column(table.columns, images) or (column if column.path else None)
    fields = field_columns(table.columns, images)
    if images.hashes or isinstance(location, DataFile):
        return Asked(key, fields, main=column, image=True)
    return Asked(key, fields)


class Part(NamedTuple):
    """Row groups of a list, and the number of the first row behind it."""

    groups: tuple[int, ...]
    end: int


def parts(counts: Sequence[int], size: int) -> Iterator[Part]:
    """The lists that row groups with so many rows make."""
    groups: list[int] = []
    taken, end = 0, 0
    for number, count in enumerate(counts):
        if groups and (taken + count > size or len(groups) == MAX_GROUPS):
            yield Part(tuple(groups), end)
            groups, taken = [], 0
        if count > MAX_CHUNK:
            yield from (Part((number,), stop) for stop in range(end + MAX_CHUNK, end + count, MAX_CHUNK))
        end += count
        taken += count
        if count:
            groups.append(number)
    if groups:
        yield Part(tuple(groups), end)


class _Lists:
    """Makes lists of rows that come in order."""

    def __init__(self, location: Location, table: Table, column: str, size: int) -> None:
        self._location, self._column, self._file_size = location, column, table.size
        self._starts = list(accumulate(table.rows, initial=0))
        self._parts = parts(table.rows, size)
        self._part = Part((), 0)
        self._items: list[Item] = []
        self._taken: set[str] = set()
        self._text = 0

    def add(self, found: Found) -> ItemList | None:
        """Take a row; the list before it when that is full."""
        done = self.take() if found.row >= self._part.end or self._text > MAX_TEXT else None
        while found.row >= self._part.end:
            self._part = next(self._parts)
        key = item_key(found.key, self._location, found.row, self._taken)
        self._taken.add(key)
        self._text += len(key) + sum(map(len, found.fields.values()))
        at = found.row - self._starts[self._part.groups[0]]
        image = found.main if isinstance(found.main, bytes) else None
        hash_ = b"" if image is None else hashlib.sha256(image).digest()
        self._items.append(Item(key, hash_, len(image or b""), at=at, fields=found.fields or UNSET))
        return done

    def take(self) -> ItemList | None:
        """The list of the rows since the last one; None when there are none."""
        items, self._items, self._taken, self._text = self._items, [], set(), 0
        if not items:
            return None
        part = ParquetRows(str(self._location), self._file_size, self._part.groups, self._column)
        return ItemList(tuple(items), parquet=part)
