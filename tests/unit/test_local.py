"""A project's images in a local folder, by hash: found where the item lists say, and never handed out changed."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import trio

from p2pcap.errors import StoreError
from p2pcap.project.items import MAX_IMAGE, Item, ItemList, ParquetRows, TarRange
from p2pcap.sources import local
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.local import LocalImages, stretch
from tests.sources.twin import TwinFiles

PLAN = b"p" * 32


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def item(key: str, data: bytes) -> Item:
    return Item(key, sha256(data), len(data))


class Here:
    """A folder, and the item lists of a project."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.folder = base / "images"
        self.folder.mkdir()
        self.lists: list[ItemList] = []
        self.asked: list[int] = []
        self.files = TwinFiles(self.folder)
        self.cache = ImageCache(base / "cache")

    def write(self, **images: bytes) -> None:
        """A chunk of image files."""
        for name, data in images.items():
            (self.folder / f"{name}.png").write_bytes(data)
        self.lists.append(ItemList(tuple(item(f"{name}.png", data) for name, data in images.items())))

    async def listing(self, chunk: int) -> ItemList:
        self.asked.append(chunk)
        await trio.lowlevel.checkpoint()
        return self.lists[chunk]

    def open(self, plan: bytes = PLAN) -> LocalImages:
        database = self.base / "local.sqlite"
        return LocalImages.open(database, self.folder, plan, self.listing, self.cache, self.base / "scratch")

    @asynccontextmanager
    async def looked(self, plan: bytes = PLAN) -> AsyncIterator[LocalImages]:
        """The images, once every list was looked through."""
        images, done = self.open(plan), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(images.run, self.files, len(self.lists), done.set)
            await done.wait()
            yield images
            nursery.cancel_scope.cancel()

    def run(self, use: Callable[[LocalImages], Awaitable[None]], plan: bytes = PLAN) -> None:
        async def looked() -> None:
            async with self.looked(plan) as images:
                await use(images)

        trio.run(looked)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_images_are_read_by_hash(here: Here) -> None:
    here.write(a=b"one", b=b"two")
    here.write(c=b"three", d=b"")

    async def use(images: LocalImages) -> None:
        assert len(images) == 4
        for data in (b"one", b"two", b"three", b""):
            assert sha256(data) in images
            assert await images.read(sha256(data)) == data
        assert bytes(32) not in images
        assert await images.read(bytes(32)) is None
        assert "text" not in images

    here.run(use)


def test_images_of_the_same_bytes_are_all_found(here: Here) -> None:
    here.write(a=b"same", b=b"same")
    here.write(c=b"same")
    (here.folder / "a.png").unlink()

    async def use(images: LocalImages) -> None:
        assert len(images) == 2
        assert await images.read(sha256(b"same")) == b"same"

    here.run(use)


def test_an_image_that_changed_is_not_handed_out(here: Here) -> None:
    kinds = ("well", "changed", "gone", "larger", "folder", "pipe")
    here.write(**{kind: kind.encode() for kind in kinds})

    async def use(images: LocalImages) -> None:
        (here.folder / "changed.png").write_bytes(b"CHANGED")
        (here.folder / "larger.png").write_bytes(b"larger!")
        for kind in ("gone", "folder", "pipe"):
            (here.folder / f"{kind}.png").unlink()
        (here.folder / "folder.png").mkdir()
        os.mkfifo(here.folder / "pipe.png")
        found = {kind: await images.read(sha256(kind.encode())) for kind in kinds}
        # The image in "larger" is there as it was: what came behind it is not the image's.
        assert found == dict.fromkeys(kinds, None) | {"well": b"well", "larger": b"larger"}
        assert [kind for kind in kinds if sha256(kind.encode()) in images] == ["well", "larger"]
        assert len(images) == 2

    here.run(use)


def test_what_is_not_there_by_name_and_size_is_not_counted(here: Here) -> None:
    here.write(here=b"here", gone=b"gone", larger=b"larger", folder=b"folder")
    (here.folder / "gone.png").unlink()
    (here.folder / "larger.png").write_bytes(b"larger!")
    (here.folder / "folder.png").unlink()
    (here.folder / "folder.png").mkdir()

    async def use(images: LocalImages) -> None:
        assert len(images) == 1
        assert sha256(b"gone") not in images

    here.run(use)


def test_what_was_found_is_not_looked_for_again(here: Here) -> None:
    here.write(a=b"one", b=b"two")
    here.write(c=b"three", d=b"four")
    (here.folder / "d.png").unlink()

    async def nothing(images: LocalImages) -> None:
        assert len(images) == 3

    here.run(nothing)
    assert here.asked == [0, 1]
    here.run(nothing)
    assert here.asked == [0, 1, 1]
    (here.folder / "d.png").write_bytes(b"four")

    async def use(images: LocalImages) -> None:
        assert len(images) == 4
        assert await images.read(sha256(b"four")) == b"four"

    here.run(use)
    here.asked.clear()
    here.run(use)
    assert here.asked == [1], "asked for once, to read from it"


