"""webdataset shards, planned and read: every image once, whole and the right one, and few bytes moved."""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.errors import ConfigError, ImageError, SourceGone
from p2pcap.project.items import MAX_IMAGE, Item, ItemList, TarRange, decode_list, encode_list
from p2pcap.sources import tar
from p2pcap.sources.locations import DataFile, HubFile, Location
from p2pcap.sources.spec import Images
from p2pcap.sources.tar_gather import MAX_TEXT, MIN_GAP, spans
from p2pcap.sources.tar_index import encode_index, seek_index
from p2pcap.sources.tar_walk import BLOCK
from tests.sources.tars import FORMATS, image, pack
from tests.sources.twin import TwinFiles

HERE = DataFile("a.tar")
HUB = HubFile("datasets", "o/n", "0" * 40, "a.tar")


class TwinHub(TwinFiles):
    """The same folder, as if it were a repository of the Hub."""

    def _path(self, location: Location) -> Path:
        assert isinstance(location, HubFile)
        return super()._path(DataFile(location.path))


def planned(files: TwinFiles, location: Location = HERE, size: int = 64, **images: object) -> list[ItemList]:
    async def run() -> list[ItemList]:
        found = Images(source="here", **images)  # type: ignore[arg-type]
        return [one async for one in tar.plan(files, location, found, size)]

    return trio.run(run)


def read(files: TwinFiles, part: TarRange, wanted: Mapping[int, Item], scratch: Path) -> dict[int, bytes | ImageError]:
    got: dict[int, bytes | ImageError] = {}

    async def put(place: int, found: bytes | ImageError) -> None:
        assert place not in got
        got[place] = found

    trio.run(tar.read, files, part, wanted, scratch, put)
    assert list(scratch.iterdir()) == []
    return got


def part_of(found: ItemList) -> TarRange:
    assert isinstance(found.tar, TarRange)
    return found.tar


def wanted(found: ItemList, places: Iterable[int] | None = None) -> dict[int, Item]:
    return {place: found.items[place] for place in (range(len(found.items)) if places is None else places)}


def with_index(path: Path) -> None:
    with path.open("rb") as file:
        size = path.stat().st_size
        members = seek_index(file, size, lambda done: None).members
    path.with_suffix(".json").write_bytes(encode_index(path.name, size, members))


def samples(count: int, length: int = 5_000) -> list[tuple[str, bytes]]:
    found = []
    for number in range(count):
        found.append((f"{number:04}.jpg", image(f"{number:04}", length)))
        found.append((f"{number:04}.txt", f"caption {number}".encode()))
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.mark.parametrize("form", list(FORMATS))
@pytest.mark.parametrize("indexed", [False, True])
def test_every_image_once_and_the_right_one(tmp_path: Path, scratch: Path, form: str, indexed: bool) -> None:
    data = tmp_path / "data"
    shards = {f"{shard}.tar": samples(count) for shard, count in enumerate([7, 0, 1, 130])}
    files = TwinFiles(data)
    for name, members in shards.items():
        path = pack(data / name, members, form)
        if indexed:
            with_index(path)
    for name, members in shards.items():
        lists = planned(files, DataFile(name))
        assert [len(found.items) for found in lists] == [[7], [], [1], [64, 64, 2]][int(name[0])]
        got = []
        for found in lists:
            assert decode_list(encode_list(found), 10_000_000) == found
            files.asked.clear()
            images = read(files, part_of(found), wanted(found), scratch)
            assert len(files.asked) == 1
            got += [(item.key, images[place]) for place, item in enumerate(found.items)]
            assert [hashlib.sha256(bytes(images[place])).digest() for place in images] == [  # type: ignore[arg-type]
                item.hash for item in found.items
            ]
        assert got == [(key.removesuffix(".jpg"), content) for key, content in members if key.endswith(".jpg")]


