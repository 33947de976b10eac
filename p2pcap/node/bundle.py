"""A project as one file: what a volunteer needs before it can claim, for a web server, the Hub, or a stick.

    MAGIC, the bytes of the head (4, big-endian), the head: a `Head` in DAG-CBOR
    then the pages of the chunk table, and the item lists in its order; it says how long each is

Whoever serves it need not be trusted: the ticket pins the project's hash, and everything is checked on the way from it.

Always holds: an item list is read from disk when it is asked for, and is the one that the chunk table names, and so is
a page; a file that is written is whole or not there.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.envelope import MAX_ENVELOPE, open_envelope
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.node.options import Seed
from p2pcap.project.chunks import PAGE_BYTES
from p2pcap.project.opened import Project, open_project
from p2pcap.project.record import Record
from p2pcap.project.records import MAX_ROOTS

SUFFIX = ".p2pcap"
MAGIC = b"p2pcap project 1\n"
LENGTH = 4
MAX_HEAD = MAX_BLOB + MAX_ROOTS + 2 * MAX_ENVELOPE + 1_024

Signed = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ENVELOPE)]


class Head(Record, frozen=True):
    """The first root, the manifest, the plan, and the roots after the first where there are some."""

    root: Signed
    manifest: Signed
    plan: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_BLOB)]
    roots: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ROOTS)] | UnsetType = UNSET


def write_bundle(project: Project, lists: Mapping[bytes, bytes], path: Path) -> None:
    """Write the project, and the pages and item lists in `lists`, into the file. Raises ConfigError when that cannot
    be, and what `lists` raises."""
    head = encode(
        Head(project.root_envelope.data, project.manifest_envelope.data, project.plan_data, project.roots_data or UNSET)
    )
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=".p2pcap-", delete=False) as file:
            try:
                file.write(MAGIC + len(head).to_bytes(LENGTH, "big") + head)
                for hash_ in project.plan.chunks.pages:
                    file.write(lists[hash_])
                for chunk in project.chunks(lists.__getitem__):
                    file.write(lists[chunk.items])
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}. Name another file.") from error


def read_bundle(path: Path, expected: bytes) -> Seed:
    """What the file brings for the project with this hash. Raises ConfigError when it cannot be read, UntrustedError
    when it is of another project, or damaged."""
    try:
        with path.open("rb") as file:
            project, start = _read_head(file, expected, path)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Name the file that the maintainer gave."
        ) from error
    lists = BundledLists(path, start)
    lists.add((hash_, PAGE_BYTES) for hash_ in project.plan.chunks.pages)
    lists.add((chunk.items, chunk.length) for chunk in project.chunks(lists.__getitem__))
    if size != lists.end:
        raise UntrustedError(f"{path} is cut off, or has more than it should. Get it again.")
    return Seed(project, lists, {})


def _read_head(file: BinaryIO, expected: bytes, path: Path) -> tuple[Project, int]:
    """The project, and where the lists begin."""
    begin = file.read(len(MAGIC) + LENGTH)
    length = int.from_bytes(begin[len(MAGIC) :], "big")
    if begin[: len(MAGIC)] != MAGIC or len(begin) < len(MAGIC) + LENGTH or length > MAX_HEAD:
        raise UntrustedError(f"{path} is no project file of p2pcap. Ask the maintainer for it.")
    try:
        head = decode(file.read(length), Head, MAX_HEAD)
        root, manifest = open_envelope(head.root), open_envelope(head.manifest)
    except CodecError as error:
        raise UntrustedError(f"{path} is damaged: {error} Get it again.") from error
    if root.payload_hash != expected:
        raise UntrustedError(f"{path} is of another project than the ticket. Ask the maintainer for the right one.")
    roots = b"" if head.roots is UNSET else head.roots
    return open_project(root, manifest, head.plan, expected, roots), len(begin) + length


class BundledLists(Mapping[bytes, bytes]):
    """The pages and item lists in a file by hash. Raises UntrustedError for one that is not what the chunk table
    names. `end` is where the last one that was added ends."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._places: dict[bytes, tuple[int, int]] = {}
        self.end = start

    def add(self, blobs: Iterable[tuple[bytes, int]]) -> None:
        """These blobs follow, by their hashes and lengths."""
        for hash_, length in blobs:
            self._places[hash_] = self.end, length
            self.end += length

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __getitem__(self, hash_: bytes) -> bytes:
        at, length = self._places[hash_]
        try:
            with self._path.open("rb") as file:
                file.seek(at)
                data = file.read(length)
        except OSError as error:
            raise UntrustedError(f"{self._path} is gone: {error.strerror}. Bring it back.") from error
        if hashlib.sha256(data).digest() != hash_:
            raise UntrustedError(f"{self._path} is damaged. Get it again.")
        return data