def test_what_went_away_meanwhile_is_counted_once(here: Here) -> None:
    here.write(a=b"one", b=b"two", c=b"three")
    (here.folder / "a.png").unlink()

    async def found(images: LocalImages) -> None:
        assert len(images) == 2

    async def less(images: LocalImages) -> None:
        assert len(images) == 1
        assert sha256(b"two") not in images
        assert await images.read(sha256(b"two")) is None
        assert len(images) == 1

    here.run(found)
    (here.folder / "b.png").unlink()
    here.run(less)


def test_what_was_forgotten_is_looked_for_again(here: Here) -> None:
    here.write(a=b"one", b=b"two")

    async def lose(images: LocalImages) -> None:
        (here.folder / "a.png").unlink()
        assert await images.read(sha256(b"one")) is None

    async def find(images: LocalImages) -> None:
        assert len(images) == 2
        assert await images.read(sha256(b"one")) == b"one"

    here.run(lose)
    (here.folder / "a.png").write_bytes(b"one")
    here.run(find)


@pytest.mark.parametrize("change", ["plan", "folder", "damage", "other tables", "empty"])
def test_a_note_that_does_not_fit_is_made_anew(here: Here, change: str) -> None:
    here.write(a=b"one", b=b"two")

    async def nothing(images: LocalImages) -> None:
        assert len(images) == 2

    here.run(nothing)
    database = here.base / "local.sqlite"
    if change == "folder":
        here.folder = here.folder.rename(here.base / "elsewhere")
    elif change == "damage":
        database.write_bytes(b"\xff" * 5_000)
    elif change == "other tables":
        database.unlink()
        with sqlite3.connect(database) as other:
            other.execute("CREATE TABLE image (name TEXT)")
        other.close()
    elif change == "empty":
        database.write_bytes(b"")
    here.asked.clear()

    async def use(images: LocalImages) -> None:
        assert len(images) == 2
        assert await images.read(sha256(b"two")) == b"two"

    here.run(use, b"q" * 32 if change == "plan" else PLAN)
    assert here.asked == [0, 0]


def test_a_note_that_cannot_be_kept_is_one_clear_error(here: Here, tmp_path: Path) -> None:
    (tmp_path / "local.sqlite").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        here.open()


FULL = """
import resource, sys, trio
from pathlib import Path
from p2pcap.errors import StoreError
from p2pcap.project.items import Item, ItemList
from p2pcap.sources.local_index import LocalIndex

index = LocalIndex(Path(sys.argv[1]) / "local.sqlite", b"folder", b"p" * 32)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    index.note(0, [(bytes([n % 256]) * 32, n) for n in range(10_000)], [])
except StoreError as error:
    print(error)
print(index.images, index.is_whole(0), index.places(b"1" * 32))
index.close()
"""


def test_a_full_disk_is_one_clear_error_and_nothing_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    said, rest = done.stdout.splitlines()
    assert "local.sqlite cannot be used" in said
    assert rest == "0 False []"


# what a hostile list may name


HOSTILE = ["../secret.png", "/etc/passwd", "a/../../secret.png", "./secret.png", "a//b.png", "a\0b.png", "."]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_key_that_leaves_the_folder_leads_nowhere(here: Here, key: str) -> None:
    (here.base / "secret.png").write_bytes(b"secret")
    (here.folder / "secret.png").write_bytes(b"secret")
    (here.folder / "a").mkdir()
    here.lists = [ItemList((item(key, b"secret"), item("secret.png", b"secret"))[:1])]

    async def use(images: LocalImages) -> None:
        assert len(images) == 0
        assert await images.read(sha256(b"secret")) is None

    here.run(use)


def test_images_that_lie_elsewhere_are_not_looked_for(here: Here) -> None:
    (here.folder / "a.png").write_bytes(b"one")
    known = Item("a.png", sha256(b"one"), 3, url="https://example.org/a.png")
    unknown = Item("a.png", b"", 3, url="https://example.org/a.png")
    tar = TarRange("https://example.org/a.tar", 3, 0, 3)
    here.lists = [ItemList((known, unknown)), ItemList((Item("a.png", sha256(b"one"), 3, at=0),), tar=tar)]

    async def use(images: LocalImages) -> None:
        assert len(images) == 0

    here.run(use)


