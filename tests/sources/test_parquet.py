"""Images in Parquet files, real ones: each image once, the right bytes for the right row, and few bytes moved."""

import hashlib
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import msgspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st

from p2pcap.codec import decode, encode
from p2pcap.errors import ConfigError, ImageError, ImageUnavailable, SourceError, SourceGone, SourceUnavailable
from p2pcap.project.items import Item, ItemList, ParquetRows, decode_list, encode_list
from p2pcap.project.records import FetchRules
from p2pcap.sources import child, parquet, parquet_file, parquet_plan
from p2pcap.sources.locations import DataFile, HubFile, Location
from p2pcap.sources.parquet_frames import Done, Located, Rows
from p2pcap.sources.parquet_frames import encode as encode_frame
from p2pcap.sources.reading import read_images
from p2pcap.sources.spec import Images
from tests.sources.parquet_made import give, given, pictures, plan, planned, structs, write
from tests.sources.twin import TwinFiles

STRANGE = ["a b", 'say "hi"', "two\nlines", "🐈.jpg", "x" * 300, "é" * 300, "{caption}", "../up", "a,b;c\td", "'"]


FEW = 15
"""Examples of a property that each start a process."""


class HubTwin(TwinFiles):
    """The files of a folder, as if they were on the Hub: not hashed when they are planned."""

    def at(self, path: str) -> HubFile:
        return HubFile("datasets", "owner/name", "0" * 40, path)

    def _path(self, location: Location) -> Path:
        assert isinstance(location, HubFile)
        return super()._path(DataFile(location.path))


@pytest.fixture
def files(tmp_path: Path) -> TwinFiles:
    (tmp_path / "data").mkdir()
    return TwinFiles(tmp_path / "data")


@pytest.fixture
def hub(tmp_path: Path) -> HubTwin:
    (tmp_path / "data").mkdir(exist_ok=True)
    return HubTwin(tmp_path / "data")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def all_given(files: Any, lists: list[ItemList], scratch: Path) -> list[bytes | str]:
    return [image for found in lists for _, image in sorted(given(files, found, scratch).items())]


# --- each image once, and the right one


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "none", "use_dictionary": False}])
@pytest.mark.parametrize("shape", ["struct", "binary", "large_binary", "binary_view", "dictionary"])
def test_every_kind_of_column_gives_its_bytes(
    files: TwinFiles, scratch: Path, shape: str, options: dict[str, Any]
) -> None:
    images = pictures(50)
    column: Any = structs(images) if shape == "struct" else pa.array(images, pa.binary())
    if shape == "dictionary":
        column = column.dictionary_encode()
    elif shape != "struct":
        column = column.cast(getattr(pa, shape)())
    write(files.folder / "a.parquet", {"image": column}, groups=20, **options)
    lists = planned(files, "a.parquet", size=20)
    assert [len(found.items) for found in lists] == [20, 20, 10]
    assert all_given(files, lists, scratch) == images


@settings(max_examples=FEW)
@examples(
    groups=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    size=st.integers(1, 64),
    seed=st.integers(0, 1_000),
)
def test_any_layout_gives_each_image_once(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], size: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("layout")
    files, draw = HubTwin(folder), Random(seed)
    images = pictures(sum(groups), 50, seed)
    keys = [str(number) for number in range(len(images))]
    write(folder / "a.parquet", {"image": structs(images), "key": pa.array(keys, pa.string())}, groups)

    async def plan_and_read() -> None:
        lists = await plan(files, files.at("a.parquet"), size, Images(source=""))
        assert [item.key for found in lists for item in found.items] == keys
        for found in lists:
            places = sorted(draw.sample(range(len(found.items)), draw.randint(1, len(found.items))))
            wanted = {place: images[int(found.items[place].key)] for place in places}
            assert await give(files, found, folder, places) == wanted

    trio.run(plan_and_read)  # one run: one process for all
    assert [path.name for path in folder.iterdir()] == ["a.parquet"]


