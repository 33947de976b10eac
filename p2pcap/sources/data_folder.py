"""The files that locations call `file:`, in the folder that the maintainer planned them from, or a copy of it.

Always holds: nothing outside the folder is read, whatever symbolic links say, unless whoever has the folder wants them
followed; and nothing but regular files.
"""

import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

import trio

from p2pcap.errors import ImageError, SourceDenied, SourceError, SourceGone
from p2pcap.sources.files import Reserve
from p2pcap.sources.locations import DataFile

PART = 1024 * 1024
"""Bytes read at one time."""

NO_FOLDER = "The images lie in a folder that this machine does not have. Name it with --local-images if it does."


class DataFolder:
    """The files below `root`; with None, this machine has none of them. Links in it may lead out of it only with
    `follow_symlinks`."""

    def __init__(self, root: Path | None, follow_symlinks: bool = False) -> None:
        self._root = root
        self._follow_symlinks = follow_symlinks

    async def size(self, file: DataFile) -> int:
        """The file's bytes. Raises SourceGone, SourceDenied and SourceError, as everything here does."""
        opened = await trio.to_thread.run_sync(self._open, file)
        with opened:
            return os.fstat(opened.fileno()).st_size

    async def parts(self, file: DataFile, start: int, length: int) -> AsyncGenerator[bytes, None]:
        """Exactly `length` bytes from `start`, in parts."""
        opened = await trio.to_thread.run_sync(self._open, file)
        with opened:
            opened.seek(start)
            while length > 0:
                part = await trio.to_thread.run_sync(_read, opened, min(length, PART))
                length -= len(part)
                yield part

    async def image(self, file: DataFile, limit: int, reserve: Reserve | None = None) -> bytes:
        """The whole of a file of at most `limit` bytes, as `Files.image`."""
        try:
            size = await self.size(file)
            if size > limit:
                raise ImageError("too-large", f"The image has more than {limit} bytes.")
            if reserve is not None:
                await reserve(size)
            return b"".join([part async for part in self.parts(file, 0, size)])
        except SourceGone as error:
            raise ImageError("gone", "The folder has no such image.") from error

    def _open(self, file: DataFile) -> BinaryIO:
        if self._root is None:
            raise SourceDenied(NO_FOLDER)
        try:
            root = os.path.realpath(self._root, strict=True)
            path = os.path.realpath(os.path.join(root, file.path), strict=True)
            if not self._follow_symlinks and os.path.commonpath((root, path)) != root:
                raise SourceGone("The file is a symbolic link that leads out of the data folder.")
            return _regular(path)
        except PermissionError as error:
            raise SourceDenied("A file in the data folder may not be read. Check its owner and mode.") from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SourceGone("The file is not there any more.") from error
        except OSError as error:
            raise SourceError(f"A file in the data folder cannot be opened: {error.strerror}.") from error


def _regular(path: str) -> BinaryIO:
    """Opens without waiting, as a pipe would make us. Raises SourceGone for what is no regular file."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise SourceGone("What has the file's name is no file.")
    return open(opened, "rb", buffering=0)


def _read(opened: BinaryIO, most: int) -> bytes:
    try:
        part = opened.read(most)
    except OSError as error:
        raise SourceError(f"A file in the data folder cannot be read: {error.strerror}.") from error
    if not part:
        raise SourceGone("The file is shorter than was planned.")
    return part
