"""The index of a tar: a JSON file beside it that says where each member is, in the form that webshart reads and writes.

    {"path": "a.tar", "filesize": 20480, "files": {"1.jpg": {"offset": 512, "length": 9000, "sha256": "…"}, …}}

`offset` is the first byte of a member's content. Others write "files" as a list whose entries have a "path"; that is
read too, and so are "captions" and "json_metadata" of an entry. NAME.json beside NAME.tar is taken for its index when
it has "files" (github.com/bghira/webshart, src/metadata.rs).

Always holds: the members of an index that was read lie within the tar, in order, and do not overlap.
"""

import hashlib
import posixpath
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.errors import ConfigError, SourceDenied, SourceGone
from p2pcap.project.record import Count
from p2pcap.sources.files import MAX_PART, Files
from p2pcap.sources.forward import Forward
from p2pcap.sources.locations import HubFile, Location, WebFile
from p2pcap.sources.tar_walk import BLOCK, MAX_MEMBERS, MAX_NAME, Contents, Member, Need, safe_name, walk

MAX_INDEX = MAX_PART
"""Bytes of an index."""

MAX_BRACES = 4 * MAX_MEMBERS
"""Opening braces in an index, each at most one entry: what parsing it may cost is known before it is parsed."""

Progress = Callable[[int], None]
"""Told how many bytes of the tar are behind."""


class Entry(msgspec.Struct, gc=False, omit_defaults=True):
    """One member, as an index describes it; the names are webshart's, some of them in two spellings."""

    offset: Count
    length: Count | UnsetType = UNSET
    size: Count | UnsetType = UNSET
    path: str | None = None
    fname: str | None = None
    filename: str | None = None
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}\Z")] | None = None
    captions: str | list[str] | None = None
    caption: str | list[str] | None = None
    json_metadata: msgspec.Raw | UnsetType = UNSET

    def member(self, key: str | None) -> Member:
        """The member; `key` is its name where the entry has none. Raises ValueError when it lacks name or length."""
        name = self.path or self.fname or self.filename or key
        length = self.size if self.length is UNSET else self.length
        if name is None or length is UNSET:
            raise ValueError("a file has no name or no length")
        said = self.captions or self.caption or ()
        captions = (said,) if isinstance(said, str) else tuple(said)
        metadata = None if self.json_metadata is UNSET else self.json_metadata
        return Member(name, self.offset, length, bytes.fromhex(self.sha256 or ""), captions, metadata)


class Shard(msgspec.Struct):
    """A whole index."""

    path: str | None = None
    filesize: Count | None = None
    files: dict[str, Entry] | list[Entry] | UnsetType = UNSET


class _Probe(msgspec.Struct):
    files: msgspec.Raw | UnsetType = UNSET


def parse_index(data: bytes, size: int) -> list[Member] | None:
    """The members that an index of a tar of `size` bytes names, by offset; None when the JSON is no index at all.

    Raises ConfigError for an index that is faulty, or is of another tar.
    """
    if len(data) > MAX_INDEX or data.count(b"{") > MAX_BRACES:
        raise ConfigError("The index beside the tar is too long. Split the tar into smaller shards.")
    try:
        shard = msgspec.json.decode(data, type=Shard)
        if shard.files is UNSET:
            return None
        if shard.filesize and shard.filesize != size:
            raise ValueError(f"it is of a tar of {shard.filesize} bytes, and this one has {size}")
        return _in_order(_members(shard.files), size)
    except (ValueError, RecursionError) as error:
        if _is_other(data):
            return None
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(
            f"The index beside the tar is faulty: {why}. Make it anew with `p2pcap index --force`."
        ) from error


def encode_index(path: str, size: int, members: Iterable[Member]) -> bytes:
    """The index of the tar named `path`. A name that comes again gets "#2" as its key, and keeps its name as "path"."""
    numbers: dict[str, int] = {}
    files: dict[str, Any] = {}
    for member in members:
        key = unused(member.name, files, numbers)
        entry: dict[str, Any] = {"offset": member.offset, "length": member.length}
        if key != member.name:
            entry["path"] = member.name
        if member.hash:
            entry["sha256"] = member.hash.hex()
        files[key] = entry
    return msgspec.json.encode({"path": path, "filesize": size, "files": files, "includes_image_geometry": False})


def unused(name: str, used: Container[str], numbers: dict[str, int]) -> str:
    """`name`, or with "#2", "#3"… behind it the first that is not `used`. `numbers` remembers how far each name is."""
    key = name
    while key in used:
        numbers[name] = numbers.get(name, 1) + 1
        key = f"{name}#{numbers[name]}"
    return key