def test_a_resume_in_the_middle_reads_only_the_groups_it_needs(hub: HubTwin, scratch: Path) -> None:
    images = pictures(300, 20_000)
    write(hub.folder / "a.parquet", {"image": structs(images)}, groups=100)
    [found] = planned(hub, hub.at("a.parquet"))
    hub.moved = 0
    places = range(150, 190)
    assert given(hub, found, scratch, places) == {place: images[place] for place in places}
    assert hub.moved <= 1.1 * sum(map(len, images[100:200]))


def test_the_facade_gives_each_image_too(files: TwinFiles, scratch: Path) -> None:
    images = pictures(30)
    write(files.folder / "a.parquet", {"image": structs(images)}, groups=7)
    [found] = planned(files, "a.parquet")
    got: dict[int, Any] = {}

    async def put(place: int, image: bytes | ImageError) -> None:
        got[place] = image

    trio.run(read_images, files, decode_list(encode_list(found), 2**20), range(30), FetchRules(), scratch, put)
    assert [got[place] for place in range(30)] == images


def test_a_cell_that_changed_is_an_error_and_no_image(files: TwinFiles, scratch: Path) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)}, compression="none", use_dictionary=False)
    [found] = planned(files, "a.parquet")
    images = [*pictures(2), pictures(3)[2][::-1]]
    write(files.folder / "a.parquet", {"image": images}, compression="none", use_dictionary=False)
    got: dict[int, Any] = {}

    async def put(place: int, image: bytes | ImageError) -> None:
        got[place] = image

    trio.run(read_images, files, found, range(3), FetchRules(), scratch, put)
    assert [got[0], got[1]] == images[:2]
    assert got[2].code == "changed"


# --- planning


def test_the_plan_of_a_remote_file_costs_footer_keys_and_fields_only(hub: HubTwin) -> None:
    images = pictures(200, 20_000)
    columns = {"image": structs(images), "key": [f"k{n}" for n in range(200)], "caption": ["words"] * 200}
    write(hub.folder / "a.parquet", columns, groups=50)
    lists = planned(hub, hub.at("a.parquet"), size=100, fields=("caption",))
    assert hub.moved < 128 * 1024
    assert [found.parquet.groups for found in lists if found.parquet] == [(0, 1), (2, 3)]
    assert lists[1].items[0] == Item("k100", b"", 0, at=0, fields={"caption": "words"})
    assert lists[1].parquet == ParquetRows(
        str(hub.at("a.parquet")), (hub.folder / "a.parquet").stat().st_size, (2, 3), "image"
    )


def test_hashes_and_lengths_are_planned_where_the_images_are_local_or_it_is_asked_for(
    files: TwinFiles, hub: HubTwin
) -> None:
    images = pictures(3)
    write(files.folder / "a.parquet", {"image": images})
    for lists in (planned(files, "a.parquet"), planned(hub, hub.at("a.parquet"), hashes=True)):
        assert [(item.hash, item.length) for item in lists[0].items] == [
            (hashlib.sha256(image).digest(), len(image)) for image in images
        ]


def test_keys_that_repeat_or_are_blank_become_file_and_row(files: TwinFiles) -> None:
    keys = ["a", "a", None, "", " ", "b"]
    write(files.folder / "a.parquet", {"image": pictures(6), "key": keys}, groups=3)
    [found] = planned(files, "a.parquet")
    assert [item.key for item in found.items] == ["a", *(f"a.parquet#{row}" for row in (1, 2, 3, 4)), "b"]


def test_strange_keys_stay_as_they_are(files: TwinFiles, scratch: Path) -> None:
    images = pictures(len(STRANGE))
    write(files.folder / "a.parquet", {"image": images, "file_name": STRANGE})
    [found] = planned(files, "a.parquet")
    assert [item.key for item in decode_list(encode_list(found), 2**20).items] == STRANGE
    assert all_given(files, [found], scratch) == images


def test_a_struct_s_path_is_the_key_when_no_column_is(files: TwinFiles) -> None:
    write(files.folder / "a.parquet", {"image": structs(pictures(2)), "label": [0, 1]})
    assert [item.key for item in planned(files, "a.parquet")[0].items] == ["0.jpg", "1.jpg"]


