"""Captions into the indexes of webshart: beside each entry of a shard's JSON, under `captions`.

An index `part-0001.json` says where the members of `part-0001.tar` are. It is read, given captions, and put back whole;
whatever else it says stays. Its entries are strangers' text, as the file may have been downloaded.

Always holds: an index is changed only in `captions` (and `caption`, which webshart reads as the same), and those of
somebody else are replaced only where that was asked for; memory is that of one index.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from p2pcap.errors import ConfigError
from p2pcap.export.ahead import reading_ahead
from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts, counted
from p2pcap.export.destination import whole_path
from p2pcap.export.image_names import FOLDER
from p2pcap.export.sidecars import texts_of
from p2pcap.export.source import Source

MAX_INDEX = 512 * 1024 * 1024
"""Bytes of an index: a million members have 100 MB."""

NO_INDEX, NO_ENTRY = "without an index in the folder", "that the index does not list"

SELECT = f"""
SELECT {FOLDER} AS shard, k AS key, place, content, chunk AS c, item AS i,
    CASE WHEN skip IS NOT NULL THEN skip WHEN f IS NULL THEN '{NO_INDEX}' WHEN content IS NULL THEN 'without text' END
        AS skip, failed, chunk, item
FROM ({{texts}}) ORDER BY chunk, item, number"""


class Member(NamedTuple):
    """What is said of an image that is a part of a shard: the shard's path without its ending, the image's key, the
    first byte of its content in the tar, a caption, and its chunk and item."""

    shard: str
    key: str
    place: int | None
    content: str
    chunk: int
    item: int


Captioned = tuple[Member, list[str]]
"""An image with its captions."""


def write_webshart(
    source: Source, asked: Asked, destination: Path, *, force: bool, progress: Callable[[int], None]
) -> Counts:
    """Write captions into the indexes in the folder `destination`, `PATH.json` or `NAME.json` for the shard `PATH.tar`.
    Captions that are not these are replaced only with `force`. Raises ConfigError, QueryError, StoreError."""
    if not destination.is_dir():
        raise ConfigError(f"There is no folder {destination}. Name the one with webshart's indexes, a .json for a tar.")
    counts = Counts()
    with source.parts(SELECT.format(texts=texts_of(asked)), "image") as rows, reading_ahead(rows) as batches:
        members = (
            Member(*row)
            for batch in counted(batches, counts, asked.limit, progress)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        for shard, found in groupby(members, key=attrgetter("shard")):
            _into_index(destination, shard, _by_image(found), counts, force=force)
    return counts


def _into_index(folder: Path, shard: str, captions: list[Captioned], counts: Counts, *, force: bool) -> None:
    path = _index(folder, shard)
    missing = len(captions) if path is None else _update(path, captions, force=force)
    for _ in range(missing):
        counts.drop(NO_INDEX if path is None else NO_ENTRY)


def _by_image(members: Iterator[Member]) -> list[Captioned]:
    """The images of one shard, each with its captions."""
    found = groupby(members, key=attrgetter("chunk", "item"))
    images = [list(rows) for _, rows in found]
    return [(rows[0], [text for row in rows for text in row.content.split("\n")]) for rows in images]


def _index(folder: Path, shard: str) -> Path | None:
    """The shard's index. A shard's name is strangers' text: one that leads out of the folder has none."""
    parts = shard.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return None
    places = (folder / f"{shard}.json", folder / f"{parts[-1]}.json")
    return next((place for place in places if place.is_file()), None)


def _update(path: Path, captions: Sequence[Captioned], *, force: bool) -> int:
    """Give the entries of the index their captions. Returns how many images have no entry."""
    index, entries = _read(path)
    by_place = {entry.get("offset"): entry for _, entry in entries}
    by_name = {name: entry for path_in_tar, entry in entries for name in _names(path_in_tar)}
    missing = 0
    for member, texts in captions:
        entry = by_place.get(member.place) if member.place is not None else None
        entry = entry or by_name.get(member.key)
        missing += entry is None
        if entry is not None:
            _set(path, member, entry, texts, force=force)
    with whole_path(path, force=True) as part:
        part.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return missing


def _read(path: Path) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """The index, and those of its entries that may be images, by their path in the tar. Raises ConfigError."""
    try:
        if path.stat().st_size > MAX_INDEX:
            raise ConfigError(f"{path} has more than {MAX_INDEX} bytes. Is it an index of webshart?")
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the folder.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON. Make the index anew with webshart extract-metadata.") from error
    files = index.get("files") if isinstance(index, dict) else None
    if isinstance(files, dict):
        return index, [(name, entry) for name, entry in files.items() if isinstance(entry, dict) and _may_be(name)]
    if isinstance(files, list):
        named = [(_path_of(entry), entry) for entry in files if isinstance(entry, dict)]
        return index, [(name, entry) for name, entry in named if name is not None and _may_be(name)]
    raise ConfigError(f"{path} has no list of files. Make the index anew with webshart extract-metadata.")


def _path_of(entry: dict[str, Any]) -> str | None:
    found = entry.get("path") or entry.get("filename") or entry.get("fname")
    return found if isinstance(found, str) else None


def _may_be(name: str) -> bool:
    """Not what is said beside an image."""
    return not name.lower().endswith(".json")


def _names(path: str) -> tuple[str, ...]:
    """The keys that an image at this path in a tar may have: whole, without its ending, and as webdataset cuts it."""
    folder, slash, last = path.removeprefix("./").rpartition("/")
    return (
        path,
        folder + slash + last,
        folder + slash + last.rpartition(".")[0],
        folder + slash + last.partition(".")[0],
    )


def _set(path: Path, member: Member, entry: dict[str, Any], texts: list[str], *, force: bool) -> None:
    """Raises ConfigError where the entry has other captions and they may not be replaced."""
    before = entry.get("captions", entry.get("caption"))
    if before not in (None, "", [], texts, texts[0] if len(texts) == 1 else None) and not force:
        raise ConfigError(f"{path} has other captions for {member.key}. Add --force to replace them.")
    entry.pop("caption", None)
    entry["captions"] = texts