def test_strange_names(tmp_path: Path, scratch: Path) -> None:
    names = ["a b", 'it\'s "q"', "new\nline", "🦊", "n" * 296, "x/same", "y/same"]
    pack(tmp_path / "a.tar", [(f"{name}.jpg", image(name)) for name in names], "pax")
    files = TwinFiles(tmp_path)
    (found,) = planned(files)
    assert [item.key for item in found.items] == names
    assert read(files, part_of(found), wanted(found), scratch) == {place: image(n) for place, n in enumerate(names)}


def test_names_that_come_twice_or_are_too_long(tmp_path: Path, scratch: Path) -> None:
    members = [("1.jpg", b"one"), ("1.jpg", b"two"), ("1#2.jpg", b"three"), ("n" * 1_100 + ".jpg", b"four")]
    pack(tmp_path / "a.tar", members)
    with_index(tmp_path / "a.tar")
    for _ in range(2):
        files = TwinFiles(tmp_path)
        (found,) = planned(files)
        assert [item.key for item in found.items] == ["1", "1#2", "1#2#2", "file:a.tar#3"]
        assert list(read(files, part_of(found), wanted(found), scratch).values()) == [b"one", b"two", b"three", b"four"]
        (tmp_path / "a.json").unlink(missing_ok=True)


def test_bytes_moved_for_a_chunk_are_those_of_its_range(tmp_path: Path, scratch: Path) -> None:
    pack(tmp_path / "a.tar", samples(300))
    files = TwinFiles(tmp_path)
    found = planned(files, size=100)[1]
    files.moved = 0
    files.asked.clear()
    read(files, part_of(found), wanted(found), scratch)
    assert files.asked == [("file:a.tar", part_of(found).start, part_of(found).length)]
    assert files.moved == part_of(found).length
    first, last = found.items[0], found.items[-1]
    assert (part_of(found).start, part_of(found).length) == (first.at, last.at + last.length - first.at)  # type: ignore[operator]


def test_a_resume_in_the_middle_moves_what_is_missing(tmp_path: Path, scratch: Path) -> None:
    pack(tmp_path / "a.tar", samples(100, 50_000))
    files = TwinFiles(tmp_path)
    (found,) = planned(files, size=100)
    for places in ([60, 61, 62], [99], [0], [0, 1, 98, 99], list(range(50, 100)), [3, 40, 77]):
        files.moved = 0
        files.asked.clear()
        got = read(files, part_of(found), wanted(found, places), scratch)
        assert got == {place: image(f"{place:04}", 50_000) for place in places}
        first, last = found.items[places[0]], found.items[places[-1]]
        assert files.moved <= last.at + last.length - first.at  # type: ignore[operator]
    files.asked.clear()
    read(files, part_of(found), wanted(found, [0, 1, 98, 99]), scratch)
    assert len(files.asked) == 2
    assert sum(length for _, _, length in files.asked) < 250_000


def test_nothing_wanted_moves_nothing(tmp_path: Path, scratch: Path) -> None:
    pack(tmp_path / "a.tar", samples(3))
    files = TwinFiles(tmp_path)
    (found,) = planned(files)
    files.asked.clear()
    assert read(files, part_of(found), {}, scratch) == {}
    assert files.asked == []


# --- planning elsewhere


def test_on_the_hub_an_index_saves_the_tar(tmp_path: Path, scratch: Path) -> None:
    path = pack(tmp_path / "a.tar", samples(40))
    with_index(path)
    files = TwinHub(tmp_path)
    (found,) = planned(files, HUB)
    assert files.moved == path.with_suffix(".json").stat().st_size + BLOCK
    assert {item.hash for item in found.items} == {b""}
    got = read(files, part_of(found), wanted(found), scratch)
    assert got == {place: image(f"{place:04}", 5_000) for place in range(40)}


