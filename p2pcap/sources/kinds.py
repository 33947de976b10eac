"""Of what kind a file is by its name, and which kinds of files are taken where there are several.

Always holds: what is kept of a listing has a bound; what is left out by itself is said.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Literal

import structlog

from p2pcap.errors import ConfigError
from p2pcap.sources import described, hub
from p2pcap.sources.folder import SUFFIXES
from p2pcap.sources.spec import Kind

log = structlog.get_logger()

FileKind = Literal["parquet", "urls", "tar", "image", "stream", ""]

PARQUET = (".parquet", ".geoparquet", ".gpq")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
TAR = ".tar"
"""Compressed ones have no place that can be read alone; they are streamed."""

METADATA = "metadata.parquet"
"""Says something of the image files beside it, as the library `datasets` has it, and holds none."""

ABOUT = (".json", ".txt", ".caption", ".md", METADATA, *described.TABLES)
"""Ends of the names of files that describe others; nobody misses them among the images."""

ORDER: Mapping[Kind, tuple[tuple[FileKind, ...], ...]] = {
    "auto": (("parquet", "tar"), ("image",), ("stream",), ("urls",)),
    "folder": (("image",),),
    "files": (("image",),),
    "parquet": (("parquet",),),
    "urls": (("parquet", "urls"),),
    "tar": (("tar",),),
    "stream": (("stream", "parquet", "tar", "urls"),),
}
"""Kinds of files that are taken, the first of these groups that there is one of: files that hold many images come
before loose ones, which may be examples, and these before tables, which may describe them."""

DECIDED: Mapping[Kind, FileKind] = {"parquet": "parquet", "urls": "urls", "tar": "tar", "stream": "stream"}
"""Kinds that the maintainer may give to files whatever their names are."""

MAX_ENDINGS = 1_000
"""Different endings of names that are counted by themselves."""


def kind_of(path: str) -> FileKind:
    """What a file is by its name; empty for none of the kinds that hold images."""
    name = path.rsplit("/", 1)[-1].lower()
    if name.endswith(PARQUET):
        return "parquet"
    if name.endswith(TABLES):
        return "urls"
    if name.endswith(TAR):
        return "tar"
    if PurePosixPath(name).suffix in SUFFIXES:
        return "image"
    return "stream" if _streamable(path) else ""


def _streamable(path: str) -> bool:
    from p2pcap.sources.streamed import builders

    return builders(path) is not None


def pick(paths: Iterable[str], kind: Kind, source: str, *, each_image: bool) -> list[str]:
    """Those of the files that hold the images, in order of their paths; of image files only one, unless `each_image`.

    Raises ConfigError, naming what there is, when there are none.
    """
    listing = _Listing(source, each_image)
    for path in paths:
        listing.add(path)
    if kind == "auto" and "image" in listing.names:
        listing.without_metadata()
    for group in ORDER[kind]:
        if picked := [path for one in group for path in listing.names.get(one, ())]:
            if kind == "auto" and (others := listing.others(group)):
                log.warning("files of other kinds are left out", source=source, files=others)
            return sorted(picked)
    if kind in DECIDED and listing.number == 1 and listing.names.get(""):
        return listing.names[""]  # the maintainer says what it is
    raise ConfigError(
        f"{source} has no files of images{'' if kind == 'auto' else f' for images.kind {kind}'}; it has "
        f"{counted(listing.endings) or 'no files'}. Correct images.source, or images.kind."
    )


class _Listing:
    """Files by kind. Of those that are not looked at by name only the first is kept; all are counted by ending."""

    def __init__(self, source: str, each_image: bool) -> None:
        self.names: dict[FileKind, list[str]] = {}
        self.endings: Counter[str] = Counter()
        self.number = 0
        self._source = source
        self._counted_only = ("",) if each_image else ("", "image")
        self._left: dict[FileKind, Counter[str]] = {}

    def add(self, path: str) -> None:
        """One more file. Raises ConfigError when there are too many."""
        kind = kind_of(path)
        names = self.names.setdefault(kind, [])
        if not names or kind not in self._counted_only:
            names.append(path)
        if len(names) > hub.MAX_FILES:
            raise ConfigError(f"{self._source} has over {hub.MAX_FILES} files. Name a part of them with a pattern.")
        ending = _ending(path)
        ending = ending if ending in self.endings or len(self.endings) < MAX_ENDINGS else "other"
        self.endings[ending] += 1
        self.number += 1
        if not path.lower().endswith(ABOUT):
            self._left.setdefault(kind, Counter())[ending] += 1

    def without_metadata(self) -> None:
        """Leave out the tables that describe image files."""
        names = [path for path in self.names.get("parquet", ()) if path.rsplit("/", 1)[-1] != METADATA]
        self.names["parquet"] = names

    def others(self, taken: tuple[FileKind, ...]) -> str:
        """How many files of other kinds than those `taken` there are, by ending."""
        left = (endings for kind, endings in self._left.items() if kind not in taken)
        return counted(sum(left, Counter()))


def _ending(path: str) -> str:
    name = PurePosixPath(path)
    return (name.suffix.lower() or name.name).encode("utf-8", "replace").decode()


def counted(endings: Counter[str]) -> str:
    """ "2 × .tar, 1 × .md", the most frequent first."""
    return ", ".join(f"{count} × {ending}" for ending, count in endings.most_common(8))
