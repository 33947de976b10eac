"""Planning: the item lists of a project's chunks, from whatever the maintainer named as its images.

Each kind of file has its planner; here is found out which one each file needs, and what all lists have in common is
done: leaving out what has a caption, joining short lists, splitting ones with too much text.

Always holds: lists come in one order, that of the files' paths; they stream, so that a dataset of any size takes the
memory of a few lists.
"""

import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import structlog
import trio
from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.errors import ConfigError, ImageError, SourceError
from p2pcap.project.items import Item, ItemList
from p2pcap.project.records import FetchRules
from p2pcap.project.task import MAX_FIELDS
from p2pcap.sources import finding, folder, locations, loose, parquet, streamed, tables, tar
from p2pcap.sources.files import Files
from p2pcap.sources.finding import HubImages, LocalFolder, Shard, Shards, data_folder
from p2pcap.sources.locations import Location
from p2pcap.sources.spec import Images

__all__ = ["data_folder", "plan"]

log = structlog.get_logger()

MAX_BLOB = 28 * 1024 * 1024
"""Bytes of a list's items; a chunk's list may have 32 MiB (records.Chunk)."""

ITEM_BYTES = 512
"""What an item has beside its texts at most: hash, numbers, and the heads of 66 texts."""

MAX_WAITING = 4 * 1024 * 1024
"""Characters of a list that is filled from several tables; one with more is ended early."""

HASHED_AT_ONCE = 4
"""Images that are fetched for their hashes together: each may have 32 MiB."""

Lists = AsyncGenerator[ItemList, None]
Planner = Callable[[Files, Location, Images, int], Lists]

PLANNERS: dict[str, Planner] = {
    "parquet": parquet.plan,
    "urls": tables.plan,
    "tar": tar.plan,
    "stream": streamed.plan,
}


async def plan(files: Files, base: Path, images: Images, size: int, progress: Callable[[int], None]) -> Lists:
    """The lists of all images that `images` names, each of at most `size` (a larger row group of a Parquet file stays
    whole). Local files are those in `data_folder(base, images)`, and `files` reads there. `progress` is told the
    number of images planned so far.

    Raises ConfigError when there is nothing to caption or `images` does not fit what is there, and the SourceErrors
    of `files`.
    """
    asked = with_caption_field(images)
    planned = 0
    async with aclosing(joined(_planned(files, base, asked, size), asked, size)) as lists:
        async for found in lists:
            for part in split(await _hashed(files, found) if images.hashes and found.file is None else found):
                planned += len(part.items)
                progress(planned)
                yield part
    if not planned:
        raise ConfigError(
            f"{images.source} has no images to caption; the log says what was left out. Correct the section `images` "
            "of project.yaml."
        )


def with_caption_field(images: Images) -> Images:
    """The caption is read like any other field."""
    name = images.caption_field
    if images.captioned != "append" and not name:
        raise ConfigError(f"images.captioned {images.captioned} needs images.caption_field. Name the field.")
    if not name or name in images.fields:
        return images
    if len(images.fields) == MAX_FIELDS:
        raise ConfigError(f"images.fields and images.caption_field are over {MAX_FIELDS} fields. Take fewer.")
    return msgspec.structs.replace(images, fields=(*images.fields, name))


async def _planned(files: Files, base: Path, images: Images, size: int) -> Lists:
    found = await finding.find(files, base, images)
    if isinstance(found, LocalFolder):
        planner = folder.plan(files, images, found.path, size)
    elif isinstance(found, HubImages):
        planner = loose.plan(files, found.dataset, found.images, found.files, images, size)
    else:
        planner = _of_shards(files, found, images, size)
    async with aclosing(planner) as lists:
        async for one in lists:
            yield one


class _NoImages(ConfigError):
    """A file turns out to hold no images."""


async def _of_shards(files: Files, found: Shards, images: Images, size: int) -> Lists:
    """One file after the other. Where the kind was found out by the name, a file that turns out to hold no images is
    left out, unless all are."""
    unfit: _NoImages | None = None
    planned = 0
    for shard in found.shards:
        count = 0
        try:
            async with aclosing(_of_shard(files, shard, images, size, found.decided)) as lists:
                async for one in lists:
                    count += len(one.items)
                    yield one
        except _NoImages as error:
            unfit = unfit or error
            log.warning("file left out", file=str(shard.location), why=str(error))
        else:
            log.info("file planned", file=str(shard.location), images=count)
        planned += count
    if unfit and not planned:
        raise unfit


