"""Where a project's images are: which files of a folder, a dataset of the Hub or the web hold them, and of what kind.

Only names are looked at here, never what is in the files. Always holds: files come in order of their paths, and what
is kept of a listing has a bound.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog
import trio

from p2pcap.errors import ConfigError
from p2pcap.sources import folder, hub
from p2pcap.sources.files import Files
from p2pcap.sources.hub import HubDataset, RepoFile
from p2pcap.sources.kinds import DECIDED, FileKind, kind_of, pick
from p2pcap.sources.locations import DataFile, Location, WebFile
from p2pcap.sources.naming import naming
from p2pcap.sources.spec import Images, Kind
from p2pcap.sources.splits import MAX_CARD, chosen, is_data, matches

log = structlog.get_logger()

WILD = re.compile(r"[*?\[]")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
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
    if on_hub(images.source):
        return await _on_hub(files, images)
    if _on_web(images.source):
        return _of_addresses(images)
    return await trio.to_thread.run_sync(_on_disk, base, images, abandon_on_cancel=True)


def data_folder(base: Path, images: Images) -> Path | None:
    """The folder that the places of local files are relative to; None where the source is not local."""
    if not is_local(images.source):
        return None
    root, pattern = _local(base, images)
    return root.parent if not pattern and root.is_file() else root


def on_hub(source: str) -> bool:
    """Whether the source is a dataset on the Hub."""
    return source.startswith(hub.HUB)


def is_local(source: str) -> bool:
    """Whether the source is on the maintainer's disk."""
    return not on_hub(source) and not _on_web(source)


def _on_web(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


# --- the Hub


async def _on_hub(files: Files, images: Images) -> Found:
    dataset = await hub.resolve(images.source)
    listed = await hub.files(dataset, lambda path: is_data(path) or path == "README.md")
    card = next((file for file in listed if file.path == "README.md"), None)
    paths = [file.path for file in listed if not dataset.pattern or _named_by(dataset.pattern, file.path)]
    if images.config or images.split or not dataset.pattern:
        text = await _card(files, dataset.file(card.path), card.size) if card else b""
        wanted = await trio.to_thread.run_sync(chosen, text, paths, images.config, images.split)
    else:
        wanted = {path for path in paths if is_data(path)}
    picked = pick(sorted(wanted), images.kind, images.source, each_image=True)
    if kind_of(picked[0]) == "image":
        names = set(picked)
        return HubImages(dataset, [file for file in listed if file.path in names], listed)
    return _shards([(path, dataset.file(path)) for path in picked], images.kind)


async def _card(files: Files, location: Location, size: int) -> bytes:
    with naming(location):
        return await files.read(location, 0, min(size, MAX_CARD))


def _named_by(pattern: str, path: str) -> bool:
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
    one = not pattern and root.is_file()
    if not one and not root.is_dir():
        raise ConfigError(f"There is no folder or file {root}. Correct images.source.")
    picked = pick([root.name] if one else _below(root, pattern, images), images.kind, images.source, each_image=False)
    if kind_of(picked[0]) != "image":
        return _shards([(_text(path), DataFile(path)) for path in picked], images.kind)
    if one or pattern:
        raise ConfigError(f"{images.source} names image files. Name the folder that they are in, without a pattern.")
    return LocalFolder(root)


def _below(root: Path, pattern: str, images: Images) -> Iterator[str]:
    """Paths of the files below, or of those that the pattern matches; neither hidden ones nor links, unless these are
    to be followed."""
    links = 0 if images.follow_symlinks else sum(1 for path in _links(root) if not pattern or matches(pattern, path))
    if links:
        log.warning("symbolic links are skipped; images.follow_symlinks: true follows them", links=links)
    for path in folder.walk(root, images.follow_symlinks, any_file=True):
        if not pattern or matches(pattern, path):
            yield path


def _links(root: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*folders, *names):
            if not name.startswith(".") and os.path.islink(path := os.path.join(parent, name)):
                yield os.path.relpath(path, root)


def _local(base: Path, images: Images) -> tuple[Path, str]:
    """The folder or file, and the pattern below it; empty without one. Raises ConfigError for another address."""
    if scheme := SCHEME.match(images.source):
        raise ConfigError(
            f"images.source cannot begin with {scheme[0]}. Name a folder or file of this machine by its path, a "
            f"dataset as {hub.FORM}, or an http or https address."
        )
    path = (base / Path(images.source).expanduser()).absolute()
    if path.exists() or not WILD.search(images.source):
        return path.resolve(), ""
    wild = next(index for index, part in enumerate(path.parts) if WILD.search(part))
    return Path(*path.parts[:wild]).resolve(), "/".join(path.parts[wild:])


def _text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"The file name {path!r} is not Unicode. Rename it.") from error
    return path


def _shards(named: Iterable[tuple[str, Location]], kind: Kind) -> Shards:
    decided = DECIDED.get(kind)
    return Shards([Shard(location, decided or kind_of(path)) for path, location in named], bool(decided))
