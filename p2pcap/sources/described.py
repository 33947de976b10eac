"""What `metadata.jsonl` and `metadata.csv` of an image folder say of its images, by the image's path.

Such a table has a column `file_name`, a path relative to the table's folder, as the library `datasets` has it. Always
holds: tables of any size lie in a temporary database on disk, not in memory; a stranger's row has bounds.
"""

import csv
import io
import posixpath
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import msgspec
import trio

from p2pcap.errors import ConfigError, SourceError
from p2pcap.project.items import MAX_KEY
from p2pcap.sources.files import Files
from p2pcap.sources.locations import HubFile
from p2pcap.sources.sidecars import Names, as_text

TABLES = ("metadata.jsonl", "metadata.csv")
NAME = "file_name"

MAX_LINE = 1024 * 1024
"""Characters of a row."""

BATCH = 1_000

Row = tuple[str, dict[str, str]]
"""An image's path and its fields."""


class Descriptions:
    """Fields by image. One thread at a time uses it."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", check_same_thread=False)  # a nameless database is a file that nobody sees
        self._rows.execute("CREATE TABLE rows (path TEXT PRIMARY KEY, fields BLOB) WITHOUT ROWID")

    def close(self) -> None:
        """Remove it."""
        self._rows.close()

    def add(self, rows: Iterable[Row]) -> None:
        """What is said twice of an image counts as it was said last."""
        encoded = ((path, msgspec.json.encode(fields)) for path, fields in rows if fields)
        self._rows.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", encoded)

    def of(self, paths: Sequence[str]) -> dict[str, dict[str, str]]:
        """The fields of those of the images that any table names."""
        found = {}
        for path in paths:
            row = self._rows.execute("SELECT fields FROM rows WHERE path = ?", (path,)).fetchone()
            if row:
                found[path] = msgspec.json.decode(row[0], type=dict[str, str])
        return found


async def read_table(
    files: Files, location: HubFile, size: int, names: Sequence[str], into: Descriptions, met: Names
) -> None:
    """Add the table of `size` bytes to `into`: of its columns those in `names`; `met` is told all that it has. Raises
    ConfigError when it is no such table, and as `Files.save` does."""
    with tempfile.TemporaryFile() as file:
        await files.save(location, 0, size, file)
        await trio.to_thread.run_sync(_add, file, location.path, names, into, met)


def _add(file: BinaryIO, path: str, names: Sequence[str], into: Descriptions, met: Names) -> None:
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        into.add(_rows(text, path, names, met))
    except (ValueError, csv.Error, RecursionError) as error:  # msgspec's and Unicode's errors are ValueErrors
        raise ConfigError(
            f"{path} does not describe images: {_first(error)}. Have it mended (a table with a column {NAME}), or take "
            "no images.fields."
        ) from error
    except sqlite3.Error as error:
        raise SourceError(f"{path} cannot be kept on disk: {error}. Make room in the temporary folder.") from error
    finally:
        text.detach()


def _rows(text: io.TextIOWrapper, path: str, names: Sequence[str], met: Names) -> Iterator[Row]:
    folder = posixpath.dirname(path)
    for row in _csv(text) if path.endswith(".csv") else _jsonl(text):
        met.add(column for column in row if column)  # csv has what is beyond the header under None
        name = row.get(NAME)
        if not isinstance(name, str):
            raise ValueError(f"a row has no {NAME}")
        image = posixpath.normpath(posixpath.join(folder, name))
        if len(image) <= MAX_KEY:
            texts = {column: as_text(row.get(column)) for column in names}
            yield image, {column: value for column, value in texts.items() if value}


def _csv(text: io.TextIOWrapper) -> Iterator[Mapping[str, object]]:
    lines = _Lines(text)
    for row in csv.DictReader(lines, strict=True):
        lines.taken = 0
        yield row


class _Lines:
    """The lines of a table; together at most MAX_LINE characters until `taken` is set back, which ends a row."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE + 1):
            self.taken += len(line)
            if self.taken > MAX_LINE:
                raise ValueError(f"a row has over {MAX_LINE} characters")
            yield line


def _jsonl(text: io.TextIOWrapper) -> Iterator[Mapping[str, object]]:
    lines = _Lines(text)
    for line in lines:
        lines.taken = 0
        if line.strip():
            yield msgspec.json.decode(line, type=dict[str, object])


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