async def _of_shard(files: Files, shard: Shard, images: Images, size: int, decided: bool) -> Lists:
    """The file's lists. Raises _NoImages when it holds none, and nobody said that it does."""
    kind: str = shard.kind
    if kind == "parquet" and not decided:
        kind = await _parquet_kind(files, shard, images)
    begun = False
    try:
        async with aclosing(PLANNERS[kind](files, shard.location, images, size)) as lists:
            async for one in lists:
                begun = True
                yield one
    except ConfigError as error:
        if begun or decided or kind != "stream":
            raise
        raise _NoImages(str(error)) from error


async def _parquet_kind(files: Files, shard: Shard, images: Images) -> str:
    try:
        return await parquet.kind(files, shard.location, images)
    except ConfigError as error:
        raise _NoImages(str(error)) from error


# --- lists


def uncaptioned(item: Item, images: Images) -> Item | None:
    """The item as the maintainer wants those that have a caption; None when it is left out."""
    if images.captioned == "append" or not item.metadata.get(images.caption_field, "").strip():
        return item
    if images.captioned == "skip":
        return None
    rest = {name: text for name, text in item.metadata.items() if name != images.caption_field}
    return msgspec.structs.replace(item, fields=rest or UNSET)


async def joined(lists: Lists, images: Images, size: int) -> Lists:
    """The lists without the items that are left out. Items that are not parts of a file fill lists of `size` across
    the tables and folders that they come from."""
    waiting: list[Item] = []
    text = 0
    async with aclosing(lists):
        async for found in lists:
            kept = [item for one in found.items if (item := uncaptioned(one, images))]
            if found.file is not None:
                if waiting:
                    yield ItemList(tuple(waiting))
                    waiting, text = [], 0
                if kept:
                    yield msgspec.structs.replace(found, items=tuple(kept))
                continue
            for item in kept:
                waiting.append(item)
                text += characters(item)
                if len(waiting) == size or text > MAX_WAITING:
                    yield ItemList(tuple(waiting))
                    waiting, text = [], 0
    if waiting:
        yield ItemList(tuple(waiting))


def split(found: ItemList) -> Iterator[ItemList]:
    """The list, or several of the same file, so that each is a blob that a chunk may have."""
    if sum(4 * characters(item) + ITEM_BYTES for item in found.items) <= MAX_BLOB:  # by far the most lists
        yield found
        return
    start, total = 0, 0
    for index, item in enumerate(found.items):
        length = len(encode(item))
        if total + length > MAX_BLOB and index > start:
            yield msgspec.structs.replace(found, items=found.items[start:index])
            start, total = index, 0
        total += length
    yield msgspec.structs.replace(found, items=found.items[start:])


def characters(item: Item) -> int:
    """Of all its texts; in a blob each takes 4 bytes at most."""
    total = len(item.key) + (0 if item.url is UNSET else len(item.url))
    for name, text in item.metadata.items():
        total += len(name) + len(text)
    return total


async def _hashed(files: Files, found: ItemList) -> ItemList:
    """The list with the hashes of those images that can be read now; the others stay without."""
    items = list(found.items)
    limit = trio.CapacityLimiter(HASHED_AT_ONCE)

    async def hash_one(index: int, item: Item) -> None:
        async with limit:
            items[index] = await _with_hash(files, item)

    async with trio.open_nursery() as nursery:
        for index, item in enumerate(found.items):
            if item.url is not UNSET and not item.hash:
                nursery.start_soon(hash_one, index, item)
    return ItemList(tuple(items))


async def _with_hash(files: Files, item: Item) -> Item:
    try:
        data = await files.image(locations.parse(str(item.url)), FetchRules().image)
    except (ImageError, SourceError) as error:
        log.warning("image not read", image=item.key, why=str(error))
        return item
    return msgspec.structs.replace(item, hash=hashlib.sha256(data).digest(), length=len(data))