def test_a_path_is_read_without_its_image(hub: HubTwin) -> None:
    write(hub.folder / "a.parquet", {"image": structs(pictures(100, 20_000))})
    assert [item.key for item in planned(hub, hub.at("a.parquet"))[0].items] == [f"{row}.jpg" for row in range(100)]
    assert hub.moved < 128 * 1024


def test_the_dataset_s_own_word_names_the_column(files: TwinFiles, scratch: Path) -> None:
    images = pictures(2)
    table = pa.table({"image": [b"no", b"no"], "scan": images})
    said = b'{"info": {"features": {"scan": {"_type": "Image"}}}}'
    pq.write_table(table.replace_schema_metadata({"huggingface": said}), files.folder / "a.parquet")
    assert all_given(files, planned(files, "a.parquet"), scratch) == images


def test_fields_are_text_and_blank_ones_are_left_out(files: TwinFiles) -> None:
    fields: dict[str, list[Any]] = {
        "number": [3, None],
        "list": [["a", "é"], []],
        "struct": [{"x": 1.5}, None],
        "text": ["y" * 9_000, " "],
        "flag": [True, False],
        "bad": pa.array([b"caf\xe9", b""], pa.binary()),
    }
    write(files.folder / "a.parquet", {"image": pictures(2), **fields})
    items = planned(files, "a.parquet", fields=tuple(fields))[0].items
    assert items[0].metadata == {
        "number": "3",
        "list": '["a", "é"]',
        "struct": '{"x": 1.5}',
        "text": "y" * 8_192,
        "flag": "true",
        "bad": "caf\ufffd",
    }
    assert items[1].metadata == {"list": "[]", "flag": "false"}
    assert decode(encode(items[0]), Item, 2**20) == items[0]


def test_names_with_dots_are_not_taken_for_fields_of_structs(files: TwinFiles, scratch: Path) -> None:
    images, others = pictures(4), pictures(4, seed=1)
    write(files.folder / "a.parquet", {"image.bytes": others, "image": structs(images), "image.path": list("abcd")})
    lists = planned(files, "a.parquet", image_column="image.bytes")
    assert all_given(files, lists, scratch) == others
    assert all_given(files, planned(files, "a.parquet", image_column="image"), scratch) == images


def test_an_empty_file_and_an_empty_table_have_no_images(files: TwinFiles) -> None:
    write(files.folder / "a.parquet", {"image": pa.array([], pa.binary())}, groups=[0, 0])
    assert planned(files, "a.parquet") == []
    (files.folder / "b.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"b\.parquet cannot be planned.*no Parquet file"):
        planned(files, "b.parquet")


def test_a_missing_file_is_what_the_source_says(files: TwinFiles) -> None:
    with pytest.raises(SourceGone):
        planned(files, "none.parquet")


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ([100, 100, 100], 250, [((0, 1), 200), ((2,), 300)]),
        ([0, 100, 0, 100, 0], 250, [((1, 3), 200)]),
        ([1_000, 10, 10], 64, [((0,), 1_000), ((1, 2), 1_020)]),
        ([10, 40_000, 10], 64, [((0,), 10), ((1,), 16_394), ((1,), 32_778), ((1,), 40_010), ((2,), 40_020)]),
        ([1] * 5_000, 16_384, [(tuple(range(4_096)), 4_096), (tuple(range(4_096, 5_000)), 5_000)]),
        ([], 64, []),
    ],
)
def test_parts_are_whole_row_groups(counts: list[int], size: int, expected: list[Any]) -> None:
    assert list(parquet_plan.parts(counts, size)) == expected


def test_a_huge_row_group_is_read_by_each_of_its_chunks(hub: HubTwin, scratch: Path) -> None:
    images = pictures(20_000, 1)
    write(hub.folder / "a.parquet", {"image": images}, groups=20_000)
    lists = planned(hub, hub.at("a.parquet"))
    assert [(len(found.items), found.items[0].at) for found in lists] == [(16_384, 0), (3_616, 16_384)]
    assert given(hub, lists[1], scratch, [0, 3_615]) == {0: images[16_384], 3_615: images[-1]}


