"""Planning: the item lists of a project's chunks, from whatever the maintainer named as its images.

Each kind of file has its planner; here is found out which one each file needs, and the lists of all are put together.

Always holds: lists come in one order, that of the files' paths; they stream, so that a dataset of any size takes the
memory of a few lists.
"""

import hashlib
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio
from msgspec import UNSET

from p2pcap.errors import ConfigError, ImageError, SourceError
from p2pcap.project.items import Item, ItemList
from p2pcap.project.records import FetchRules
from p2pcap.sources import finding, folder, locations, loose, parquet, streamed, tables, tar
from p2pcap.sources.asked import Tally, check_settings, with_caption_field
from p2pcap.sources.files import Files
from p2pcap.sources.finding import HubImages, LocalFolder, Shard, Shards, data_folder
from p2pcap.sources.lists import Lists, joined, split
from p2pcap.sources.locations import Location
from p2pcap.sources.naming import naming
from p2pcap.sources.sidecars import Names
from p2pcap.sources.spec import Images

__all__ = ["data_folder", "plan"]

log = structlog.get_logger()

HASHED_AT_ONCE = 4
"""Images that are fetched for their hashes together: each may have 32 MiB."""

Planner = Callable[[Files, Location, Images, int], Lists]

PLANNERS: dict[str, Planner] = {
    "parquet": parquet.plan,
    "urls": tables.plan,
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
    tally, planned = Tally(asked), 0
    async with aclosing(joined(tally.counted(_planned(files, base, asked, size, tally.names)), asked, size)) as lists:
        async for found in lists:
            for part in split(await _hashed(files, found) if images.hashes and found.file is None else found):
                planned += len(part.items)
                progress(planned)
                yield part
    tally.check(planned)


async def _planned(files: Files, base: Path, images: Images, size: int, met: Names) -> Lists:
    found = await finding.find(files, base, images)
    check_settings(images, found)
    if isinstance(found, LocalFolder):
        planner = folder.plan(files, images, found.path, size, met)
    elif isinstance(found, HubImages):
        planner = loose.plan(files, found.dataset, found.images, found.files, images, size, met)
    else:
        planner = _of_shards(files, found, images, size, met)
    async with aclosing(planner) as lists:
        async for one in lists:
            yield one


class _NoImages(ConfigError):
    """A file turns out to hold no images."""


async def _of_shards(files: Files, found: Shards, images: Images, size: int, met: Names) -> Lists:
    """One file after the other. Where the kind was found out by the name, a file that turns out to hold no images is
    left out, unless all are."""
    unfit: _NoImages | None = None
    left_out = planned = 0
    for shard in found.shards:
        count = 0
        try:
            with naming(shard.location):
                async with aclosing(_of_shard(files, shard, images, size, found.decided, met)) as lists:
                    async for one in lists:
                        count += len(one.items)
                        yield one
        except _NoImages as error:
            unfit, left_out = unfit or error, left_out + 1
        else:
            log.info("file planned", file=str(shard.location), images=count)
        planned += count
    if unfit and not planned:
        raise unfit
    if unfit:
        log.warning("files hold no images and are left out", files=left_out, the_first=str(unfit))


async def _of_shard(files: Files, shard: Shard, images: Images, size: int, decided: bool, met: Names) -> Lists:
    """The file's lists. Raises _NoImages when it holds none, and nobody said that it does."""
    kind: str = shard.kind
    if kind == "parquet" and not decided:
        kind = await _parquet_kind(files, shard, images)
    begun = False
    try:
        async with aclosing(_planner(kind, met)(files, shard.location, images, size)) as lists:
            async for one in lists:
                begun = True
                yield one
    except ConfigError as error:
        if begun or decided or kind != "stream":
            raise
        raise _NoImages(str(error)) from error
    if begun and kind != "tar":
        met.add(images.fields)  # columns of other names would have been refused


def _planner(kind: str, met: Names) -> Planner:
    return partial(tar.plan, met=met) if kind == "tar" else PLANNERS[kind]


async def _parquet_kind(files: Files, shard: Shard, images: Images) -> str:
    try:
        return await parquet.kind(files, shard.location, images)
    except ConfigError as error:
        raise _NoImages(str(error)) from error


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
