"""What the item lists of all kinds of files have in common: none has an image that is left out for its caption, short
ones are joined, and ones with too much text are split.

Always holds: the items keep their order, and a list is a blob that a chunk may have.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

import msgspec
from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.project.items import MAX_KEY, MAX_LOCATION, Item, ItemList
from p2pcap.sources.spec import Images

MAX_BLOB = 28 * 1024 * 1024
"""Bytes of a list's items; a chunk's list may have 32 MiB (records.MAX_LIST)."""

ITEM_BYTES = 512
"""What an item has beside its texts at most: hash, numbers, and the heads of 66 texts."""

MAX_WAITING = 4 * 1024 * 1024
"""Characters of a list that is filled from several tables; one with more is ended early."""

Lists = AsyncGenerator[ItemList, None]


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
            if found.file is None and not waiting and len(found.items) == size and images.captioned == "append":
                yield found
                continue
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
    if _fits(found.items):  # by far the most lists do
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


def _fits(items: Sequence[Item]) -> bool:
    """Whether the items are surely a blob that a chunk may have. Without fields they need not be looked at."""
    if len(items) * (4 * (MAX_KEY + MAX_LOCATION) + ITEM_BYTES) <= MAX_BLOB and all(
        item.fields is UNSET for item in items
    ):
        return True
    return sum(4 * characters(item) + ITEM_BYTES for item in items) <= MAX_BLOB


def characters(item: Item) -> int:
    """Of all its texts; in a blob each takes 4 bytes at most."""
    total = len(item.key) + (0 if item.url is UNSET else len(item.url))
    for name, text in item.metadata.items():
        total += len(name) + len(text)
    return total