def test_a_list_with_much_text_ends_early(hub: HubTwin, scratch: Path) -> None:
    images = pictures(2_500, 10)
    write(hub.folder / "a.parquet", {"image": images, "text": ["z" * 8_192] * 2_500}, groups=2_500)
    lists = planned(hub, hub.at("a.parquet"), size=2_500, fields=("text",))
    assert sum(len(found.items) for found in lists) == 2_500
    assert all(len(encode_list(found)) < 16 * 2**20 for found in lists)
    assert all_given(hub, lists, scratch) == images


# --- what is found in a file


@pytest.mark.parametrize(
    ("columns", "settings", "kind"),
    [
        ({"image": [b"x"], "url": ["https://h/"]}, {}, "parquet"),
        ({"caption": ["x"], "url": ["https://h/"]}, {}, "urls"),
        ({"image": [b"x"], "url": ["https://h/"]}, {"url_column": "url"}, "urls"),
        ({"scan": [b"x"], "url": ["https://h/"]}, {"image_column": "scan"}, "parquet"),
    ],
)
def test_the_kind_of_a_file_is_told_from_its_columns(
    files: TwinFiles, columns: dict[str, Any], settings: dict[str, Any], kind: str
) -> None:
    write(files.folder / "a.parquet", columns)
    images = Images(source="", **settings)
    assert trio.run(parquet.kind, files, DataFile("a.parquet"), images) == kind


def test_a_file_with_neither_images_nor_addresses_says_so(files: TwinFiles) -> None:
    write(files.folder / "a.parquet", {"caption": ["x"]})
    with pytest.raises(ConfigError, match=r"No column holds images.*there are: 'caption'"):
        trio.run(parquet.kind, files, DataFile("a.parquet"), Images(source=""))


# --- cells that are no image


def test_cells_without_an_image_are_errors_by_themselves(hub: HubTwin, scratch: Path) -> None:
    cells = [None, {"bytes": b"", "path": None}, {"bytes": None, "path": "0.jpg"}, {"bytes": b"x", "path": None}]
    write(hub.folder / "a.parquet", {"image": pa.array([*cells, {"bytes": None, "path": None}])})
    [found] = planned(hub, hub.at("a.parquet"))
    assert given(hub, found, scratch) == {0: "empty", 1: "empty", 2: "gone", 3: b"x", 4: "empty"}


def test_rows_without_an_image_are_left_out_where_images_are_hashed(files: TwinFiles, scratch: Path) -> None:
    cells = [None, {"bytes": b"", "path": "e"}, {"bytes": None, "path": "0.jpg"}, {"bytes": b"x", "path": "x"}]
    write(files.folder / "a.parquet", {"image": pa.array(cells)})
    [found] = planned(files, "a.parquet")
    assert [(item.key, item.at, item.length) for item in found.items] == [("e", 1, 0), ("x", 3, 1)]
    assert given(files, found, scratch) == {0: "empty", 1: b"x"}


def test_a_cell_of_100_megabytes_ends_no_other_image(files: TwinFiles, scratch: Path) -> None:
    images = [b"a" * 1_000, b"b" * 100_000_000, b"c" * 1_000]
    write(files.folder / "a.parquet", {"image": images}, use_dictionary=False)
    [found] = planned(files, "a.parquet")
    assert [item.length for item in found.items] == [1_000, 0, 1_000]
    assert given(files, found, scratch) == {0: images[0], 1: "too-large", 2: images[2]}


def test_rows_that_the_file_does_not_have_are_gone(files: TwinFiles, scratch: Path) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)})
    [found] = planned(files, "a.parquet")
    more = msgspec.structs.replace(found, items=(*found.items, Item("more", b"", 0, at=3)))
    assert given(files, more, scratch)[3] == "gone"


# --- bytes moved


