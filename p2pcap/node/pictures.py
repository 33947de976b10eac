"""Pictures to measure an engine with: the user's own, or the project's that are on this machine, or some from peers.

Always holds: an image is shown to the engine under a name that it has not had before, however often the same picture
comes again, so no cache of the engine's makes the measure better than the work is.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio
from msgspec import UNSET

from p2pcap.errors import ConfigError, ImageError
from p2pcap.ledger.state import Ledger
from p2pcap.node.fetching import Fetching
from p2pcap.node.guest import Visit
from p2pcap.node.images import Images
from p2pcap.node.reading import Reading, empty
from p2pcap.paths import NodePaths
from p2pcap.project.items import MAX_IMAGE, Item
from p2pcap.project.opened import Project
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.open_files import Access, open_files
from p2pcap.store.database import reading
from p2pcap.store.reads import item_lists, items

MOST = 512
"""Pictures of a sample; what they differ in evens out."""

MOST_BYTES = 256 * 1024 * 1024
"""Bytes of a sample, which is kept in memory, but for its last picture."""

FETCHED = 128
"""Pictures that are fetched for a measure: two slices."""

FETCH_SECONDS = 30.0
"""After so long the measure begins with what has come."""


@dataclass(frozen=True)
class Picture:
    """An image file and what the dataset says of it."""

    data: bytes
    fields: Mapping[str, str]


def endless(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, bytes]]:
    """The pictures over and over, each time with another 32 bytes to know it by."""
    hashes = [hashlib.sha256(picture.data).digest() for picture in pictures]
    for number in itertools.count():
        place = number % len(pictures)
        yield pictures[place], hashlib.sha256(hashes[place] + number.to_bytes(8, "big")).digest()


def in_folder(folder: Path) -> list[Picture]:
    """The first files below `folder`, by name. Raises ConfigError when there is none, or one cannot be read.

    What is no image is found out by the engine, as in a dataset.
    """
    paths = sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names if name[:1] != ".")
    pictures: list[Picture] = []
    for path in paths:
        try:
            if path.is_file() and path.stat().st_size <= MAX_IMAGE:
                pictures.append(Picture(path.read_bytes(), {}))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}. Name a folder of images.") from error
        if enough(pictures):
            break
    if not pictures:
        raise ConfigError(f"There is no image in {folder}. Name a folder of images.")
    return pictures


def enough(pictures: Sequence[Picture]) -> bool:
    """Whether they are a sample."""
    return len(pictures) >= MOST or sum(len(picture.data) for picture in pictures) >= MOST_BYTES


def in_cache(paths: NodePaths) -> list[Picture]:
    """Those of the project's images that the node's cache holds, as its database knows them. Raises StoreError."""
    cache = ImageCache(paths.images)
    pictures: list[Picture] = []
    if not len(cache):
        return pictures
    with reading(paths.database) as readers, readers.lend() as cursor:
        for chunk in sorted(item_lists(cursor)):
            for item in items(cursor, chunk) or ():
                if (data := cache.get(item.hash)) is not None:
                    pictures.append(_picture(item, data))
                    if enough(pictures):
                        return pictures
    return pictures


def _picture(item: Item, data: bytes) -> Picture:
    return Picture(data, {} if item.fields is UNSET else item.fields)


async def from_peers(visit: Visit, project: Project, paths: NodePaths) -> list[Picture]:
    """The project's first FETCHED images, from peers or from where they lie; fewer when FETCH_SECONDS are over.

    They stay in the cache for the node that joins later. Raises SourceError, StoreError.
    """
    cache = ImageCache(paths.images)
    found: list[tuple[Item, bytes]] = []
    fetching = Fetching(Ledger(project), visit.store, visit.swarm, visit.peers_changed)
    held = Reading(cache, project.plan.fetch_rules, paths.scratch)
    images = Images(visit.swarm, cache, None, held, fetching.listing, visit.peers_changed)
    await trio.to_thread.run_sync(empty, paths.scratch)
    with trio.move_on_after(FETCH_SECONDS):
        async with open_files(None, Access(project.plan.fetch_rules)) as files, trio.open_nursery() as nursery:
            nursery.start_soon(held.run, files)
            for chunk in range(len(project.counts)):
                found += await _of_chunk(images, fetching, chunk, FETCHED - len(found))
                if len(found) >= FETCHED:
                    break
            nursery.cancel_scope.cancel()
    return await trio.to_thread.run_sync(_read, cache, found)


async def _of_chunk(images: Images, fetching: Fetching, chunk: int, most: int) -> list[tuple[Item, bytes]]:
    """Items of the chunk with the hashes of their images, which are in the cache."""
    listing = await fetching.listing(chunk)
    wanted = range(min(most, len(listing.items)))
    came = await images.of_chunk(chunk, listing, wanted, ())
    return [(listing.items[place], one.hash) for place, one in came.items() if not isinstance(one, ImageError)]


def _read(cache: ImageCache, found: Sequence[tuple[Item, bytes]]) -> list[Picture]:
    pictures = [(item, cache.get(hash_)) for item, hash_ in found]
    return [_picture(item, data) for item, data in pictures if data is not None]
