"""Many small files in folders: each is there whole or not at all, and an export that was broken off goes on.

What an earlier run wrote is known by its contents, so nothing has to be remembered between runs.

Always holds: a file with other contents is replaced only when that was asked for; what was written before such a file
was found stays, and is whole.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from p2pcap.errors import ConfigError
from p2pcap.export.destination import write_errors

TEMPORARY = ".p2pcap.part"
"""The name of a file until it is whole, in its own folder."""

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
MODE = 0o666

UNFIT = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})
"""What the system says where a name is too long, or a file and a folder would stand in each other's place."""


class Tree:
    """The folder `root`, which is made when it is not there. `kept` counts files that were there already.

    A context manager. Raises ConfigError when the folder cannot be made.
    """

    def __init__(self, root: Path, *, force: bool) -> None:
        self._root = os.fspath(root)
        self._force = force
        self._made: set[str] = set()
        self._folder: str | None = None
        self._handle = -1
        self.kept = 0
        with write_errors(root):
            root.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def has(self, path: str) -> bool:
        """Whether there is a file at this relative path."""
        return os.path.isfile(f"{self._root}/{path}")

    def put(self, path: str, data: bytes) -> bool:
        """Write a file at this relative path; one with these contents already is left as it is. False when no file can
        have that name.

        Raises ConfigError for a file with other contents, unless `force`, and when the disk refuses.
        """
        folder, _, name = path.rpartition("/")
        try:
            self._enter(folder)
            if folder in self._made or not self._stays(path, name, data):
                self._write(name, data)
        except OSError as error:
            if error.errno in UNFIT:
                return False
            where = f"{self._root}/{path}"
            raise ConfigError(f"{where} cannot be written: {error.strerror}. Choose another place.") from error
        return True

    def _enter(self, folder: str) -> None:
        """Have the folder open. One that was made here holds nothing but what is written here, each name once."""
        if folder == self._folder:
            return
        self._leave()
        path = f"{self._root}/{folder}"
        if not os.path.isdir(path):
            self._make(folder)
            self._made.add(folder)
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._folder = folder

    def _make(self, folder: str) -> None:
        """The folder and those above it. A name may have hundreds of parts: more than os.makedirs can go down."""
        path = self._root
        for part in folder.split("/"):
            path = f"{path}/{part}"
            with suppress(FileExistsError):
                os.mkdir(path)

    def _leave(self) -> None:
        if self._folder is not None:
            os.close(self._handle)
            self._folder = None

    def _stays(self, path: str, name: str, data: bytes) -> bool:
        """Whether what is there is to be left as it is. Raises ConfigError when it may not be replaced."""
        try:
            file = os.open(name, os.O_RDONLY, dir_fd=self._handle)
        except FileNotFoundError:
            return False
        with open(file, "rb") as there:
            same = there.read(len(data) + 1) == data
        if not same and not self._force:
            where = f"{self._root}/{path}"
            raise ConfigError(f"{where} is there with other contents. Name another folder, or add --force to replace.")
        self.kept += same
        return same

    def _write(self, name: str, data: bytes) -> None:
        try:
            file = os.open(TEMPORARY, NEW, MODE, dir_fd=self._handle)
            try:
                written = os.write(file, data)
                while written < len(data):
                    written += os.write(file, data[written:])
            finally:
                os.close(file)
            os.rename(TEMPORARY, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            with suppress(OSError):  # it may never have been made
                os.unlink(TEMPORARY, dir_fd=self._handle)
            raise
