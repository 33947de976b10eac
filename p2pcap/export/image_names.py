"""What the files about an image are called: as the image's own path, without its ending.

A key is strangers' text, unique in its chunk only, and `a.jpg` and `a.png` may lie side by side. So where two images
would have one name, each is called by its whole name, and where that is not enough, by its place in the project too.

Always holds: a name is a relative path that leads nowhere above its folder; two images never have one name, not even
on a disk that takes capitals for small letters; the names are equal on nodes with equal tables, whatever is exported.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from p2pcap.export.ahead import reading_ahead
from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts, counted
from p2pcap.export.source import Source

ENDINGS = "jpg|jpeg|png|webp|gif|bmp|tif|tiff|avif|jp2|jxl|heic"
"""Of image files, which trainers cut off to find the text beside an image."""

FOLDER = (
    r"regexp_replace(regexp_replace(f, '^(file:|hf://(datasets/)?[^/]+/[^/]+/|[a-z]+://[^/]+/)', ''), '\.[^/.]+$', '')"
)
"""SQL: a folder for the images of the file `f`, by its path without its ending."""

PLACED = f"coalesce({FOLDER} || '/', '') || k"
NUMBERED = f"([.][0-9]+-[0-9]+)(([.]({ENDINGS}))?)$"
UNUSUAL = rf"(^|/)[.]{{0,2}}(/|$)|[\x00-\x1f\x7f]|[^/]{{50,}}|{NUMBERED}"
"""Empty parts, `.` and `..`; control characters; parts that may be too long for a disk; what names below end in."""

PART = f"""CASE WHEN x IN ('.', '..') THEN '_'
    WHEN strlen(x) > 200 THEN left(x, 40) || '-' || left(sha256(x), 16)
    ELSE regexp_replace(x, '{NUMBERED}', '\\1_\\2', 'i') END"""
PARTS = r"string_split(regexp_replace(placed, '[\x00-\x1f\x7f]', '_', 'g'), '/')"
CLEANED = f"coalesce(nullif(array_to_string([{PART} FOR x IN {PARTS} IF x <> ''], '/'), ''), '_')"
PATH = f"CASE WHEN regexp_matches(placed, '{UNUSUAL}') THEN {CLEANED} ELSE placed END"
STEM = rf"regexp_replace(path, '(?i)([^/])\.({ENDINGS})$', '\1')"

WITH_ROWS = """
SELECT key AS k, file AS f FROM item i
WHERE EXISTS (SELECT 1 FROM counted c WHERE c.chunk = i.chunk AND c.item = i.item)"""


def _named_sql(images: str) -> str:
    """SQL: the images with their path and that without its ending; they give key and file as `k` and `f`."""
    placed = f"SELECT *, {PLACED} AS placed FROM ({images})"
    return f"SELECT *, {STEM} AS stem FROM (SELECT *, {PATH} AS path FROM ({placed}))"


CONTESTED = f"""
WITH named AS ({_named_sql(WITH_ROWS)})
SELECT h FROM (
    SELECT hash(lower(stem)) AS h FROM named
    UNION ALL SELECT hash(lower(path)) FROM named WHERE path <> stem
) GROUP BY h HAVING count(*) > 1"""
"""The hashes of names that more than one image could have. Two names of one hash cost a longer name, nothing else."""


class Named(NamedTuple):
    """One image: its whole path, the name of files about it without their ending, and what an export says of it."""

    path: str
    name: str
    content: str


@contextmanager
def images(
    source: Source, asked: Asked, rows: str, counts: Counts, progress: Callable[[int], None]
) -> Iterator[Iterator[Named]]:
    """The images with rows that are asked for, in order. `rows` is SQL for a relation with the columns `k` and `f` (key
    and file), `content`, `chunk`, `item`, `number` (which orders the rows of an image), `skip` and `failed`. What an
    image's rows say is joined by line feeds; a row whose content is NULL is left out."""
    contested = {value for batch in source.select(CONTESTED) for value in batch.column(0).to_pylist()}
    hashes = "hash(lower(stem)) AS s, hash(lower(path)) AS p" if contested else "0 AS s, 0 AS p"
    sql = f"""
        SELECT path, stem, {hashes}, content, chunk AS c, item AS i,
            CASE WHEN skip IS NOT NULL THEN skip WHEN k IS NULL THEN 'of lists that are not here'
                WHEN content IS NULL THEN 'without text' END AS skip, failed, chunk, item
        FROM ({_named_sql(rows)}) ORDER BY chunk, item, number"""
    with source.parts(sql, "image") as found, reading_ahead(found) as batches:
        rows_of_images = (row for batch in counted(batches, counts, asked.limit, progress) for row in _rows(batch))
        yield _merged(rows_of_images, contested)


Row = tuple[str, str, int, int, str, int, int]
"""Path, stem, the hashes of both, content, chunk and item."""


def _rows(batch: Any) -> Iterator[Row]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _merged(rows: Iterator[Row], contested: set[int]) -> Iterator[Named]:
    """The rows of one image, which are neighbours, as one."""
    path, stem, stem_hash, path_hash, content, chunk, item = next(rows, NOBODY)
    for row in rows:
        if row[6] == item and row[5] == chunk:
            content = f"{content}\n{row[4]}"
            continue
        yield Named(path, _name(path, stem, stem_hash, path_hash, chunk, item, contested), content)
        path, stem, stem_hash, path_hash, content, chunk, item = row
    if chunk >= 0:
        yield Named(path, _name(path, stem, stem_hash, path_hash, chunk, item, contested), content)


NOBODY: Row = ("", "", 0, 0, "", -1, -1)


def _name(path: str, stem: str, stem_hash: int, path_hash: int, chunk: int, item: int, contested: set[int]) -> str:
    if stem_hash not in contested:
        return stem
    return path if path_hash not in contested else f"{path}.{chunk}-{item}"
