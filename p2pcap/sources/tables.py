"""Tables of addresses: Parquet, CSV, JSON Lines. Each row is an image; other columns are its key and metadata.

Always holds: each row with an address is in one list, once, in the table's order; a table of any size takes the memory
of one list.
"""

import re
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import islice

import structlog
import trio
from msgspec import UNSET

from p2pcap.errors import ConfigError, SourceError
from p2pcap.project.items import MAX_FIELD, MAX_KEY, MAX_LOCATION, Item, ItemList
from p2pcap.sources.columns import Column, field_columns, hash_column, item_key, key_column, path_of, url_column
from p2pcap.sources.files import Files
from p2pcap.sources.locations import DataFile, HubFile, Location
from p2pcap.sources.parquet_file import open_table
from p2pcap.sources.parquet_frames import Value
from p2pcap.sources.parquet_rows import Asked, Found, readable, rows
from p2pcap.sources.spec import Images
from p2pcap.sources.text_tables import Cells, cell_text, csv_table, json_table

log = structlog.get_logger()

JSON_NAMES = (".jsonl", ".ndjson", ".json")
NO_ADDRESS = frozenset({"", "none", "null", "nan"})
"""What tables say, in any case of letters, where there is no address."""

LONGEST_NONE = max(map(len, NO_ADDRESS))

MAX_TEXT = 8 * 1024 * 1024
"""Characters of a list; a row has 32 fields of 8,192 at most."""

AT_ONCE = 64
"""Rows of text that are read at a time; each may have a megabyte."""

HASH = re.compile(r"[0-9a-fA-F]{64}")


async def plan(files: Files, location: Location, images: Images, size: int) -> AsyncGenerator[ItemList, None]:
    """The rows of one table, in lists of at most `size`. Rows without an address are left out; the log says how many.

    Raises ConfigError when the columns are not there, or the file is no table; and what `files` raises.
    """
    lists = _Lists(location, size)
    async with aclosing(_rows(files, location, images)) as found:
        async for some in found:
            for row in some:
                if done := lists.add(row):
                    await trio.lowlevel.checkpoint()  # rows of text come without any
                    yield done
    if done := lists.take():
        yield done
    if lists.left_out:
        log.warning("rows have no address and are left out", file=str(location), rows=lists.left_out)


def _rows(files: Files, location: Location, images: Images) -> AsyncGenerator[list[Found], None]:
    name = _name(location)
    if name.endswith((".csv", ".tsv", ".txt", *JSON_NAMES)):
        return _text_rows(files, location, images, name)
    return _parquet_rows(files, location, images)


def _name(location: Location) -> str:
    if isinstance(location, HubFile | DataFile):
        return location.path.lower()
    return location.url.partition("?")[0].partition("#")[0].lower()


async def _parquet_rows(files: Files, location: Location, images: Images) -> AsyncGenerator[list[Found], None]:
    with readable(location):
        async with open_table(files, location) as table:
            async with aclosing(rows(table, _asked(table.columns, images))) as found:
                async for some in found:
                    yield some


def _asked(columns: tuple[Column, ...], images: Images) -> Asked:
    address, key, fields = url_column(columns, images), key_column(columns, images), field_columns(columns, images)
    return Asked(key, fields, hash_column(columns), address)


async def _text_rows(files: Files, location: Location, images: Images, name: str) -> AsyncGenerator[list[Found], None]:
    with tempfile.TemporaryFile(prefix="p2pcap-") as file:
        try:
            await files.save(location, 0, await files.size(location), file)
            file.seek(0)
        except OSError as error:
            raise SourceError(f"The table cannot be kept while planning: {error.strerror}. Make room.") from error
        try:
            table = json_table(file) if name.endswith(JSON_NAMES) else csv_table(file, "\t" * name.endswith(".tsv"))
            if not table.columns:  # an empty shard
                return
            asked = _asked(tuple(Column(column, "text") for column in table.columns), images)
            numbered = enumerate(table.rows)
            while some := [_found(number, cells, asked) for number, cells in islice(numbered, AT_ONCE)]:
                yield some
        except ValueError as error:
            raise ConfigError(f"{location} is no table: {error}. Mend that line, or leave the file out.") from error


def _found(number: int, cells: Cells, asked: Asked) -> Found:
    def cell(column: Column | None) -> str | None:
        return None if column is None else cell_text(cells.get(column.name))

    fields = {column.name: value[:MAX_FIELD] for column in asked.fields if (value := cell(column))}
    address = cell(asked.main)
    return Found(number, cell(asked.key), fields, cell(asked.hash), address.encode() if address else None)


class _Lists:
    """Makes lists of rows; `left_out` counts those without an address."""

    def __init__(self, location: Location, size: int) -> None:
        self._location, self._size = location, size
        self._path = path_of(location)
        self._items: list[Item] = []
        self._taken: set[str] = set()
        self._text = 0
        self.left_out = 0

    def add(self, found: Found) -> ItemList | None:
        """Take a row; the list before it when that is full."""
        url = address(found.main)
        if url is None:
            self.left_out += 1
            return None
        done = self.take() if len(self._items) == self._size or self._text > MAX_TEXT else None
        key = f"{self._path}#{found.row}"
        if found.key is not None or self._taken or len(key) > MAX_KEY:
            key = self._new_key(found)  # else item_key would say the same, more slowly
        self._text += len(key) + len(url)
        if found.fields:
            self._text += sum(map(len, found.fields.values()))
        hash_ = said_hash(found.hash) if found.hash else b""
        self._items.append(Item(key, hash_, 0, url, UNSET, found.fields or UNSET))
        return done

    def _new_key(self, found: Found) -> str:
        """A key that no row of the list has."""
        if not self._taken:
            self._taken.update(item.key for item in self._items)
        key = item_key(found.key, self._location, found.row, self._taken)
        self._taken.add(key)
        return key

    def take(self) -> ItemList | None:
        """The list of the rows since the last one; None when there are none."""
        items, self._items, self._taken, self._text = self._items, [], set(), 0
        return ItemList(tuple(items)) if items else None


def address(cell: Value) -> str | None:
    """The address that a cell holds, as it stands there; None for none, and for one that is too long for any."""
    found = cell.decode("utf-8", "replace").strip() if isinstance(cell, bytes) else ""
    if len(found) <= LONGEST_NONE and found.lower() in NO_ADDRESS:
        return None
    return None if len(found) > MAX_LOCATION else found


def said_hash(cell: str | None) -> bytes:
    """The hash in a cell of the column `sha256`; empty when it is none."""
    digits = (cell or "").strip()
    return bytes.fromhex(digits) if HASH.fullmatch(digits) else b""
