"""Where a project's images are: which files of a folder, a dataset of the Hub or the web hold them, and of what kind.

Only names are looked at here, never what is in the files. Always holds: files come in order of their paths, and what
is kept of a listing has a bound.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

import trio

from p2pcap.errors import ConfigError
from p2pcap.sources import hub
from p2pcap.sources.files import Files
from p2pcap.sources.folder import SUFFIXES
from p2pcap.sources.hub import HubDataset, RepoFile
from p2pcap.sources.locations import DataFile, Location, WebFile
from p2pcap.sources.spec import Images, Kind
from p2pcap.sources.splits import MAX_CARD, chosen, is_data, matches

FileKind = Literal["parquet", "urls", "tar", "image", "stream", ""]

PARQUET = (".parquet", ".geoparquet", ".gpq")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
TAR = ".tar"
"""Compressed ones have no place that can be read alone; they are streamed."""

METADATA = "metadata.parquet"
"""Says something of the image files beside it, as the library `datasets` has it, and holds none."""

WILD = re.compile(r"[*?\[]")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")

MAX_ADDRESSES = 100_000
"""Files that one address with a {00000..99999} stands for."""


@dataclass(frozen=True)
class Shard:
    """A file that holds images, or their addresses. A "parquet" may turn out to be a table of addresses."""

    location: Location
    kind: FileKind


@dataclass(frozen=True)
class LocalFolder:
    """A folder of image files on the maintainer's disk."""

    path: Path


@dataclass(frozen=True)
class Shards:
    """Files to plan one after the other. `decided`: the maintainer said of what kind they are."""

    shards: Sequence[Shard]
    decided: bool


@dataclass(frozen=True)
class HubImages:
    """Image files on the Hub, and `files`, all that lies around them."""

    dataset: HubDataset
    images: Sequence[RepoFile]
    files: Sequence[RepoFile]


Found = LocalFolder | Shards | HubImages


async def find(files: Files, base: Path, images: Images) -> Found:
    """What `images.source` names; paths are relative to `base`. Raises ConfigError when there is nothing to caption,
    SourceUnavailable and SourceDenied when the Hub cannot be asked."""
    if images.source.startswith(hub.HUB):
        return await _on_hub(files, images)
    if _on_web(images.source):
        return _of_addresses(images)
    return await trio.to_thread.run_sync(_on_disk, base, images, abandon_on_cancel=True)


def data_folder(base: Path, images: Images) -> Path | None:
    """The folder that the places of local files are relative to; None where the source is not local."""
    if images.source.startswith(hub.HUB) or _on_web(images.source):
        return None
    root, pattern = _local(base, images)
    return root.parent if not pattern and root.is_file() else root


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


