"""The headers of a tar file, one after the other: which members it has, and where their bytes are.

The standard library's tarfile needs a file object, follows what headers claim, and keeps an object of many fields for
each member. Shards have 100,000 members, come from strangers and are walked as they stream by, so the headers are
parsed here: ustar, GNU long names, and the PAX records "path" and "size". Nothing is ever unpacked.

Always holds: bytes are asked for in ascending order, so a stream can be walked as well as a file; every member found
lies within the file; what is held is bounded by MAX_MEMBERS and MAX_NAMES.
"""

import re
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field

import msgspec

from p2pcap.errors import ConfigError

BLOCK = 512
"""Bytes of a header; contents are padded to a multiple of it (POSIX pax, "ustar Interchange Format")."""

MAX_MEMBERS = 250_000
MAX_NAMES = 32 * 1024 * 1024
"""Members of one tar, and bytes of their names: what planning it holds in memory. Shards have some 10,000."""

MAX_NAME = 4_096
"""Bytes of a member's name (PATH_MAX of Linux)."""

MAX_EXTENSION = 1024 * 1024
"""Bytes of a long name or of PAX records."""

PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""How compressed files begin."""

REGULAR = b"0\x007"
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL, OLD_SPARSE, DIRECTORY = b"L", b"K", b"x", b"g", b"S", b"5"
EXTENSIONS = (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL)
WITHOUT_CONTENT = {b"1": "links", b"2": "links", b"3": "devices", b"4": "devices", b"5": "folders", b"6": "devices"}

OCTAL = re.compile(rb"[0-7]*")
UNSIGNED = re.compile(rb"[0-9]{1,19}")

Need = tuple[int, int]
"""First byte and number of the bytes that a walk asks for."""


class Member(msgspec.Struct, frozen=True, gc=False):
    """A file in a tar: `length` bytes from byte `offset`.

    `hash` is their SHA-256, or empty where nobody read them. `captions` and `metadata` (JSON) are what an index says of
    it.
    """

    name: str
    offset: int
    length: int
    hash: bytes = b""
    captions: tuple[str, ...] = ()
    metadata: msgspec.Raw | None = None

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length


@dataclass
class Contents:
    """What a walk found: members in their order, how many of what were left out, and, where the walk could not reach
    the end, why."""

    members: list[Member] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    cut: str = ""


@dataclass(frozen=True)
class Header:
    """One header block. `length` is that of the stored content."""

    name: bytes
    kind: bytes
    length: int
    continues: bool
    """Old GNU sparse files: another block of their map follows."""


@dataclass(frozen=True)
class Extension:
    """What the headers before a member's own say of it."""

    name: bytes | None = None
    length: int | None = None
    sparse: bool = False

    def joined(self, kind: bytes, data: bytes) -> "Extension":
        """With one more. Raises ValueError for what is no extension."""
        if kind == LONG_NAME:
            return Extension(self.name or data.split(b"\0", 1)[0], self.length, self.sparse)
        if kind != PAX:
            return self
        records = pax_records(data)
        length = records.get(b"size")
        if length is not None and UNSIGNED.fullmatch(length) is None:
            raise ValueError("a size that is no number")
        sparse = self.sparse or any(key.startswith(b"GNU.sparse.") for key in records)
        return Extension(records.get(b"path", self.name), self.length if length is None else int(length), sparse)


