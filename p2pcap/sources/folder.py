"""A local folder of images, listed for the maintainer: each is named by its path and known by the SHA-256 of its bytes.

Hidden files and folders are skipped. Symbolic links are followed only when the maintainer says so; otherwise nothing
outside the folder can be published by accident.

Always holds: images come in the order of their keys, character by character, with "/" between the parts of a path like
any other ("a-b.png", "a.png", "a/z.png", "b.png": the order of the keys' UTF-8 bytes). The same folder gives the same
lists wherever it lies. Of a folder at most NAMES names are in memory, and so many of each folder above it.
"""

import errno
import hashlib
import heapq
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

import trio
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_IMAGE, MAX_KEY, Item, ItemList
from p2pcap.sources import sidecars
from p2pcap.sources.files import Files
from p2pcap.sources.sidecars import Names
from p2pcap.sources.spec import Images

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"})
"""Names taken for images; whether the bytes are one is found out by whoever captions them."""

NAMES = 200_000
"""Names of one folder that are sorted at a time; a folder with more is gone through several times."""

PORTION = 512
"""Images that are hashed before it is seen how much their fields take."""

MAX_TEXT = 8 * 1024 * 1024
"""Characters of fields with which a list ends early, so that its blob stays within the protocol's limit."""

TURN = 32
"""Images that a thread hashes before others have their turn."""

THREADS = 4
"""Images hashed at a time."""

Identity = tuple[int, int]
"""Device and inode of a folder: what it is, whatever links lead there."""


async def plan(
    files: Files, images: Images, folder: Path, size: int, met: Names | None = None
) -> AsyncGenerator[ItemList, None]:
    """The images of `folder` in order of their keys, in lists of `size`; the last one may be shorter, and those whose
    fields are very long. `met` is told the names of fields that there are.

    Raises ConfigError for a folder or file that cannot be read, or cannot travel.
    """
    if not await trio.to_thread.run_sync(_is_folder, folder):
        raise ConfigError(f"There is no folder {folder}. Name the folder that holds the images.")
    keys = walk(folder, images.follow_symlinks)
    items: list[Item] = []
    while some := await trio.to_thread.run_sync(_next, keys, min(PORTION, size - len(items))):
        items += await _items(folder, some, images, met or Names())
        if len(items) == size or sum(len(text) for item in items for text in item.metadata.values()) > MAX_TEXT:
            yield ItemList(tuple(items))
            items = []
    if items:
        yield ItemList(tuple(items))


def _next(keys: Iterator[str], count: int) -> list[str]:
    return list(islice(keys, count))


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        _unreadable(error)


def walk(folder: Path, follow_symlinks: bool, any_file: bool = False) -> Iterator[str]:
    """The keys of the folder's images, in order; with `any_file` the paths of all its files. Raises ConfigError for a
    folder that cannot be read."""
    levels = [("", _names(folder, follow_symlinks, any_file), _identity(folder))]
    while levels:
        prefix, names, _ = levels[-1]
        name = next(names, "")
        if not name:
            levels.pop()
        elif not name.endswith("/"):
            yield prefix + name
        elif (below := _identity(folder / prefix / name)) not in [identity for _, _, identity in levels]:
            levels.append((prefix + name, _names(folder / prefix / name, follow_symlinks, any_file), below))


def _names(folder: Path, follow_symlinks: bool, any_file: bool) -> Iterator[str]:
    """The images and folders in `folder`, sorted; folders end in "/", so they stand where the keys below them do. With
    `any_file` all files."""
    last = ""
    while True:
        try:
            with os.scandir(folder) as entries:
                names = (name for entry in entries if (name := _name(entry, follow_symlinks, any_file)) > last)
                some = heapq.nsmallest(NAMES, names)
        except OSError as error:
            _unreadable(error)
        yield from some
        if len(some) < NAMES:
            return
        last = some[-1]


def _name(entry: os.DirEntry[str], follow_symlinks: bool, any_file: bool) -> str:
    """How an entry is sorted and found; empty when it is none of ours."""
    if entry.name.startswith(".") or (entry.is_symlink() and not follow_symlinks):
        return ""
    if entry.is_symlink() and _leads_nowhere(entry.path):
        return ""
    if entry.is_dir():
        return f"{entry.name}/"
    wanted = any_file or os.path.splitext(entry.name)[1].lower() in SUFFIXES
    return entry.name if wanted and entry.is_file() else ""


def _leads_nowhere(link: str) -> bool:
    try:
        os.stat(link)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return True
        raise
    return False


def _identity(folder: Path) -> Identity:
    try:
        found = folder.stat()
    except OSError as error:
        _unreadable(error)
    return found.st_dev, found.st_ino


def _unreadable(error: OSError) -> NoReturn:
    raise ConfigError(f"{error.filename} cannot be read: {error.strerror}. Check its owner and mode.") from error


async def _items(folder: Path, keys: Sequence[str], images: Images, met: Names) -> list[Item]:
    """The items of `keys`. Raises ConfigError for the first of them that has a fault."""
    found: list[list[Item] | ConfigError] = [[]] * -(-len(keys) // TURN)
    turns = iter(range(len(found)))

    async def work() -> None:
        for turn in turns:
            some = keys[turn * TURN : (turn + 1) * TURN]
            found[turn] = await trio.to_thread.run_sync(_hash, folder, some, images, met)

    async with trio.open_nursery() as nursery:
        for _ in range(THREADS):
            nursery.start_soon(work)
    items: list[Item] = []
    for one in found:
        if isinstance(one, ConfigError):
            raise one
        items += one
    return items


def _hash(folder: Path, keys: Sequence[str], images: Images, met: Names) -> list[Item] | ConfigError:
    try:
        return [_item(folder, key, images, met) for key in keys]
    except ConfigError as error:
        return error


def _item(folder: Path, key: str, images: Images, met: Names) -> Item:
    path = folder / key
    try:
        key.encode("utf-8")
        if len(key) > MAX_KEY:
            raise ConfigError(f"The path {path} has over {MAX_KEY} characters. Move it up.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_IMAGE:
                raise ConfigError(f"{path} has {size} bytes; an image may have {MAX_IMAGE}. Move it out of the folder.")
            hash_ = hashlib.file_digest(file, "sha256").digest()
            length = file.tell()
    except UnicodeEncodeError as error:
        raise ConfigError(f"The file name {str(path)!r} is not Unicode. Rename it.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    fields = sidecars.beside(path, images.fields, images.follow_symlinks, met)
    return Item(key, hash_, length, fields=fields or UNSET)
