"""Planning what is on the maintainer's disk: real files, each image looked up by its content."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_FIELD, Item, ItemList, ParquetRows, encode_list
from p2pcap.project.records import MAX_CHUNK
from p2pcap.sources import planning
from p2pcap.sources.lists import split, uncaptioned
from p2pcap.sources.spec import Images
from tests.sources.made import STRANGE, digest, image, items, keys, lay, parquet, planned, tar, url_table

# --- local


def test_a_folder_of_images(tmp_path: Path) -> None:
    names = [f"a/{name}" for name in STRANGE] + ["b/same.jpg", "c/.hidden/x.jpg"]
    lay(tmp_path / "photos", {name: image(name) for name in names} | {"notes.csv": b"x", "old.zip": b"x"})
    images = Images(source="photos")
    seen: list[int] = []
    lists = planned(tmp_path, images, 4, seen.append)
    assert [len(found.items) for found in lists] == [4, 3]
    assert seen == [4, 7]
    assert {item.key: item.hash for item in items(lists)} == {name: digest(image(name)) for name in names[:-1]}
    assert planning.data_folder(tmp_path, images) == tmp_path / "photos"


def test_shards_of_odd_sizes_in_a_folder_one_of_them_empty(tmp_path: Path) -> None:
    shards = {
        "b/2.parquet": ["x", "y"],
        "a.parquet": [],
        "b/10.parquet": [f"k{n}" for n in range(11)],
        "c.parquet": ["x"],
    }
    lay(tmp_path / "set", {path: parquet(names) for path, names in shards.items()} | {"README.md": b"hi"})
    lists = planned(tmp_path, Images(source="set"), 6)
    assert [found.parquet.file for found in lists if found.parquet] == [
        "file:b/10.parquet",
        "file:b/10.parquet",
        "file:b/2.parquet",
        "file:c.parquet",
    ]
    assert [(item.key, item.hash) for item in items(lists)] == [
        (name, digest(image(name))) for name in [*shards["b/10.parquet"], "x", "y", "x"]
    ]


def test_a_pattern_takes_the_files_it_matches(tmp_path: Path) -> None:
    lay(tmp_path / "set", {f"{part}/{n}.tar": tar([f"{part}{n}.jpg"]) for part in "ab" for n in range(2)})
    images = Images(source="set/a/*.tar")
    assert [Path(key).stem for key in keys(planned(tmp_path, images))] == ["a0", "a1"]
    assert planning.data_folder(tmp_path, images) == tmp_path / "set/a"
    everything = Images(source=str(tmp_path / "s*/**/*.tar"))
    assert len(keys(planned(tmp_path / "elsewhere", everything))) == 4


def test_one_file(tmp_path: Path) -> None:
    lay(tmp_path, {"set/x [1].tar": tar(["1.jpg", "2.txt"]), "set/y.tar": tar(["3.jpg"])})
    images = Images(source="set/x [1].tar")
    found = items(planned(tmp_path, images))
    assert [item.hash for item in found] == [digest(image("1.jpg"))]
    assert planning.data_folder(tmp_path, images) == tmp_path / "set"


def test_the_index_of_a_tar_is_no_data(tmp_path: Path) -> None:
    data = tar(["1.jpg"])
    index = {"path": "1.tar", "filesize": len(data), "files": {"1.jpg": {"offset": 512, "length": 600}}}
    lay(tmp_path / "set", {"1.tar": data, "1.json": json.dumps(index).encode()})
    assert [item.hash for item in items(planned(tmp_path, Images(source="set")))] == [digest(image("1.jpg"))]


def test_short_tables_fill_lists_together_in_the_order_of_files(tmp_path: Path) -> None:
    addresses = [f"https://example.com/{n}.jpg" for n in range(20)]
    lay(
        tmp_path / "set",
        {
            "a.csv": "\n".join(["id,url", *(f"{n},{url}" for n, url in enumerate(addresses[:7]))]).encode(),
            "b.jsonl": "\n".join(json.dumps({"url": url}) for url in [*addresses[7:9], None, "", "None"]).encode(),
            "c.jsonl": b"",
        },
    )
    lists = planned(tmp_path, Images(source="set"), 4)
    assert [len(found.items) for found in lists] == [4, 4, 1]
    assert [item.url for item in items(lists)] == addresses[:9]


def test_one_file_is_what_the_maintainer_says_it_is(tmp_path: Path) -> None:
    lay(tmp_path, {"export": tar(["1.jpg"]), "rows.json": b'{"url": "https://x.org/1"}\n'})
    assert len(keys(planned(tmp_path, Images(source="export", kind="tar")))) == 1
    assert len(keys(planned(tmp_path, Images(source="rows.json", kind="urls")))) == 1
    with pytest.raises(ConfigError, match="no files of images"):
        planned(tmp_path, Images(source="export"))


def test_parquet_files_of_images_and_of_addresses_are_told_apart(tmp_path: Path) -> None:
    lay(
        tmp_path / "set",
        {
            "a.parquet": parquet(["x"]),
            "b.parquet": url_table(["https://example.com/1.jpg"]),
            "c.parquet": url_table(["https://example.com/2.jpg", None]),
            "d.parquet": parquet(["y"]),
        },
    )
    lists = planned(tmp_path, Images(source="set"))
    kinds = [type(found.file).__name__ for found in lists]
    assert kinds == ["ParquetRows", "NoneType", "ParquetRows"]
    assert len(lists[1].items) == 2


def test_a_file_without_images_is_left_out_where_others_have_some(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"score": [1.0]}), out)
    lay(tmp_path / "set", {"a.parquet": out.getvalue(), "b.parquet": parquet(["x"])})
    assert keys(planned(tmp_path, Images(source="set"))) == ["x"]
    with pytest.raises(ConfigError, match="score"):
        planned(tmp_path, Images(source="set", kind="parquet"))
    with pytest.raises(ConfigError, match="score"):
        planned(tmp_path, Images(source="set/a.parquet"))


def test_archives_are_streamed_and_a_file_without_images_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path / "set", {"a.zip": archive(["1.jpg", "b/2.png"]), "b.arrow": scores(), "c.md": b"x"})
    lists = planned(tmp_path, Images(source="set"))
    assert [found.stream.file for found in lists if found.stream] == ["file:a.zip"]
    assert {item.hash for item in items(lists)} == {digest(image("1.jpg")), digest(image("b/2.png"))}


def scores() -> bytes:
    out = pa.BufferOutputStream()
    table = pa.table({"score": [1.0]})
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    data: bytes = out.getvalue().to_pybytes()
    return data


def archive(names: list[str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, image(name))
    return out.getvalue()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (Images(source="set"), r"it has 2 × \.doc, 1 × \.md"),
        (Images(source="set", kind="tar"), r"images\.kind tar.*2 × \.doc"),
        (Images(source="nowhere"), "There is no folder or file"),
        (Images(source="set/*.parquet"), "no files"),
        (Images(source="empty.parquet"), "no images to caption"),
        (Images(source="pictures/*.jpg"), "without a pattern"),
        (Images(source="pictures", kind="files"), "for the Hub"),
        (Images(source="pictures", kind="parquet"), r"1 × \.jpg"),
        (Images(source="https://example.com/images"), r"Set images\.kind"),
        (Images(source="https://example.com/images", kind="folder"), "cannot be listed"),
        (Images(source="pictures", captioned="skip"), r"images\.caption_field"),
    ],
)
def test_what_cannot_be_planned_says_why(tmp_path: Path, images: Images, said: str) -> None:
    lay(tmp_path / "set", {"a.doc": b"x", "b/c.doc": b"x", "README.md": b"x"})
    lay(tmp_path, {"empty.parquet": parquet([]), "pictures/1.jpg": b"x"})
    with pytest.raises(ConfigError, match=said):
        planned(tmp_path, images)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://x/a.tar", ["https://x/a.tar"]),
        ("https://x/{08..11}.tar", [f"https://x/{n}.tar" for n in ("08", "09", "10", "11")]),
        ("https://x/{0..1}/{0..1}", ["https://x/0/0", "https://x/0/1", "https://x/1/0", "https://x/1/1"]),
    ],
)
def test_braces_count(address: str, expected: list[str]) -> None:
    from p2pcap.sources.finding import expanded

    assert expanded(address) == expected


@pytest.mark.parametrize("address", ["https://x/{5..1}", "https://x/{0..999999999999}", "https://x/{0..999}{0..999}"])
def test_braces_have_a_bound(address: str) -> None:
    from p2pcap.sources.finding import expanded

    with pytest.raises(ConfigError):
        expanded(address)


# --- captions that are there


CAPTIONS = ["one", "", None, "  ", "five"]


@pytest.mark.parametrize(
    ("captioned", "expected"),
    [
        ("append", {"0": "one", "1": "", "2": "", "3": "", "4": "five"}),
        ("replace", {"0": "", "1": "", "2": "", "3": "", "4": ""}),
        ("skip", {"1": "", "2": "", "3": ""}),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "urls"])
def test_images_with_a_caption(tmp_path: Path, captioned: str, expected: Mapping[str, str], kind: str) -> None:
    names, other = [str(n) for n in range(5)], [f"o{n}" for n in range(5)]
    extra: dict[str, Sequence[object]] = {"key": names, "text": CAPTIONS, "other": other}
    data = parquet(names, extra) if kind == "parquet" else url_table([f"https://x.org/{n}" for n in names], extra)
    lay(tmp_path, {"a.parquet": data})
    images = Images(source="a.parquet", fields=("other",), caption_field="text", captioned=captioned)  # type: ignore[arg-type]
    found = items(planned(tmp_path, images))
    assert {item.key: item.metadata.get("text", "") for item in found} == expected
    assert {item.key: item.metadata["other"] for item in found} == {key: f"o{key}" for key in expected}


def test_a_blank_caption_is_none() -> None:
    images = Images(source="x", caption_field="text", captioned="skip")
    assert uncaptioned(Item("k", b"", 0, "https://x.org/1", fields={"text": " \n"}), images)
    assert not uncaptioned(Item("k", b"", 0, "https://x.org/1", fields={"text": " a"}), images)


def test_a_dataset_whose_images_all_have_captions_has_nothing_to_plan(tmp_path: Path) -> None:
    lay(tmp_path, {"a.parquet": parquet(["x"], {"text": ["is there"]})})
    with pytest.raises(ConfigError, match="no images to caption"):
        planned(tmp_path, Images(source="a.parquet", caption_field="text", captioned="skip"))


def test_a_list_with_much_text_is_split() -> None:
    fields = {f"f{n}": "😀" * MAX_FIELD for n in range(32)}
    part = ParquetRows("file:a.parquet", 1, (0,), "image")
    found = ItemList(tuple(Item(str(n), b"", 0, at=n, fields=fields) for n in range(40)), parquet=part)
    parts = list(split(found))
    assert len(parts) > 1
    assert tuple(item for one in parts for item in one.items) == found.items
    assert all(one.parquet == part and len(encode_list(one)) <= MAX_CHUNK * 2_048 for one in parts)
