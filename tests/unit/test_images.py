"""A node's images: from the cache, from peers by hash; what nobody hands over, and what nobody could."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from p2pcap.errors import ImageError, ImageUnavailable, SourceError
from p2pcap.node.change import Change
from p2pcap.node.images import SEEDLESS, Images
from p2pcap.node.reading import Reading
from p2pcap.project.items import MAX_IMAGE, Item, ItemList, ParquetRows
from p2pcap.project.records import FetchRules
from p2pcap.sources.cache import ImageCache
from p2pcap.worker.slices import Image

PICTURES = [b"picture %d" % number for number in range(10)]
HASHES = [hashlib.sha256(data).digest() for data in PICTURES]
LIST = ItemList(tuple(Item(f"{n}.jpg", HASHES[n], len(PICTURES[n])) for n in range(10)))


class Peers:
    """A swarm whose peers hold `held` and have these roles; `asked` is what was asked of them."""

    def __init__(self, held: Sequence[bytes] = PICTURES, roles: Sequence[str] = ("volunteer",)) -> None:
        self.held = {hashlib.sha256(data).digest(): data for data in held}
        self.roles = roles
        self.asked: list[bytes] = []

    def peers(self) -> list[Any]:
        return [SimpleNamespace(status=SimpleNamespace(role=role)) for role in self.roles]

    async def fetch(
        self, kind: str, wanted: Sequence[bytes], peers: None, verify: Callable[[bytes, bytes], bool], cap: int
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        assert all(len(hash_) == 32 for hash_ in wanted), "a batch with anything else is refused as a whole"
        self.asked += wanted
        await trio.lowlevel.checkpoint()
        for hash_ in wanted:
            if hash_ in self.held:
                yield hash_, self.held[hash_]


def images_of(folder: Path, peers: Peers, cap: int = 10**9) -> Images:
    async def listing(chunk: int) -> ItemList:
        return LIST

    cache = ImageCache(folder / "images", cap)
    reading = Reading(cache, FetchRules(), folder)
    return Images(cast(Any, peers), cache, None, reading, listing, Change())


def asked(folder: Path, peers: Peers, found: ItemList, wanted: Sequence[int]) -> dict[int, Image | ImageError]:
    """What a node that has just started, with what is in `folder`, has of these."""

    async def main() -> dict[int, Image | ImageError]:
        return dict(await images_of(folder, peers).of_chunk(0, found, wanted, ()))

    return trio.run(main)


def test_images_come_from_peers_once_and_then_from_the_disk(tmp_path: Path) -> None:
    peers = Peers()
    first = asked(tmp_path, peers, LIST, [1, 3])
    assert {index: image.hash for index, image in first.items() if isinstance(image, Image)} == {
        1: HASHES[1],
        3: HASHES[3],
    }
    again = asked(tmp_path, peers, LIST, [1, 3, 4])
    assert peers.asked == [HASHES[1], HASHES[3], HASHES[4]]
    assert again[1] == Image(HASHES[1]), "it waits on disk"
    assert ImageCache(tmp_path / "images").get(HASHES[1]) == PICTURES[1]


@pytest.mark.parametrize(("roles", "said"), [(("volunteer",), set()), (("seeder",), {2}), (("coordinator",), {2})])
def test_an_image_that_no_peer_has_is_missing_once_somebody_is_there_who_should_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roles: tuple[str, ...], said: set[int]
) -> None:
    monkeypatch.setattr("p2pcap.node.images.PATIENCE", 0.01)
    monkeypatch.setattr("p2pcap.node.images.RETRY", 0.01)
    peers = Peers([data for number, data in enumerate(PICTURES) if number != 2], roles)
    found = asked(tmp_path, peers, LIST, [1, 2])
    assert isinstance(found[1], Image)
    assert {index for index, one in found.items() if isinstance(one, ImageUnavailable)} == said


def test_without_any_seeder_for_hours_it_is_missing_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pcap.node.images.PATIENCE", 0.01)
    monkeypatch.setattr("p2pcap.node.images.RETRY", 0.01)

    async def main() -> None:
        images = images_of(tmp_path, Peers([]))
        assert await images.of_chunk(0, LIST, [2], ()) == {}
        images._seeded -= SEEDLESS
        assert isinstance((await images.of_chunk(0, LIST, [2], ()))[2], ImageUnavailable)

    trio.run(main)


def test_an_image_of_a_local_file_that_nobody_could_read_is_asked_of_nobody(tmp_path: Path) -> None:
    rows = ParquetRows("file:a.parquet", 100, (0,), "image")
    items = (Item("a", HASHES[0], 9, at=0), Item("b", b"", 0, at=1), Item("c", b"", MAX_IMAGE, at=2))
    peers = Peers()
    found = asked(tmp_path, peers, ItemList(items, parquet=rows), [0, 1, 2])
    assert isinstance(found[0], Image)
    codes = {index: error.code for index, error in found.items() if isinstance(error, ImageError)}
    assert codes == {1: "undecodable", 2: "too-large"}
    assert peers.asked == [HASHES[0]]


def test_a_full_disk_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"in the way")

    async def main() -> None:
        images = images_of(tmp_path, Peers())
        with pytest.raises(SourceError, match="cannot be written"):
            await images.of_chunk(0, LIST, [1], ())
        await images.replicate([0])
        assert images.held == 0

    trio.run(main)


def test_what_travels_is_copied_for_others(tmp_path: Path) -> None:
    async def main() -> None:
        images = images_of(tmp_path, Peers())
        await images.replicate([0])
        assert images.held == 10
        assert [await images.load(hash_) for hash_ in HASHES] == PICTURES

    trio.run(main)


def test_an_image_that_left_the_cache_before_its_turn_comes_again(tmp_path: Path) -> None:
    """A cache may be smaller than what waits for the engine."""

    async def main() -> None:
        peers = Peers()
        images = images_of(tmp_path, peers, cap=3 * len(PICTURES[0]))
        await images.of_chunk(0, LIST, [0], ())
        waiting = (await images.of_chunk(0, LIST, [0], ()))[0]
        assert waiting == Image(HASHES[0]), "it waits on disk"
        await images.of_chunk(0, LIST, [1, 2, 3], ())
        assert await images.load(HASHES[0]) is None
        assert await images.again(HASHES[0]) == PICTURES[0]
        del peers.held[HASHES[1]]
        assert await images.again(HASHES[1]) is None

    trio.run(main)
