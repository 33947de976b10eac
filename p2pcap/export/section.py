"""Where a Parquet file keeps its proof: between its last row group and its footer.

Readers of Parquet go by the offsets in the footer and never look there, so the proof costs them nothing and no column
shows it. The footer's key-value `p2pcap` says where the proof's table of contents lies, and holds a digest of the whole
file. The key-value is written as PLACEHOLDER, of the same length, and overwritten once the proof is in its place.

    row groups | parts | contents | footer with the pointer | its length | "PAR1"

Always holds: what `open_section` returns is from a file whose every byte has the digest, lies within the file, and is
bounded before it is unpacked. The digest is no signature: whoever changes the file can make it anew; what it finds is
damage, and changes to what no signature covers, such as the footer's statistics.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO, Self, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.ledger.packing import packed, unpacked
from p2pcap.ledger.records import ChunkNumber, Tid
from p2pcap.project.record import Count, Record

T = TypeVar("T")

KEY = "p2pcap"
"""The key of the footer's key-value."""

MAGIC = b"PAR1"
TAIL = 8
"""Bytes after the footer: its length, and MAGIC."""

MAX_FOOTER = 256 * 1024 * 1024
BLOCK = 1024 * 1024

POINTER = re.compile(rb"p2pcap-1 ([0-9a-f]{16}) ([0-9a-f]{16}) ([0-9a-f]{64})")
DIGITS = 64
"""Hex digits of the digest, the pointer's last."""


class Part(Record, frozen=True):
    """A record of the proof under zstd: where in the file, its bytes there, and its bytes unpacked."""

    at: Count
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOB)]
    raw: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOB)]


class Listed(Record, frozen=True):
    """The item list of a chunk."""

    chunk: ChunkNumber
    part: Part


class Group(Record, frozen=True):
    """What proves a chunk's rows of one task: a `Batches`."""

    tid: Tid
    chunk: ChunkNumber
    part: Part


class Contents(Record, frozen=True):
    """The table of contents. `project` is a `Chain`, `statements` and `seals` are of these names' types below; `pages`
    are those pages of the chunk table that name the lists."""

    project: Part
    statements: Part
    seals: Part
    pages: tuple[Part, ...]
    lists: tuple[Listed, ...]
    groups: tuple[Group, ...]


class Chain(Record, frozen=True):
    """From the project's hash to its plan: the first root and the newest manifest (envelopes), the blob of all roots
    where there are several, and the plan's bytes."""

    root: bytes
    roots: bytes
    manifest: bytes
    plan: bytes


Statements = tuple[bytes, ...]
"""Envelopes: checkpoints, the grants and profiles of the file's authors, bans, voids and redactions; in the order in
which a ledger can hear them."""

Seals = tuple[tuple[Annotated[int, msgspec.Meta(ge=1, lt=2**31)], bytes], ...]
"""Of each checkpoint, by ascending number, the ids that it seals, one after the other."""


class Batch(Record, frozen=True):
    """What proves the rows of one result that are in the file.

    `envelope` is the result. `absent` are the leaf hashes (32 bytes each, in the order of their items) of its rows that
    are not in the file. `marks` are 4 bytes for each row that is (p2pcap.ledger.leaves.mark): they tell which row
    was changed when the root does not come out. `given` is what these rows say of other tasks' answers, where the task
    needs any; empty for an error row. `findings` are all statements about what was found, where any found it bad.
    """

    envelope: bytes
    absent: bytes
    marks: bytes
    given: tuple[bytes, ...] | UnsetType = UNSET
    findings: tuple[bytes, ...] | UnsetType = UNSET


Batches = tuple[Batch, ...]


def pointer(at: int, length: int, digest: str = "0" * DIGITS) -> str:
    """The key-value's text: where the contents lie, their bytes, and the file's digest in hex."""
    return f"p2pcap-1 {at:016x} {length:016x} {digest}"


PLACEHOLDER = pointer(0, 0)
"""What the key-value holds until the proof is there."""