def walk(size: int, found: Contents) -> Generator[Need, bytes, None]:
    """Walk a tar of `size` bytes into `found`: yields (start, length) of the bytes it needs, and is sent them.

    A member is in `found` before anything behind its header is asked for. What is damaged or cut off ends the walk,
    with the reason in `found.cut`. Raises ConfigError for a file that is no tar at all, or has too many members.
    """
    at, names, extension = 0, 0, Extension()
    while at < size:
        try:
            header, start = yield from _header(at, size)
            if header is None:
                return
            length = _content(header, extension)
            if start + length > size:
                raise ValueError("a member that goes on beyond the end")
            if header.kind in EXTENSIONS:
                extension = extension.joined(header.kind, (yield _extension(start, length)))
            else:
                names += _add(found, header, extension, start, length)
                extension = Extension()
        except ValueError as error:
            found.cut = f"{error} at byte {at} of {size}"
            return
        if len(found.members) > MAX_MEMBERS or names > MAX_NAMES:
            raise ConfigError(
                f"The tar has over {MAX_MEMBERS} files, or very long names. Split it into smaller shards."
            )
        at = start + -(-length // BLOCK) * BLOCK


def _header(at: int, size: int) -> Generator[Need, bytes, tuple[Header | None, int]]:
    """The header at byte `at`, None where the archive ends, and the byte where the content begins."""
    block = yield at, min(BLOCK, size - at)
    if at == 0:
        _check_kind(block)
    if not any(block):
        return None, at
    header, start = parse_header(block), at + BLOCK
    continues = header.kind == OLD_SPARSE and header.continues
    while continues:
        if start + BLOCK > size:
            raise ValueError("a header that is cut off")
        more = yield start, BLOCK
        continues, start = more[504:505] > b"\0", start + BLOCK
    return header, start


def _extension(start: int, length: int) -> Need:
    if length > MAX_EXTENSION:
        raise ValueError("a name that is too long")
    return start, length


def parse_header(block: bytes) -> Header:
    """The header in a block of 512 bytes. Raises ValueError when it is none: its checksum does not hold."""
    if len(block) != BLOCK:
        raise ValueError("a header that is cut off")
    unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[148:156])
    if _number(block[148:156]) not in (unsigned, unsigned - 256 * high):
        raise ValueError("a header whose checksum does not hold")
    name, kind = block[:100].split(b"\0", 1)[0], block[156:157]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    if kind == b"\0" and name.endswith(b"/"):
        kind = DIRECTORY
    return Header(prefix + b"/" + name if prefix else name, kind, _number(block[124:136]), block[482:483] > b"\0")


def pax_records(data: bytes) -> dict[bytes, bytes]:
    """PAX records: each is "LENGTH KEY=VALUE" and a line feed, LENGTH counting all of it. Raises ValueError."""
    records = {}
    at = 0
    while at < len(data) and data[at] != 0:
        space = data.find(b" ", at, at + 20)
        if space < 0 or UNSIGNED.fullmatch(data[at:space]) is None:
            raise ValueError("a PAX record without its length")
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise ValueError("a PAX record that does not end")
        records[key] = value
        at = end
    return records


def safe_name(name: str) -> bool:
    """Whether a name stays within the folder that a tar would be unpacked to."""
    return bool(name) and not name.startswith("/") and "\0" not in name and ".." not in name.split("/")


def _content(header: Header, extension: Extension) -> int:
    """Bytes that follow the header. Links and the like have none, whatever their size says."""
    if header.kind in WITHOUT_CONTENT:
        return 0
    if header.kind in EXTENSIONS or extension.length is None:
        return header.length
    return extension.length


def _add(found: Contents, header: Header, extension: Extension, start: int, length: int) -> int:
    """Add a member, or count why it is none. Returns the bytes of the name that is now held."""
    raw = header.name if extension.name is None else extension.name
    # Names that are not UTF-8 are read as webshart reads them.
    name = raw.decode("utf-8", "replace")
    if header.kind in WITHOUT_CONTENT:
        reason = WITHOUT_CONTENT[header.kind]
    elif extension.sparse or header.kind == OLD_SPARSE:
        reason = "sparse files"
    elif header.kind not in REGULAR:
        reason = "members of a kind that is not known"
    elif len(raw) > MAX_NAME or not safe_name(name):
        reason = "names that are too long, absolute, or lead to a parent folder"
    else:
        found.members.append(Member(name, start, length))
        return len(raw)
    found.left_out[reason] += 1
    return 0


def _number(text: bytes) -> int:
    """A number in a header: octal digits, or GNU's binary form. Raises ValueError, also for negative ones."""
    if text[:1] == b"\x80":
        return int.from_bytes(text[1:], "big")
    digits = text.strip(b" \0")
    if OCTAL.fullmatch(digits) is None:
        raise ValueError("a number that is none")
    return int(digits or b"0", 8)


def _check_kind(block: bytes) -> None:
    """Raises ConfigError when a file that begins with `block` is no tar that can be read in parts."""
    for magic, name in PACKED.items():
        if block.startswith(magic):
            raise ConfigError(
                f"The tar is compressed ({name}), and so cannot be read in parts. Unpack it to a plain .tar."
            )
    try:
        if any(block):
            parse_header(block)
    except ValueError as error:
        raise ConfigError("The file is no tar. Name webdataset shards that are not compressed.") from error