def test_a_tar_is_read_at_the_place_of_the_image(here: Here) -> None:
    data = [b"first image", b"second", b"third one"]
    places = [512, 2_048, 4_096]
    whole = bytearray(10_240)
    for start, image in zip(places, data, strict=True):
        whole[start : start + len(image)] = image
    (here.folder / "shards").mkdir()
    (here.folder / "shards" / "a.tar").write_bytes(whole)
    listed = [Item(f"{start}", sha256(image), len(image), at=start) for start, image in zip(places, data, strict=True)]
    beyond = Item("beyond", sha256(b"x"), MAX_IMAGE, at=10_000_000)
    here.lists = [ItemList((*listed, beyond), tar=TarRange("file:shards/a.tar", 10_240, 512, 5_000))]

    async def use(images: LocalImages) -> None:
        assert [await images.read(sha256(image)) for image in data] == data
        assert await images.read(beyond.hash) is None

    here.run(use)
    (here.folder / "shards" / "a.tar").write_bytes(whole[:-1])

    async def other_size(images: LocalImages) -> None:
        assert len(images) == 0

    here.run(other_size, b"q" * 32)


# Parquet


def write_parquet(here: Here, images: Sequence[bytes], rows: int) -> None:
    path = here.folder / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": list(images)}), path, row_group_size=rows)
    groups = tuple(range(-(-len(images) // rows)))
    part = ParquetRows("file:a.parquet", path.stat().st_size, groups, "image")
    listed = (Item(f"{at}", sha256(image), len(image), at=at) for at, image in enumerate(images))
    here.lists = [ItemList(tuple(listed), parquet=part)]


def test_images_of_a_parquet_file_are_taken_out_once(here: Here) -> None:
    images = [b"image %d " % number * 500 for number in range(120)]
    write_parquet(here, images, 50)

    async def use(found: LocalImages) -> None:
        assert len(found) == 120
        got: dict[int, bytes | None] = {}

        async def read(number: int) -> None:
            got[number] = await found.read(sha256(images[number]))

        async with trio.open_nursery() as nursery:
            for number in range(120):
                nursery.start_soon(read, number)
        assert [got[number] for number in range(120)] == images
        moved = here.files.moved
        assert moved < 1.1 * (here.folder / "a.parquet").stat().st_size + 70_000
        assert await found.read(sha256(images[7])) == images[7]
        assert here.files.moved == moved

    here.run(use)


def test_what_a_parquet_file_no_longer_holds_is_not_handed_out(here: Here) -> None:
    images = [b"image %d" % number for number in range(20)]
    write_parquet(here, images, 10)

    async def use(found: LocalImages) -> None:
        write_parquet(lists_apart(here), [image.upper() for image in images], 10)
        assert [await found.read(sha256(image)) for image in images] == [None] * 20
        assert len(found) == 0

    here.run(use)


def lists_apart(here: Here) -> Here:
    """The same folder, with lists of its own."""
    other = object.__new__(Here)
    other.folder = here.folder
    return other


def test_a_parquet_file_that_cannot_be_read_yet_is_asked_again_later(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [b"image %d" % number for number in range(20)]
    write_parquet(here, images, 10)

    async def nothing(found: LocalImages) -> None:
        assert len(found) == 20

    here.run(nothing)

    async def before_it_runs() -> None:
        found = here.open()
        assert await found.read(sha256(images[0])) is None
        assert sha256(images[0]) not in found, "it is looked for elsewhere for a while"
        monkeypatch.setattr(local, "REST", 0.0)
        found._rest(0)
        assert sha256(images[0]) in found
        found.close()
        assert sha256(images[0]) not in found
        assert await found.read(sha256(images[0])) is None

    trio.run(before_it_runs)


def test_images_are_taken_out_in_stretches_that_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STRETCH", 100)
    sizes = [10, 90, 1, 200, 5, 5, 100, 3]
    items = [Item(f"{n}", b"" if n == 4 else bytes([n]) * 32, size) for n, size in enumerate(sizes)]
    together = {place: tuple(stretch(items, place)) for place in range(len(items)) if place != 4}
    assert all(place in places for place, places in together.items())
    stretches = set(together.values())
    assert sorted(place for places in stretches for place in places) == [0, 1, 2, 3, 5, 6, 7]
    assert all(sum(sizes[place] for place in places) <= 100 + 200 for places in stretches)


# memory

MANY = """
import hashlib, resource, sys, trio
from pathlib import Path
from p2pcap.project.items import Item, ItemList
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.local import LocalImages
from tests.sources.twin import TwinFiles

base = Path(sys.argv[1])
(base / "images").mkdir()
(base / "images" / "a.png").touch()

async def lists(chunk):
    await trio.lowlevel.checkpoint()
    hashes = [hashlib.sha256(b"%d %d" % (chunk, n)).digest() for n in range(1_024)]
    return ItemList(tuple(Item("a.png", hash_, 0) for hash_ in hashes))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024

async def main():
    cache = ImageCache(base / "cache")
    images = LocalImages.open(base / "local.sqlite", base / "images", b"p" * 32, lists, cache, base)
    await images.look(range(8))
    before = peak()
    await images.look(range(200))
    print(len(images), peak() - before)
    images.close()

trio.run(main)
"""


def test_noting_many_images_takes_little_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    count, grown = map(int, done.stdout.split())
    assert count == 200 * 1_024
    assert grown < 16 * 2**20
