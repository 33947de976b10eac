"""The images a node has fetched, kept on disk by content hash within a cap.

They are kept to be captioned, and to be served on to other peers. Least recently used ones go first when the cap is
reached. Nothing here needs to survive a crash whole: a file whose bytes do not hash to its name is dropped on reading.

Always holds: `get` returns bytes with the hash asked for; the files' total stays below the cap after every `put`.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from p2pcap.errors import StoreError

DEFAULT_CAP = 4 * 1024**3
"""Bytes of disk, and of download when a project has more images than that; a volunteer may say otherwise."""


NAME = re.compile(r"[0-9a-f]{64}")
PARTIAL = re.compile(r"\.[0-9a-f]{64}\.[0-9]+")
"""Names of image files, and of what a crash leaves; nothing else in the folder is touched."""


class ImageCache:
    """Image files under `directory`, of `cap` bytes in all, found again after a restart. Safe to use from several
    threads."""

    def __init__(self, directory: Path, cap: int = DEFAULT_CAP) -> None:
        self._directory = directory
        self.cap = cap
        self._lock = threading.Lock()
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self.bytes = 0
        self._find()

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self._sizes

    @property
    def room(self) -> int:
        """Bytes left below the cap."""
        return self.cap - self.bytes

    def get(self, hash_: bytes) -> bytes | None:
        """The image's bytes, or None when it is not here."""
        with self._lock:
            if hash_ not in self._sizes:
                return None
            self._sizes.move_to_end(hash_)
        try:
            data = self._path(hash_).read_bytes()
        except OSError:
            data = None
        if data is None or hashlib.sha256(data).digest() != hash_:
            self._drop(hash_)
            return None
        return data

    def put_many(self, images: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep verified (hash, bytes) pairs. Raises StoreError when the disk refuses."""
        for hash_, data in images:
            if hash_ not in self._sizes:
                self._write(hash_, data)
        self._shrink()

    def _write(self, hash_: bytes, data: bytes) -> None:
        path = self._path(hash_)
        temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError as error:
            raise StoreError(f"The image cache {self._directory} cannot be written: {error.strerror}.") from error
        with self._lock:
            if hash_ not in self._sizes:
                self._sizes[hash_] = len(data)
                self.bytes += len(data)

    def _shrink(self) -> None:
        while (oldest := self._oldest_above_cap()) is not None:
            self._drop(oldest)

    def _oldest_above_cap(self) -> bytes | None:
        with self._lock:
            return next(iter(self._sizes), None) if self.bytes > self.cap else None

    def _drop(self, hash_: bytes) -> None:
        with self._lock:
            self.bytes -= self._sizes.pop(hash_, 0)
        self._path(hash_).unlink(missing_ok=True)

    def _path(self, hash_: bytes) -> Path:
        name = hash_.hex()
        return self._directory / name[:2] / name

    def _find(self) -> None:
        for path in sorted(self._directory.glob("??/*")):
            if PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
            elif NAME.fullmatch(path.name) and path.is_file():
                self._sizes[bytes.fromhex(path.name)] = path.stat().st_size
                self.bytes += path.stat().st_size