@pytest.mark.parametrize("groups", [10, 100, 500])
def test_only_the_bytes_of_the_row_groups_are_moved(hub: HubTwin, scratch: Path, groups: int) -> None:
    images = pictures(1_000, 20_000)
    other = [image[:10_000] for image in pictures(1_000, 10_000, seed=1)]
    write(hub.folder / "a.parquet", {"image": structs(images), "mask": other}, groups=groups)
    lists = planned(hub, hub.at("a.parquet"), size=500, image_column="image")
    hub.moved, hub.asked = 0, []
    assert all_given(hub, lists[1:], scratch) == images[500:]
    assert hub.moved <= 1.1 * sum(map(len, images[500:]))


def test_small_row_groups_that_follow_each_other_are_one_request(hub: HubTwin, scratch: Path) -> None:
    images = pictures(200, 5_000)
    write(hub.folder / "a.parquet", {"image": structs(images), "n": list(range(200))}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))
    hub.asked = []
    assert all_given(hub, [found], scratch) == images
    assert len(hub.asked) == 1


def test_a_footer_is_moved_once(hub: HubTwin, scratch: Path) -> None:
    images = pictures(40, 10_000)
    columns = {"image": images, **{f"column{n}": list(range(40)) for n in range(100)}}
    write(hub.folder / "a.parquet", columns, groups=1)
    lists = planned(hub, hub.at("a.parquet"), size=20)
    assert sum(length > 100_000 for _, _, length in hub.asked) == 1  # longer than the first look at the file
    hub.moved = 0
    assert all_given(hub, lists, scratch) == images
    assert hub.moved <= 1.1 * sum(map(len, images))


def test_the_footers_that_are_kept_have_a_bound() -> None:
    footers = parquet_file.Footers(100)
    places = [HubFile("datasets", "o/n", "0" * 40, str(number)) for number in range(4)]
    for place in places[:3]:
        footers.put(place, bytes(40), 1_000)
    assert [footers.get(place, 1_000) is None for place in places[:3]] == [True, False, False]
    assert footers.get(places[2], 999) is None
    footers.put(places[2], bytes(30), 1_000)
    assert footers.bytes == 70
    footers.put(places[3], bytes(101), 1_000)
    assert footers.bytes == 0


# --- bad files


def test_a_file_of_another_size_is_gone(files: TwinFiles, scratch: Path) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)})
    [found] = planned(files, "a.parquet")
    write(files.folder / "a.parquet", {"image": pictures(4)})
    with pytest.raises(SourceGone, match="when it was planned"):
        given(files, found, scratch)


def test_another_file_of_the_same_size_is_gone(files: TwinFiles, scratch: Path) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)})
    [found] = planned(files, "a.parquet")
    (files.folder / "a.parquet").write_bytes(bytes(found.parquet.size if found.parquet else 0))
    with pytest.raises(SourceGone, match="no Parquet file"):
        given(files, found, scratch)


def test_a_column_or_row_group_that_is_not_there_is_gone(files: TwinFiles, scratch: Path) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)})
    [found] = planned(files, "a.parquet")
    assert found.parquet
    for change in ({"column": "other"}, {"groups": (1,)}, {"groups": (2**40,)}):
        part = msgspec.structs.replace(found.parquet, **change)
        with pytest.raises(SourceGone):
            given(files, msgspec.structs.replace(found, parquet=part), scratch)


def test_a_damaged_row_group_costs_its_own_images_only(files: TwinFiles, scratch: Path) -> None:
    images = pictures(30)
    path = files.folder / "a.parquet"
    write(path, {"image": images}, groups=10)
    found = planned(files, "a.parquet")
    chunk = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.dictionary_page_offset : chunk.dictionary_page_offset + 40] = bytes(40)
    path.write_bytes(data)
    assert all_given(files, found, scratch) == [*images[:10], *["undecodable"] * 10, *images[20:]]


