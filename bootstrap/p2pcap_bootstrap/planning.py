"""The chunks of a project that is being signed: those that are signed already, and new ones behind them.

Always holds: an item list is on disk before the next one is planned; in memory are the numbers of the chunks' images,
and the last page of the chunk table. A chunk that is signed keeps its place and its images, whatever became of them
since.
"""

import gc
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import libipld
import msgspec
import trio
from msgspec import UNSET

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.errors import CodecError, ConfigError
from p2pcap.project.chunks import PAGE_BYTES, Chunk, TableBuilder, page_over
from p2pcap.project.items import Item, ItemList, encode_list
from p2pcap.project.opened import Project, open_list
from p2pcap.project.records import MAX_CHUNKS, FetchRules, Plan
from p2pcap.sources.finding import data_folder
from p2pcap.sources.lists import joined
from p2pcap.sources.naming import first
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.planning import plan as plan_images
from p2pcap.sources.spec import Images
from p2pcap_bootstrap.known_images import KnownImages
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.workspace import Workspace

LINK = b"\xd8\x2a"
"""The head of a link in CBOR: tag 42."""

Progress = Callable[[int], None]
"""Is told the number of images planned so far."""


class Blobs(Protocol):
    """Where the blobs of a signing go."""

    def put(self, data: bytes) -> bytes:
        """Keep a blob; returns its hash."""
        ...

    def blob(self, hash_: bytes) -> bytes:
        """A page that was put."""
        ...

    def hold(self, project: Project) -> None:
        """What is signed already stays."""
        ...


class Unwritten:
    """Where the blobs go of a plan that is only looked at: nowhere. What may be a page of the chunk table is kept: a
    page is small beside the lists of its chunks, and shows whether the plan follows another."""

    def __init__(self) -> None:
        self._pages: dict[bytes, bytes] = {}

    def put(self, data: bytes) -> bytes:
        """Its hash."""
        hash_ = hashlib.sha256(data).digest()
        if len(data) == PAGE_BYTES:
            self._pages[hash_] = data
        return hash_

    def blob(self, hash_: bytes) -> bytes:
        """A page that was put."""
        return self._pages[hash_]

    def hold(self, project: Project) -> None:
        """Nothing changes."""


class Lists:
    """The chunk table of a project that is being planned, behind that of `before`. `elsewhere`: images are read from
    the Hub or the web."""

    def __init__(self, signing: Blobs, before: Project | None = None) -> None:
        self._signing = signing
        self._mixed = before is not None
        self.table = TableBuilder(signing.put, before.plan.chunks if before else None)
        self.elsewhere = before is not None and before.plan.fetch is not UNSET
        self.added = 0
        self.gone = 0
        """Images that are new, and images of signed chunks that are not there any more."""
        if before is not None:
            signing.hold(before)

    def add(self, found: ItemList) -> None:
        """Write a chunk's item list. Raises ConfigError when there are too many, or it goes beyond a limit, or its
        images are elsewhere and those before it are not."""
        if len(self.table) == MAX_CHUNKS:
            raise ConfigError(f"The images make over {MAX_CHUNKS} chunks. Raise `chunk` in project.yaml.")
        elsewhere = not found.travels(found.items[0])
        if self._mixed and elsewhere is not self.elsewhere:
            raise ConfigError(
                "The images that are signed are handed round from this machine, and these are not, or the other way "
                "round. Make a new project for them with p2pcap project init."
            )
        try:
            data = list_blob(found)
            self.table.add(Chunk(len(found.items), self._signing.put(data), len(data)))
        except CodecError as error:
            key = found.items[0].key
            raise ConfigError(
                f"The chunk of {key!r} is beyond the protocol's limits: {error} Lower `chunk`, or name fewer fields."
            ) from error
        self.added += len(found.items)
        self.elsewhere |= elsewhere


