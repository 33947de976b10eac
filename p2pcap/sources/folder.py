"""A local folder of images: listed for the maintainer, served to the swarm by content hash.

An image is named by its path relative to the folder and known by the SHA-256 of its bytes. Hidden files and folders are
skipped and symbolic links are not followed, so nothing outside the folder can be published by accident.

Always holds: what `FolderImages.read` returns has the hash it was asked for, even if the folder has changed since.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from p2pcap.errors import ConfigError
from p2pcap.project.records import MAX_IMAGE, MAX_KEY, Item

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"})
"""Names taken for images; whether the bytes are one is found out by whoever captions them."""


def scan(directory: Path) -> Iterator[tuple[Item, Path]]:
    """The folder's images in order of their keys, each with its path. Raises ConfigError for a bad folder or file."""
    try:
        if not directory.is_dir():
            raise ConfigError(f"There is no folder {directory}. Name the folder that holds the images.")
        paths = _files(directory)
    except OSError as error:
        _unreadable(error)
    for path in paths:
        yield _item(directory, path), path


def _files(directory: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(directory, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [
            path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink()
        ]
    return sorted(found, key=lambda path: path.relative_to(directory).as_posix())


def _unreadable(error: OSError) -> NoReturn:
    raise ConfigError(f"{error.filename} cannot be read: {error.strerror}. Check its owner and mode.") from error


def _item(directory: Path, path: Path) -> Item:
    key = path.relative_to(directory).as_posix()
    try:
        key.encode("utf-8")
        size = path.stat().st_size
        if size > MAX_IMAGE:
            raise ConfigError(f"{path} has {size} bytes; an image may have {MAX_IMAGE}. Move it out of the folder.")
        if len(key) > MAX_KEY:
            raise ConfigError(f"The path {path} has over {MAX_KEY} characters. Move it up.")
        data = path.read_bytes()
        return Item(key, hashlib.sha256(data).digest(), len(data))
    except UnicodeEncodeError as error:
        raise ConfigError(f"The file name {path!r} is not Unicode. Rename it.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error


class FolderImages:
    """The images of a folder, readable by hash."""

    def __init__(self, paths: Mapping[bytes, Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self._paths

    def read(self, hash_: bytes) -> bytes | None:
        """The image's bytes; None when the folder never had it, or no longer has these bytes."""
        path = self._paths.get(hash_)
        if path is None:
            return None
        try:
            data = path.read_bytes() if path.stat().st_size <= MAX_IMAGE else b""
        except OSError:
            return None
        return data if hashlib.sha256(data).digest() == hash_ else None