@settings(max_examples=FEW)
@examples(seed=st.integers(0, 10_000), many=st.integers(1, 40))
def test_a_damaged_file_gives_each_place_something_and_ends_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, many: int
) -> None:
    folder, draw = tmp_path_factory.mktemp("damaged"), Random(seed)
    write(folder / "a.parquet", {"image": structs(pictures(12, 200, seed)), "key": list("abcdefghijkl")}, groups=4)
    data = bytearray((folder / "a.parquet").read_bytes())
    for _ in range(many):
        data[draw.randrange(4, len(data) - 8)] = draw.randrange(256)
    (folder / "a.parquet").write_bytes(data)
    part = ParquetRows("file:a.parquet", len(data), (0, 1, 2), "image")
    found = ItemList(tuple(Item(str(at), b"", 0, at=at) for at in range(12)), parquet=part)
    try:
        assert given(TwinFiles(folder), found, folder).keys() == set(range(12))
    except SourceGone:
        return
    finally:
        assert [path.name for path in folder.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("kept", [0, 3, 11, 200, 3_000])
def test_a_file_that_is_cut_off_says_so(files: TwinFiles, kept: int) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)})
    data = (files.folder / "a.parquet").read_bytes()
    (files.folder / "a.parquet").write_bytes(data[:kept])
    with pytest.raises(ConfigError, match="cannot be planned"):
        planned(files, "a.parquet")


@pytest.mark.parametrize("length", [0, 2**31, 2**32 - 1, 100])
def test_a_footer_that_lies_about_its_length_is_no_footer(files: TwinFiles, length: int) -> None:
    write(files.folder / "a.parquet", {"image": pictures(3)})
    data = (files.folder / "a.parquet").read_bytes()
    (files.folder / "a.parquet").write_bytes(data[:-8] + length.to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ConfigError, match="cannot be planned"):
        planned(files, "a.parquet")


@pytest.mark.parametrize("spans", [((-1, 5),), ((0, -5),), ((90, 11),), ((2**62, 2**62),)])
def test_bytes_that_the_file_does_not_have_are_not_asked_for(spans: Any) -> None:
    with pytest.raises(parquet_file.Unreadable, match="does not have"):
        parquet_file.checked(Located(spans, 10), 100)


def test_a_row_group_may_not_say_that_it_is_endless() -> None:
    with pytest.raises(parquet_file.Unreadable, match="over"):
        parquet_file.checked(Located(((0, 10),), 2**40), 100)


def test_a_bomb_is_an_error_row_and_the_other_images_come(
    files: TwinFiles, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "MEMORY", 384 * 2**20)
    images = [b"a" * 1_000, bytes(400 * 2**20), b"c" * 1_000]
    write(files.folder / "a.parquet", {"image": images}, groups=1, compression="zstd", use_dictionary=False)
    del images[1]
    assert (files.folder / "a.parquet").stat().st_size < 2**20
    at = HubTwin(files.folder)
    [found] = planned(at, at.at("a.parquet"))
    assert given(at, found, scratch) == {0: images[0], 1: "undecodable", 2: images[1]}


# --- the process


