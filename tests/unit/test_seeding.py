"""Which images are handed out from a folder."""

import hashlib

import pytest
import trio

from p2pcap.errors import ConfigError
from p2pcap.node.seeding import check_local, has_local
from p2pcap.project.items import Item, ItemList, ParquetRows, StreamRows, TarRange

HASH = hashlib.sha256(b"image").digest()
HUB = "hf://datasets/owner/name@" + "0" * 40 + "/a"

LOCAL = [
    ItemList((Item("a", HASH, 5),)),
    ItemList((Item("a", b"", 5, at=0), Item("b", HASH, 5, at=9)), tar=TarRange("file:a.tar", 9, 0, 9)),
    ItemList((Item("a", HASH, 5, at=0),), parquet=ParquetRows("file:a.parquet", 9, (0,), "image")),
    ItemList((Item("a", HASH, 5, at=0),), stream=StreamRows("file:a.arrow", 9, "arrow", "image")),
]
ELSEWHERE = [
    ItemList((Item("a", b"", 0, url="https://example.org/a"),)),
    ItemList((Item("a", HASH, 5, url=HUB),)),
    ItemList((Item("a", HASH, 5, at=0),), tar=TarRange("https://example.org/a.tar", 9, 0, 9)),
    ItemList((Item("a", b"", 0, at=0),), parquet=ParquetRows(HUB, 9, (0,), "image")),
    ItemList((Item("a", b"", 5, at=0),), tar=TarRange("file:a.tar", 9, 0, 9)),
]


@pytest.mark.parametrize("found", LOCAL)
def test_images_of_the_folder_with_a_hash_are(found: ItemList) -> None:
    assert has_local(found)


@pytest.mark.parametrize("found", ELSEWHERE)
def test_those_elsewhere_or_without_a_hash_are_not(found: ItemList) -> None:
    assert not has_local(found)


def test_one_list_is_enough() -> None:
    async def listing(chunk: int) -> ItemList:
        return [*ELSEWHERE, *LOCAL][chunk]

    trio.run(check_local, len(ELSEWHERE) + 1, listing)
    with pytest.raises(ConfigError, match="nothing to seed"):
        trio.run(check_local, len(ELSEWHERE), listing)