def test_on_the_hub_without_an_index_the_tar_is_read_once(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", samples(40))
    files = TwinHub(tmp_path)
    (found,) = planned(files, HUB)
    assert files.asked == [(str(HUB), 0, path.stat().st_size)]
    assert [item.hash for item in found.items] == [
        hashlib.sha256(image(f"{place:04}", 5_000)).digest() for place in range(40)
    ]


def test_hashes_are_those_of_the_index_or_read_when_asked_for(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", samples(4))
    with_index(path)
    expected = [hashlib.sha256(image(f"{place:04}", 5_000)).digest() for place in range(4)]
    (found,) = planned(TwinHub(tmp_path), HUB, hashes=True)
    assert [item.hash for item in found.items] == expected
    described = json.loads((tmp_path / "a.json").read_bytes())
    for place, digest in enumerate(expected):
        described["files"][f"{place:04}.jpg"]["sha256"] = digest.hex()
    (tmp_path / "a.json").write_text(json.dumps(described))
    for hashes in (False, True):
        files = TwinHub(tmp_path)
        (found,) = planned(files, HUB, hashes=hashes)
        assert [item.hash for item in found.items] == expected
        assert files.moved == (tmp_path / "a.json").stat().st_size + BLOCK


@pytest.mark.parametrize("lie", ["moved", "shorter", "longer", "hash", "name"])
@pytest.mark.parametrize("location", [HERE, HUB], ids=["local", "hub"])
def test_a_lying_index(tmp_path: Path, scratch: Path, lie: str, location: Location) -> None:
    path = pack(tmp_path / "a.tar", samples(3))
    with_index(path)
    described = json.loads((tmp_path / "a.json").read_bytes())
    last = described["files"]["0002.jpg"]
    if lie == "moved":
        last["offset"] += 1
        last["length"] -= 1
    elif lie == "hash":
        last["sha256"] = "00" * 32
    elif lie == "name":
        del described["files"]["0002.jpg"]
        described["files"]["other.jpg"] = last
    else:
        last["length"] += -1 if lie == "shorter" else 1
    (tmp_path / "a.json").write_text(json.dumps(described))
    files = TwinHub(tmp_path) if location is HUB else TwinFiles(tmp_path)
    if lie == "name" or (lie == "hash" and location is HUB):
        # A name is the index's to give. A wrong hash elsewhere shows when the image is read: it never passes.
        (found,) = planned(files, location)
        assert len(found.items) == 3
        return
    with pytest.raises(ConfigError, match="not that tar's"):
        planned(files, location)


def test_an_index_of_another_tar(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", samples(3))
    with_index(tmp_path / "a.tar")
    pack(tmp_path / "a.tar", samples(30))
    with pytest.raises(ConfigError, match=r"a\.json.*Make it anew"):
        planned(TwinFiles(tmp_path))


def test_faulty_tars_say_their_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", samples(3))
    path.write_bytes(path.read_bytes()[:-12_000])
    with pytest.raises(ConfigError, match=r"file:a\.tar has .*p2pcap index"):
        planned(TwinFiles(tmp_path))
    path.write_bytes(b"\x1f\x8b" + bytes(5_000))
    with pytest.raises(ConfigError, match=r"file:a\.tar: The tar is compressed"):
        planned(TwinFiles(tmp_path))


# --- metadata


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("location", [HERE, HUB], ids=["local", "hub"])
def test_what_lies_beside_images_goes_with_them(tmp_path: Path, indexed: bool, location: Location) -> None:
    members = [("1.jpg", image("1")), ("1.txt", b" one \n"), ("1.json", b'{"width": 5, "nothing": null, "title": "T"}')]
    members += [("2.jpg", image("2")), ("3.json", b"broken"), ("3.jpg", image("3")), ("4.txt", b"no image")]
    path = pack(tmp_path / "a.tar", members)
    if indexed:
        with_index(path)
    files = TwinHub(tmp_path) if location is HUB else TwinFiles(tmp_path)
    (found,) = planned(files, location, fields=("width", "title", "nothing"), caption_field="txt")
    assert [(item.key, item.metadata) for item in found.items] == [
        ("1", {"width": "5", "title": "T", "txt": "one"}),
        ("2", {}),
        ("3", {}),
    ]


def test_metadata_at_the_end_of_a_tar_is_not_bought_with_the_images(tmp_path: Path) -> None:
    images = [(f"{number}.jpg", image(str(number), 3_000_000)) for number in range(6)]
    texts = [(f"{number}.txt", f"text {number}".encode()) for number in range(6)]
    path = pack(tmp_path / "a.tar", images + texts)
    with_index(path)
    files = TwinHub(tmp_path)
    found = planned(files, HUB, size=3, fields=("txt",))
    assert [item.metadata for one in found for item in one.items] == [{"txt": f"text {n}"} for n in range(6)]
    assert files.moved < 30_000


def test_metadata_of_the_index_needs_no_reading(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", image("1")), ("1.json", b'{"id": 1}')])
    with_index(path)
    described = json.loads((tmp_path / "a.json").read_bytes())
    described["files"]["1.jpg"] |= {"captions": "a fox", "json_metadata": {"id": 7}}
    (tmp_path / "a.json").write_text(json.dumps(described))
    files = TwinHub(tmp_path)
    (found,) = planned(files, HUB, fields=("caption", "id"))
    assert found.items[0].metadata == {"caption": "a fox", "id": "7"}
    assert files.moved == (tmp_path / "a.json").stat().st_size + BLOCK


@pytest.mark.parametrize("kept", ["in the tar", "in the index"])
def test_lists_are_shorter_where_there_is_much_metadata(tmp_path: Path, kept: str) -> None:
    count = 2 * MAX_TEXT // (32 * 8_000)
    said = {f"f{number}": "x" * 8_000 for number in range(32)}
    images = [(f"{number}.jpg", b"x") for number in range(count)]
    if kept == "in the tar":
        text = json.dumps(said).encode()
        pack(tmp_path / "a.tar", [m for image in images for m in (image, (image[0].replace("jpg", "json"), text))])
    else:
        pack(tmp_path / "a.tar", images)
        with_index(tmp_path / "a.tar")
        described = json.loads((tmp_path / "a.json").read_bytes())
        for entry in described["files"].values():
            entry["json_metadata"] = said
        (tmp_path / "a.json").write_text(json.dumps(described))
    lists = planned(TwinFiles(tmp_path), size=1_024, fields=tuple(said))
    assert [item.key for one in lists for item in one.items] == [str(number) for number in range(count)]
    assert all(item.metadata == said for one in lists for item in one.items)
    assert all(sum(len(t) for item in one.items for t in item.metadata.values()) <= MAX_TEXT for one in lists)
    assert 2 <= len(lists) <= 4


# --- what goes wrong


def test_empty_and_huge_images_end_as_errors(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "a.tar"
    pack(path, [("0.jpg", b""), ("1.jpg", b"one")])
    huge = path.read_bytes()[: 3 * BLOCK]
    block = bytearray(huge[BLOCK : 2 * BLOCK])
    block[:100], block[124:136] = b"2.jpg".ljust(100, b"\0"), b"%011o\0" % MAX_IMAGE
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with path.open("wb") as file:
        file.write(huge + block)
        file.truncate(len(huge) + BLOCK + MAX_IMAGE)
    with_index(path)
    files = TwinHub(tmp_path)
    (found,) = planned(files, HUB)
    files.moved = 0
    got = read(files, part_of(found), wanted(found), scratch)
    assert got.pop(1) == b"one"
    assert {place: error.code for place, error in got.items() if isinstance(error, ImageError)} == {
        0: "empty",
        2: "too-large",
    }
    assert files.moved == 3
    (tmp_path / "a.json").unlink()
    assert [bool(item.hash) for item in planned(TwinHub(tmp_path), HUB)[0].items] == [True, True, False]


def test_a_tar_of_huge_images_only(tmp_path: Path, scratch: Path) -> None:
    pack(tmp_path / "a.tar", [("1.jpg", b"x")])
    with_index(tmp_path / "a.tar")
    files = TwinFiles(tmp_path)
    size = (tmp_path / "a.tar").stat().st_size
    item = Item("1", b"", MAX_IMAGE, at=512)
    (error,) = read(files, TarRange("file:a.tar", size, 512, 0), {0: item}, scratch).values()
    assert isinstance(error, ImageError)
    assert (error.code, files.moved) == ("too-large", 0)


def test_a_tar_of_another_size_is_gone(tmp_path: Path, scratch: Path) -> None:
    pack(tmp_path / "a.tar", samples(3))
    files = TwinFiles(tmp_path)
    (found,) = planned(files)
    pack(tmp_path / "a.tar", samples(30))
    with pytest.raises(SourceGone):
        read(files, part_of(found), wanted(found), scratch)


def test_hostile_lists_move_nothing_beyond_their_range(tmp_path: Path, scratch: Path) -> None:
    pack(tmp_path / "a.tar", samples(10))
    files = TwinFiles(tmp_path)
    size = (tmp_path / "a.tar").stat().st_size
    items = [
        Item("before", b"", 100, at=512),
        Item("good", b"", 100, at=2_048),
        Item("the same", b"", 100, at=2_048),
        Item("overlapping", b"", 100, at=2_100),
        Item("beyond", b"", 100, at=4_000),
        Item("far", b"", 100, at=2**50),
    ]
    files.moved = 0
    got = read(files, TarRange("file:a.tar", size, 2_048, 1_000), dict(enumerate(items)), scratch)
    assert [place for place, found in got.items() if isinstance(found, bytes)] == [1]
    assert {found.code for found in got.values() if isinstance(found, ImageError)} == {"gone"}
    assert files.moved == 100
    got = read(files, TarRange("file:a.tar", size, size - 50, 2**50), {0: Item("x", b"", 60, at=size - 50)}, scratch)
    assert isinstance(got[0], ImageError)


def test_a_reader_that_waits_holds_one_image(tmp_path: Path, scratch: Path) -> None:
    """Back-pressure: no image is taken from the stream before the last one was taken over."""
    pack(tmp_path / "a.tar", samples(5, 2_000_000))
    drawn: list[int] = []

    class Counted(TwinFiles):
        @asynccontextmanager
        async def stream(self, location: Location, start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with super().stream(location, start, length) as parts:

                async def counted() -> AsyncGenerator[bytes, None]:
                    async for part in parts:
                        drawn.append(len(part))
                        yield part

                async with aclosing(counted()) as found:
                    yield found

    files = Counted(tmp_path)
    (found,) = planned(TwinFiles(tmp_path))
    seen: list[int] = []

    async def put(place: int, data: bytes | ImageError) -> None:
        assert isinstance(data, bytes)
        seen.append(len(data))
        assert sum(drawn) <= sum(seen) + 5 * BLOCK * 2 * len(seen) + 1024 * 1024

    trio.run(tar.read, files, part_of(found), wanted(found), scratch, put)
    assert len(seen) == 5


# --- which ranges


@given(st.lists(st.tuples(st.integers(0, 5 * MIN_GAP), st.integers(0, 2 * MIN_GAP)), max_size=12))
def test_ranges_hold_all_pieces_in_order(gaps: list[tuple[int, int]]) -> None:
    pieces, at = [], 0
    for gap, length in gaps:
        pieces.append((at + gap, length))
        at += gap + length + 1
    found = list(spans(pieces))
    assert [piece for span in found for piece in span] == pieces
    for span in found:
        widest = max((b[0] - sum(a) for a, b in pairwise(span)), default=0)
        assert widest <= MIN_GAP or 2 * widest <= sum(span[-1]) - span[0][0]


def test_a_range_is_parted_where_most_of_it_is_not_wanted() -> None:
    near, far = (0, 10), (10 + MIN_GAP, 10)
    assert list(spans([near, far])) == [[near, far]]
    assert list(spans([near, (11 + MIN_GAP, 10)])) == [[near], [(11 + MIN_GAP, 10)]]
    wide = [(0, 2 * MIN_GAP), (4 * MIN_GAP, 10)]
    assert list(spans(wide)) == [wide]
    assert list(spans([])) == []