def index_location(tar: Location) -> Location:
    """Where a tar's index is: beside it, with the suffix .json."""
    if isinstance(tar, WebFile):
        parts = urlsplit(tar.url)
        return WebFile(urlunsplit(parts._replace(path=index_name(parts.path))))
    if isinstance(tar, HubFile):
        return replace(tar, path=index_name(tar.path))
    return replace(tar, path=index_name(tar.path))


def index_name(tar: str) -> str:
    """The name of the index of the tar of that name."""
    return posixpath.splitext(tar)[0] + ".json" if tar.lower().endswith(".tar") else tar + ".json"


async def find_index(files: Files, tar: Location, size: int) -> list[Member] | None:
    """The members that the index beside a tar names; None when there is none. Raises ConfigError for a faulty one."""
    beside = index_location(tar)
    try:
        length = await files.size(beside)
        if not 0 < length <= MAX_INDEX:
            raise ConfigError(f"{beside} is empty or too long for an index of {tar}. Remove it, or make it anew.")
        data = await files.read(beside, 0, length)
    except (SourceGone, SourceDenied):
        # Object stores answer "forbidden" for what is not there; who may not read the tar either hears of that anyway.
        return None
    try:
        return parse_index(data, size)
    except ConfigError as error:
        raise ConfigError(f"{beside}: {error}") from error


async def stream_index(files: Files, tar: Location, size: int, progress: Progress) -> Contents:
    """Walk a tar from end to end as it streams by, and hash each member in passing: it costs the whole file once.

    Raises ConfigError as `walk` does.
    """
    found = Contents()
    needs = walk(size, found)
    hashed = 0
    async with files.stream(tar, 0, size) as parts:
        passing = Forward(parts, 0)
        need = next(needs, None)
        while need is not None:
            await passing.skip_to(need[0])
            need = _send(needs, await passing.take(need[1]))
            if len(found.members) > hashed:
                found.members[-1] = await _hashed(passing, found.members[-1])
                hashed += 1
            progress(passing.at)
    return found


def seek_index(tar: BinaryIO, size: int, progress: Progress) -> Contents:
    """Walk a tar on disk, from header to header: reads 512 bytes a member. Raises ConfigError as `walk` does."""
    found = Contents()
    needs = walk(size, found)
    need = next(needs, None)
    while need is not None:
        tar.seek(need[0])
        data = tar.read(need[1])
        if len(data) != need[1]:
            raise ConfigError("The tar became shorter while it was read. Wait until it is written, and try again.")
        need = _send(needs, data)
        progress(tar.tell())
    return found


def _send(needs: Generator[Need, bytes, None], data: bytes) -> Need | None:
    try:
        return needs.send(data)
    except StopIteration:
        return None


async def _hashed(passing: Forward, member: Member) -> Member:
    digest = hashlib.sha256()
    await passing.skip_to(member.offset)
    await passing.hand(member.length, digest.update)
    return msgspec.structs.replace(member, hash=digest.digest())


def _members(files: dict[str, Entry] | list[Entry]) -> Iterator[Member]:
    """The members, in no order; each entry is let go of when its member is there, for memory's sake."""
    while files:
        key, entry = files.popitem() if isinstance(files, dict) else (None, files.pop())
        yield entry.member(key)


def _in_order(members: Iterator[Member], size: int) -> list[Member]:
    """By offset, those with unsafe names left out. Raises ValueError for what cannot be in a tar of that size."""
    found = [member for member in members if _usable(member)]
    if len(found) > MAX_MEMBERS:
        raise ValueError(f"it names over {MAX_MEMBERS} files; split the tar into smaller shards")
    found.sort(key=lambda member: member.offset)
    end = 0
    for member in found:
        if member.offset < end + BLOCK or member.end > size:
            raise ValueError(f"what it names at byte {member.offset} overlaps a header, another file or the end")
        end = member.end
    return found


def _usable(member: Member) -> bool:
    return len(member.name) <= MAX_NAME and safe_name(member.name)


def _is_other(data: bytes) -> bool:
    """Whether it is no JSON object, as the page of a server that has no such file, or one without "files"."""
    if not data.lstrip().startswith(b"{"):
        return True
    try:
        return msgspec.json.decode(data, type=_Probe).files is UNSET
    except (ValueError, RecursionError):
        return False