def page_between(before: Plan, after: Plan, blobs: Blobs) -> bytes:
    """The page that shows whether `after` follows `before` (p2pcap.project.chunks.page_over), empty where none is
    needed; `after` was made with `blobs`."""
    hash_ = page_over(after.chunks, before.chunks)
    return b"" if hash_ is None else blobs.blob(hash_)


def list_blob(found: ItemList) -> bytes:
    """The blob of a list, checked as its readers do. Raises CodecError for one that they would not take.

    libipld writes 16 times as fast as p2pcap.codec, but makes a link of bytes that look like one; a text in UTF-8 never
    has the two bytes that a link begins with, so a blob without them is what p2pcap.codec would write.
    """
    plain: Any = msgspec.to_builtins(list(found.items), builtin_types=(bytes,))
    if found.file is not None:
        kind = next(kind for kind in ("parquet", "tar", "stream") if getattr(found, kind) is not UNSET)
        file = msgspec.to_builtins(found.file)
        plain = {
            "items": plain,
            kind: {key: list(part) if isinstance(part, tuple) else part for key, part in file.items()},
        }
    try:
        msgspec.convert(plain, ItemList if found.file else tuple[Item, ...], strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise CodecError(f"The record does not fit its schema: {error}.") from error
    data = libipld.encode_dag_cbor(plain)
    data = encode_list(found) if LINK in data else data
    if len(data) > MAX_BLOB:
        raise CodecError(f"The record has {len(data)} bytes; at most {MAX_BLOB} are allowed.")
    return data


def plan_lists(
    workspace: Workspace, file: ProjectFile, before: Project | None, lists: Lists, progress: Progress
) -> None:
    """Plan the images that are not in the chunks of `before`. Raises ConfigError, UntrustedError, SourceError."""
    known = None if before is None else _known(workspace, before)
    try:
        with rare_collections():
            trio.run(_write_lists, workspace.directory, file, known, lists, progress)
    except BaseExceptionGroup as group:
        raise first(group) from group
    lists.gone = known.left if known is not None else 0
    if not len(lists.table):
        raise ConfigError(f"There is no image in {file.source.source}. Check `images` in project.yaml.")


@contextmanager
def rare_collections() -> Iterator[None]:
    """Planning makes millions of small records, none of which refers to itself: looking through them for such garbage
    takes a sixth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def fetch_rules(file: ProjectFile) -> FetchRules:
    """How the project's images are fetched where they are on the web. Raises ConfigError."""
    rules = FetchRules(file.source.hosts, file.source.robots)
    try:
        return decode(encode(rules), FetchRules, 10_000)
    except CodecError as error:
        raise ConfigError(
            f"images.hosts in project.yaml goes beyond the limits: {error} Name at most 16 hosts."
        ) from error


def _known(workspace: Workspace, before: Project) -> KnownImages:
    known, lists = KnownImages(), workspace.lists(before)
    for chunk in before.chunks(lists.__getitem__):
        known.add(open_list(lists[chunk.items], chunk))
    return known


async def _write_lists(
    base: Path, file: ProjectFile, known: KnownImages | None, lists: Lists, progress: Progress
) -> None:
    """Plan the images and keep the lists of those that are new."""
    access = Access(fetch_rules(file), trusted=True, follow_symlinks=file.source.follow_symlinks)
    async with open_files(data_folder(base, file.source), access) as files:
        planned = plan_images(files, base, file.source, file.chunk, progress)
        new = planned if known is None else joined(_unknown(planned, known), Images(source="new"), file.chunk)
        async with aclosing(new) as some:
            async for found in some:
                await trio.to_thread.run_sync(lists.add, found)


async def _unknown(lists: AsyncGenerator[ItemList, None], known: KnownImages) -> AsyncGenerator[ItemList, None]:
    """The lists without the images that are known."""
    async with aclosing(lists):
        async for found in lists:
            items = tuple(item for item in found.items if not known.take(found, item))
            if items:
                yield msgspec.structs.replace(found, items=items)
            else:
                await trio.lowlevel.checkpoint()
