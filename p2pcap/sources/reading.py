"""Reading the images of one chunk, whatever kind of file they are parts of.

Always holds: each image that is wanted ends as its bytes or as an ImageError, exactly once; bytes whose hash is not the
planned one are an error, never an image.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio
from msgspec import UNSET

from p2pcap.errors import ImageError, ImageUnavailable, SourceGone, SourceUnavailable
from p2pcap.project.items import Item, ItemList
from p2pcap.project.records import FetchRules
from p2pcap.sources import addresses, parquet, streamed, tar
from p2pcap.sources.files import Files

Put = Callable[[int, bytes | ImageError], Awaitable[None]]
"""Takes an image of the list, by its place: its bytes, or why it cannot be had. While it waits, the reader waits."""


async def read_images(
    files: Files, found: ItemList, wanted: Sequence[int], rules: FetchRules, scratch: Path, put: Put
) -> None:
    """Give `put` each image of `found` that is `wanted` (places, ascending), in any order. `scratch` is a folder for
    passing files.

    Raises SourceDenied and SourceError when this machine cannot read the file; what `put` was not given by then may be
    asked for again.
    """
    reading = _Reading(found.items, set(wanted), put)
    try:
        if found.parquet is not UNSET:
            await parquet.read(files, found.parquet, reading.places(), scratch, reading.put)
        elif found.tar is not UNSET:
            await tar.read(files, found.tar, reading.places(), scratch, reading.put)
        elif found.stream is not UNSET:
            await streamed.read(files, found.stream, reading.places(), scratch, reading.put)
        else:
            await addresses.read(files, reading.places(), rules, reading.put)
    except SourceGone as error:
        await reading.end(ImageError("gone", str(error)))
    except SourceUnavailable as error:
        await reading.end(ImageUnavailable("unavailable", str(error)))
    await reading.end(ImageError("gone", "The file has no such image."))


LARGE = 512 * 1024
"""Bytes whose hash takes longer than to ask a thread for it."""


class _Reading:
    """What is still wanted of a list."""

    def __init__(self, items: Sequence[Item], wanted: set[int], put: Put) -> None:
        self._items = items
        self._wanted = wanted
        self._put = put

    def places(self) -> dict[int, Item]:
        """The wanted items by place."""
        return {index: self._items[index] for index in sorted(self._wanted)}

    async def put(self, index: int, image: bytes | ImageError) -> None:
        """Check an image against its planned hash and hand it on; what was handed on before, or was not asked for, is
        dropped."""
        if index not in self._wanted:
            return
        self._wanted.remove(index)
        planned = self._items[index].hash
        if isinstance(image, bytes) and planned and await _sha256(image) != planned:
            image = ImageError("changed", "The image is not the one that was planned.")
        await self._put(index, image)

    async def end(self, error: ImageError) -> None:
        """Whatever is still wanted does not come."""
        for index in sorted(self._wanted):
            await self.put(index, error)


async def _sha256(image: bytes) -> bytes:
    """The hash; of a large image worked out beside the event loop, which it would hold up for milliseconds."""
    if len(image) < LARGE:
        return hashlib.sha256(image).digest()
    return await trio.to_thread.run_sync(lambda: hashlib.sha256(image).digest())