class SectionWriter:
    """Puts a proof into a Parquet file that was written with PLACEHOLDER in its footer. The file is not usable until
    `finish` is done, so it is to be one that nobody knows yet. A context manager."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file has no such footer."""
        self._file = path.open("r+b")
        start, self._footer, self._tail = _footer(self._file, path)
        if self._footer.count(PLACEHOLDER.encode()) != 1:
            raise ConfigError(f"{path} was not written to carry a proof. Export it again.")
        self._file.seek(start)
        self._file.truncate()
        self._at = start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, record: Any) -> Part:
        """Append a record."""
        raw = encode(record)
        return self._put(packed(raw), len(raw))

    def put_raw(self, raw: bytes) -> Part:
        """Append bytes as they are, under zstd: an item list."""
        return self._put(packed(raw), len(raw))

    def _put(self, data: bytes, raw: int) -> Part:
        self._file.write(data)
        part = Part(self._at, len(data), raw)
        self._at += len(data)
        return part

    def finish(self, contents: Contents) -> None:
        """Write the contents and the footer, and the digest last."""
        part = self.put(contents)
        told = pointer(part.at, part.length).encode()
        place = self._at + self._footer.index(PLACEHOLDER.encode()) + len(told) - DIGITS
        self._file.write(self._footer.replace(PLACEHOLDER.encode(), told) + self._tail)
        self._file.flush()
        digest = _digest(self._file, place)
        self._file.seek(place)
        self._file.write(digest.encode())


@dataclass(frozen=True)
class Section:
    """The proof in a file, open for reading."""

    path: Path
    contents: Contents

    def read(self, part: Part, kind: type[T]) -> T:
        """A record. Raises UntrustedError."""
        try:
            return decode(self.raw(part), kind, MAX_BLOB)
        except CodecError as error:
            raise UntrustedError(f"{self.path}: its proof cannot be read: {error} Do not use this file.") from error

    def raw(self, part: Part) -> bytes:
        """A part's bytes, unpacked. Raises UntrustedError."""
        with self.path.open("rb") as file:
            file.seek(part.at)
            data = file.read(part.length)
        return unpacked(data, part.raw, "proof")


def open_section(path: Path) -> Section:
    """The proof in the Parquet file at `path`. Raises UntrustedError when it has none or some byte was changed, and
    ConfigError when it cannot be read."""
    try:
        with path.open("rb") as file:
            start, footer, _ = _footer(file, path)
            found = list(POINTER.finditer(footer))
            if len(found) != 1:
                raise UntrustedError(
                    f"{path} carries no proof of what it says. Ask for an export that was not rewritten."
                )
            at, length, digest = int(found[0][1], 16), int(found[0][2], 16), found[0][3].decode()
            if at + length != start or not 0 < length <= MAX_BLOB:
                raise UntrustedError(f"{path} was changed: its proof is not where it says. Do not use this file.")
            if _digest(file, start + found[0].end() - DIGITS) != digest:
                raise UntrustedError(f"{path} was changed or damaged after it was written. Do not use this file.")
            file.seek(at)
            data = file.read(length)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    try:
        contents = decode(unpacked(data, MAX_BLOB, "proof"), Contents, MAX_BLOB)
    except CodecError as error:
        raise UntrustedError(f"{path}: its proof cannot be read: {error} Do not use this file.") from error
    _check_parts(path, contents, at)
    return Section(path, contents)


def _check_parts(path: Path, contents: Contents, end: int) -> None:
    held: Sequence[Listed | Group] = (*contents.lists, *contents.groups)
    parts = [contents.project, contents.statements, contents.seals, *contents.pages, *(each.part for each in held)]
    if any(part.at + part.length > end for part in parts):
        raise UntrustedError(f"{path} was changed: its proof is not where it says. Do not use this file.")


def _footer(file: BinaryIO, path: Path) -> tuple[int, bytes, bytes]:
    """Where the footer of a Parquet file begins, its bytes, and what comes after it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL))
    tail = file.read(TAIL)
    length = int.from_bytes(tail[:4], "little")
    if size < TAIL + len(MAGIC) or tail[4:] != MAGIC or not 0 < length <= min(MAX_FOOTER, size - TAIL - len(MAGIC)):
        raise UntrustedError(f"{path} is not a whole Parquet file. Fetch or export it again.")
    start = size - TAIL - length
    file.seek(start)
    return start, file.read(length), tail


def _digest(file: BinaryIO, place: int) -> str:
    """SHA-256, in hex, of the file with zeros for the DIGITS digits at `place`."""
    total = hashlib.sha256()
    file.seek(0)
    left = place
    while left > 0 and (block := file.read(min(BLOCK, left))):
        total.update(block)
        left -= len(block)
    total.update(b"0" * DIGITS)
    file.seek(place + DIGITS)
    while block := file.read(BLOCK):
        total.update(block)
    return total.hexdigest()