def _on_web(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


# --- the Hub


async def _on_hub(files: Files, images: Images) -> Found:
    dataset = await hub.resolve(images.source)
    listed = await hub.files(dataset, lambda path: is_data(path) or path == "README.md")
    card = next((file for file in listed if file.path == "README.md"), None)
    paths = [file.path for file in listed if not dataset.pattern or _below(dataset.pattern, file.path)]
    if images.config or images.split or not dataset.pattern:
        text = await files.read(dataset.file(card.path), 0, min(card.size, MAX_CARD)) if card else b""
        wanted = await trio.to_thread.run_sync(chosen, text, paths, images.config, images.split)
    else:
        wanted = {path for path in paths if is_data(path)}
    picked = pick(sorted(wanted), images.kind, images.source)
    if kind_of(picked[0]) == "image":
        names = set(picked)
        return HubImages(dataset, [file for file in listed if file.path in names], listed)
    return _shards([(path, dataset.file(path)) for path in picked], images.kind)


def _below(pattern: str, path: str) -> bool:
    """The pattern matches the path, or names it or a folder that it is in."""
    return path == pattern or path.startswith(f"{pattern}/") or matches(pattern, path)


# --- the web


def _of_addresses(images: Images) -> Found:
    if images.kind in ("folder", "files"):
        raise ConfigError(
            f"images.kind {images.kind} is not for an https address: it cannot be listed. Name a table of addresses, a "
            "Parquet file or a tar."
        )
    named = [(unquote(urlsplit(url).path), WebFile(url)) for url in expanded(images.source)]
    kinds = {kind_of(path) for path, _ in named}
    if images.kind == "auto" and not kinds <= {"parquet", "urls", "tar", "stream"}:
        raise ConfigError(
            f"The name {images.source} does not say what kind of file it is. Set images.kind to parquet, urls or tar."
        )
    return _shards(named, images.kind)


def expanded(address: str) -> list[str]:
    """The addresses that a {00000..00099} in it stands for, as webdataset writes them; the last one counts fastest."""
    match = BRACES.search(address)
    if match is None:
        return [address]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + MAX_ADDRESSES:
        raise ConfigError(f"{match[0]} counts no numbers, or over {MAX_ADDRESSES}. Write it as {{00000..00099}}.")
    found: list[str] = []
    for number in range(first, last + 1):
        found += expanded(address[: match.start()] + str(number).zfill(len(match[1])) + address[match.end() :])
        if len(found) > MAX_ADDRESSES:
            raise ConfigError(f"{address} stands for over {MAX_ADDRESSES} files. Name a part of them.")
    return found


# --- the maintainer's disk


def _on_disk(base: Path, images: Images) -> Found:
    root, pattern = _local(base, images)
    if images.kind == "files":
        raise ConfigError("images.kind files is for the Hub. Name a folder of images with images.kind folder.")
    if not pattern and root.is_file():
        names = [_text(root.name)]
    elif not root.is_dir():
        raise ConfigError(f"There is no folder or file {root}. Correct images.source.")
    elif not pattern and (images.kind == "folder" or (images.kind == "auto" and _has_images(root, images))):
        return LocalFolder(root)
    else:
        names = [path for path in _walk(root, images) if not pattern or matches(pattern, path)]
    picked = pick(names, images.kind, images.source)
    if kind_of(picked[0]) == "image":
        raise ConfigError(f"{images.source} names image files. Name the folder that they are in, without a pattern.")
    return _shards([(path, DataFile(path)) for path in picked], images.kind)


def _local(base: Path, images: Images) -> tuple[Path, str]:
    """The folder or file, and the pattern below it; empty without one."""
    path = (base / Path(images.source).expanduser()).absolute()
    if path.exists() or not WILD.search(images.source):
        return path.resolve(), ""
    wild = next(index for index, part in enumerate(path.parts) if WILD.search(part))
    return Path(*path.parts[:wild]).resolve(), "/".join(path.parts[wild:])


def _has_images(root: Path, images: Images) -> bool:
    return any(kind_of(path) == "image" for path in _walk(root, images))


def _walk(root: Path, images: Images) -> Iterator[str]:
    """Relative paths of the files below; neither hidden ones nor links, unless these are to be followed."""

    def unreadable(error: OSError) -> None:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}. Check its owner and mode.") from error

    for parent, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file() and (images.follow_symlinks or not path.is_symlink()):
                yield _text(path.relative_to(root).as_posix())


def _text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"The file name {path!r} is not Unicode. Rename it.") from error
    return path


# --- files by their kind


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


def pick(paths: Iterable[str], kind: Kind, source: str) -> list[str]:
    """Those of the files that hold the images, in order of their paths. Raises ConfigError, naming what there is, when
    there are none."""
    by_kind: dict[FileKind, list[str]] = {}
    for path in paths:
        by_kind.setdefault(kind_of(path), []).append(path)
    if sum(map(len, by_kind.values())) > hub.MAX_FILES:
        raise ConfigError(f"{source} has over {hub.MAX_FILES} files. Name a part of them with a pattern.")
    if kind == "auto" and by_kind.get("image"):
        by_kind["parquet"] = [path for path in by_kind.get("parquet", ()) if path.rsplit("/", 1)[-1] != METADATA]
    for group in ORDER[kind]:
        if picked := [path for one in group for path in by_kind.get(one, ())]:
            return sorted(picked)
    unknown = by_kind.get("", [])
    if kind in DECIDED and len(unknown) == 1 == sum(map(len, by_kind.values())):
        return unknown  # the maintainer says what it is
    raise ConfigError(
        f"{source} has no files of images{'' if kind == 'auto' else f' for images.kind {kind}'}; it has "
        f"{_counted(by_kind)}. Correct images.source, or images.kind."
    )


def _counted(by_kind: Mapping[FileKind, Sequence[str]]) -> str:
    suffixes = Counter(PurePosixPath(path).suffix or path for paths in by_kind.values() for path in paths)
    return ", ".join(f"{count} × {suffix}" for suffix, count in suffixes.most_common(8)) or "no files"


def _shards(named: Iterable[tuple[str, Location]], kind: Kind) -> Shards:
    decided = DECIDED.get(kind)
    return Shards([Shard(location, decided or kind_of(path)) for path, location in named], bool(decided))
