"""Reading chunks' files: one read serves all slices, goes ahead and waits, and tells whoever waits when it fails."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from p2pcap.errors import ImageError, ImageUnavailable, SourceDenied, SourceError
from p2pcap.node.reading import WINDOW, Reading
from p2pcap.project.items import Item, ItemList, TarRange
from p2pcap.project.records import FetchRules
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.locations import Location
from p2pcap.worker.slices import Image
from tests.sources.twin import TwinFiles

SIZE = 1_000
COUNT = 200


def content(number: int) -> bytes:
    return number.to_bytes(2, "big") * (SIZE // 2)


class Chunk:
    """A file that holds COUNT images in a row, as a tar does, and the list of them."""

    def __init__(self, folder: Path, cap: int = 10**9) -> None:
        self.folder = folder
        (folder / "data").mkdir()
        (folder / "data" / "0.tar").write_bytes(b"".join(map(content, range(COUNT))))
        items = tuple(Item(f"{number}.jpg", b"", SIZE, at=number * SIZE) for number in range(COUNT))
        place = TarRange("file:0.tar", COUNT * SIZE, 0, COUNT * SIZE)
        self.list = ItemList(items, tar=place)
        self.files = TwinFiles(folder / "data")
        self.cache = ImageCache(folder / "images", cap)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()

    async def use(self, test: Callable[[Reading], Awaitable[None]], rules: FetchRules | None = None) -> None:
        reading = Reading(self.cache, rules or FetchRules(), self.scratch)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reading.run, self.files)
                await test(reading)
                nursery.cancel_scope.cancel()

    def bytes_of(self, found: object) -> bytes | None:
        assert isinstance(found, Image)
        return found.data if found.data is not None else self.cache.get(found.hash)


def test_one_read_serves_all_slices(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)

    async def test(reading: Reading) -> None:
        ahead = set(range(COUNT))
        for start in (0, 64, 128):
            wanted = list(range(start, min(start + 64, COUNT)))
            found = await reading.images(5, chunk.list, wanted, ahead - set(range(start)))
            assert [chunk.bytes_of(found[index]) for index in wanted] == [content(index) for index in wanted]
            assert all(found[index].hash == hashlib.sha256(content(index)).digest() for index in wanted)  # type: ignore[union-attr]

    trio.run(chunk.use, test)
    assert chunk.files.moved == COUNT * SIZE


def test_two_slices_at_once_share_the_read(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)

    async def test(reading: Reading) -> None:
        async def slice_at(start: int) -> None:
            wanted = list(range(start, start + 64))
            found = await reading.images(0, chunk.list, wanted, set(range(COUNT)))
            assert [chunk.bytes_of(found[index]) for index in wanted] == [content(index) for index in wanted]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slice_at, 64)
            nursery.start_soon(slice_at, 0)

    trio.run(chunk.use, test)
    assert chunk.files.moved == COUNT * SIZE


def test_what_was_taken_is_read_again_when_it_is_asked_for_again(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)

    async def test(reading: Reading) -> None:
        for _ in range(2):
            found = await reading.images(0, chunk.list, [3], ())
            assert chunk.bytes_of(found[3]) == content(3)

    trio.run(chunk.use, test)
    assert chunk.files.moved == 2 * SIZE


def test_a_file_that_is_gone_ends_each_image(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)
    (tmp_path / "data" / "0.tar").unlink()

    async def test(reading: Reading) -> None:
        found = await reading.images(0, chunk.list, [1, 2], {3})
        assert {index: error.code for index, error in found.items() if isinstance(error, ImageError)} == {
            1: "gone",
            2: "gone",
        }
        assert not any(isinstance(error, ImageUnavailable) for error in found.values())

    trio.run(chunk.use, test)


def test_who_waits_for_a_read_that_fails_is_told_and_may_try_again(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)

    class Closed(TwinFiles):
        async def read(self, *_: object) -> bytes:
            raise SourceDenied("The dataset is closed to you. Set HF_TOKEN.")

    open_files, chunk.files = chunk.files, Closed(tmp_path / "data")

    async def test(reading: Reading) -> None:
        with pytest.raises(SourceDenied, match="HF_TOKEN"):
            await reading.images(0, chunk.list, [1, 2], {3})
        reading._files = open_files
        found = await reading.images(0, chunk.list, [2, 3], ())
        assert [chunk.bytes_of(found[index]) for index in (2, 3)] == [content(2), content(3)]

    trio.run(chunk.use, test)


def test_a_full_disk_is_no_fault_of_the_images(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)
    (tmp_path / "images").write_bytes(b"in the way")

    async def test(reading: Reading) -> None:
        with pytest.raises(SourceError, match="cannot be written"):
            await reading.images(0, chunk.list, [1, 2], ())

    trio.run(chunk.use, test)


def test_reading_waits_when_it_is_far_ahead(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, cap=40 * SIZE)

    async def test(reading: Reading) -> None:
        found = await reading.images(0, chunk.list, [0], set(range(COUNT)))
        assert chunk.bytes_of(found[0]) == content(0)
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert chunk.cache.bytes <= 25 * SIZE, "half the cap, and what was on its way"
        for start in range(1, COUNT, 10):
            wanted = list(range(start, min(start + 10, COUNT)))
            found = await reading.images(0, chunk.list, wanted, set(range(start, COUNT)))
            assert [chunk.bytes_of(found[index]) for index in wanted] == [content(index) for index in wanted]

    trio.run(chunk.use, test)


def test_a_chunk_that_nobody_asks_for_any_more_makes_room(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, cap=40 * SIZE)

    async def test(reading: Reading) -> None:
        for number in range(12):
            found = await reading.images(number, chunk.list, [0], set(range(COUNT)))
            assert chunk.bytes_of(found[0]) == content(0)
        assert len(reading._chunks) <= 5

    trio.run(chunk.use, test)


def test_after_a_failed_read_one_read_serves_all_slices_again(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)
    (tmp_path / "images").write_bytes(b"in the way")

    async def test(reading: Reading) -> None:
        with pytest.raises(SourceError, match="cannot be written"):
            await reading.images(0, chunk.list, [0], set(range(COUNT)))
        (tmp_path / "images").unlink()
        chunk.files.moved = 0
        for start in range(0, COUNT, 50):
            wanted = list(range(start, start + 50))
            found = await reading.images(0, chunk.list, wanted, set(range(start, COUNT)))
            assert [chunk.bytes_of(found[index]) for index in wanted] == [content(index) for index in wanted]

    trio.run(chunk.use, test)
    assert chunk.files.moved == COUNT * SIZE


def test_images_larger_than_the_cache_come_all_the_same(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, cap=SIZE // 2)

    async def test(reading: Reading) -> None:
        for index in range(5):
            found = await reading.images(0, chunk.list, [index], ())
            assert chunk.bytes_of(found[index]) == content(index)

    trio.run(chunk.use, test)


def test_what_the_cache_dropped_is_left_out_and_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pcap.node.reading.KEEP", 0)
    chunk = Chunk(tmp_path, cap=10 * SIZE)

    async def test(reading: Reading) -> None:
        found = await reading.images(0, chunk.list, list(range(100)), ())
        assert 0 < len(found) <= 10
        for index, image in found.items():
            assert chunk.bytes_of(image) == content(index)

    trio.run(chunk.use, test)


class SlowImages(TwinFiles):
    """Image files of their own; one does not come."""

    slow = "file:0.jpg"

    async def image(self, location: Location, limit: int, reserve: object = None) -> bytes:
        if str(location) == self.slow:
            await trio.sleep_forever()
        return content(int(str(location).removeprefix("file:").removesuffix(".jpg")) % 60_000)


def test_a_slow_image_does_not_let_the_rest_of_its_chunk_run_ahead(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path)
    chunk.files = SlowImages(tmp_path / "data")
    items = tuple(Item(f"{number}", b"", 0, url=f"file:{number}.jpg") for number in range(4 * WINDOW))
    found = ItemList(items)

    async def test(reading: Reading) -> None:
        with trio.move_on_after(1) as waited:
            await reading.images(0, found, list(range(64)), set(range(4 * WINDOW)))
        assert waited.cancelled_caught
        assert len(chunk.cache) <= 64 + WINDOW
        others = await reading.images(0, found, list(range(64, 128)), set(range(128, 4 * WINDOW)))
        assert len(others) == 64, "the other slices go on"

    trio.run(chunk.use, test)