class Killing(HubTwin):
    """Kills the process that reads Parquet whenever a row group is fetched."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.left = times

    async def save(self, location: Location, start: int, length: int, file: BinaryIO) -> None:
        await super().save(location, start, length, file)
        if self.left:
            self.left -= 1
            for process in readers():
                os.kill(process.pid, signal.SIGKILL)
                with trio.fail_after(10):
                    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                        await trio.lowlevel.checkpoint()


def readers() -> list[psutil.Process]:
    living = [process for process in psutil.Process().children() if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in living if "p2pcap.sources.parquet_child" in " ".join(process.cmdline())]


def test_a_process_that_dies_costs_a_row_group_and_is_started_again(
    hub: HubTwin, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "JOINED", 0)
    images = pictures(30)
    write(hub.folder / "a.parquet", {"image": images}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))
    got = all_given(Killing(hub.folder, 1), [found], scratch)
    assert got == [*["unavailable"] * 10, *images[10:]]


@pytest.mark.parametrize(
    "frames",
    [
        [b"no MessagePack"],
        [encode_frame(Rows(((0, (b"x", b"y")),)))],
        [encode_frame(Rows(((0, ()),)))],
        [encode_frame(Located((), 0))],
        [encode_frame(Rows(((7, (b"x",)),))), encode_frame(Done())],
    ],
)
def test_a_process_that_talks_nonsense_ends_nothing(
    hub: HubTwin, scratch: Path, monkeypatch: pytest.MonkeyPatch, frames: list[bytes]
) -> None:
    write(hub.folder / "a.parquet", {"image": pictures(3)})
    [found] = planned(hub, hub.at("a.parquet"))
    receive, turns, left = child.Child.receive, iter(range(100)), list(frames)

    async def lying(self: child.Child, limit: int) -> bytes:
        true = await receive(self, limit)
        return left.pop(0) if next(turns) >= 2 and left else true  # behind the answers to Open and Locate

    monkeypatch.setattr(child.Child, "receive", lying)
    given_codes = set(given(hub, found, scratch).values())
    assert given_codes <= {"unavailable", "gone"}


def test_what_a_dead_process_costs_may_be_asked_for_again() -> None:
    for error in (child.ChildFailed(), child.ChildSlow()):
        assert isinstance(parquet.fault(error), ImageUnavailable)
    for lasting in (None, parquet_file.Unreadable()):
        assert not isinstance(parquet.fault(lasting), ImageUnavailable)


def test_a_process_that_is_too_slow_is_given_up(hub: HubTwin, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(hub.folder / "a.parquet", {"image": pictures(3)})
    [found] = planned(hub, hub.at("a.parquet"))
    monkeypatch.setattr(parquet_file, "SECONDS", 0.0)
    assert given(hub, found, scratch) == dict.fromkeys(range(3), "unavailable")


def test_no_process_and_no_file_is_left_behind(hub: HubTwin, scratch: Path) -> None:
    write(hub.folder / "a.parquet", {"image": pictures(30)}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))
    given(hub, found, scratch)
    assert not readers()
    assert not list(scratch.iterdir())


def test_a_cancelled_reader_leaves_nothing_behind(hub: HubTwin, scratch: Path) -> None:
    write(hub.folder / "a.parquet", {"image": pictures(30)}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))
    assert found.parquet
    wanted = dict(enumerate(found.items))

    async def read() -> None:
        async def put(place: int, image: bytes | ImageError) -> None:
            scope.cancel()
            await trio.sleep_forever()

        with trio.CancelScope() as scope:
            assert found.parquet
            await parquet.read(hub, found.parquet, wanted, scratch, put)
        assert scope.cancelled_caught

    trio.run(read)
    assert not readers()
    assert not list(scratch.iterdir())


def test_what_put_raises_comes_out_as_it_is(hub: HubTwin, scratch: Path) -> None:
    write(hub.folder / "a.parquet", {"image": pictures(30)}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))

    async def put(place: int, image: bytes | ImageError) -> None:
        raise KeyError(place)

    assert found.parquet
    with pytest.raises(KeyError):
        trio.run(parquet.read, hub, found.parquet, dict(enumerate(found.items)), scratch, put)


def test_a_source_that_fails_later_gives_what_came_before(
    hub: HubTwin, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "JOINED", 0)
    images = pictures(30)
    write(hub.folder / "a.parquet", {"image": images}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))
    files = Failing(hub.folder, 2)
    got: dict[int, Any] = {}

    async def put(place: int, image: bytes | ImageError) -> None:
        got[place] = image

    assert found.parquet
    with pytest.raises(SourceUnavailable, match="busy"):
        trio.run(parquet.read, files, found.parquet, dict(enumerate(found.items)), scratch, put)
    assert got == dict(enumerate(images[:20]))


class Failing(HubTwin):
    """Gives so many ranges, and no more."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.left = times

    async def save(self, location: Location, start: int, length: int, file: BinaryIO) -> None:
        if not self.left:
            raise SourceUnavailable("The server is busy.")
        self.left -= 1
        await super().save(location, start, length, file)


def test_a_full_disk_is_this_machine_s_fault(
    hub: HubTwin, scratch: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    write(hub.folder / "a.parquet", {"image": pictures(30)}, groups=10)
    [found] = planned(hub, hub.at("a.parquet"))
    with full_disk(), pytest.raises(SourceError, match="cannot be written") as raised:
        given(hub, found, scratch)
    assert not isinstance(raised.value, SourceGone | SourceUnavailable)
