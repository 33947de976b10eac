"""Files that the library `datasets` reads, with the library in its process: real files, images compared by hash."""

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from p2pcap.errors import ConfigError, SourceError, SourceGone
from p2pcap.project.items import MAX_IMAGE, StreamRows
from p2pcap.sources import streamed
from p2pcap.sources.child import Limits
from p2pcap.sources.locations import WebFile
from tests.sources.stream_files import (
    CELLS,
    FORMATS,
    IMAGES,
    MIB,
    NAMES,
    WORDS,
    Reads,
    arrow,
    arrow_stream,
    hash_of,
    numbered,
)


@pytest.fixture
def reads(tmp_path: Path) -> Reads:
    return Reads(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_image_once_and_under_its_own_name(reads: Reads, kind: str) -> None:
    name, make = FORMATS[kind]
    made = make(reads.data / name)
    lists = reads.planned(name, size=3)
    assert [len(found.items) for found in lists] == [3, 3, 1]
    items = [item for found in lists for item in found.items]
    assert {item.key: item.hash for item in items} == {key: hash_of(image) for key, image in made.items()}
    assert {item.key: item.length for item in items} == {key: len(image) for key, image in made.items()}
    assert all(item.metadata == {} for item in items)
    rows = lists[1].stream
    assert isinstance(rows, StreamRows)
    middle = {place: item for place, item in enumerate(lists[1].items) if place != 1}
    came = reads.come(rows, middle)  # as after a resume in the middle of the list
    assert came == {place: made[item.key] for place, item in middle.items()}


@pytest.mark.parametrize("kind", ["arrow saved", "zip with metadata", "tar"])
def test_fields_go_to_their_images(reads: Reads, kind: str) -> None:
    name, make = FORMATS[kind]
    made = make(reads.data / name)
    (found,) = reads.planned(name, fields=("caption",))
    words = {hash_of(image): word for image, word in zip(made.values(), WORDS, strict=True)}
    assert {item.hash: item.metadata for item in found.items} == {key: {"caption": word} for key, word in words.items()}


@pytest.mark.parametrize(
    ("path", "builder"),
    [
        ("a/b.arrow", "arrow"),
        ("B.TAR.GZ", "webdataset"),
        ("x.zip", "imagefolder"),
        ("x.pkl", None),
        ("x.py", None),
        ("arrow", None),
        ("x.arrow/y", None),
    ],
)
def test_the_builder_follows_from_the_name(path: str, builder: str | None) -> None:
    assert streamed.builders(path) == builder


def test_cells_without_an_image_are_left_out_and_faulty_ones_stay(reads: Reads) -> None:
    large = bytes(MAX_IMAGE + 1)
    path_only = {"bytes": None, "path": "/etc/passwd"}
    cells = [CELLS[0], None, {"bytes": None, "path": None}, path_only, {"bytes": b"", "path": "e"}, {"bytes": large}]
    arrow(reads.data / "a.arrow", [*cells, CELLS[1]])
    (found,) = reads.planned("a.arrow")
    assert [item.at for item in found.items] == [0, 3, 4, 5, 6]
    assert [item.hash for item in found.items][1:4] == [b"", hash_of(b""), b""]
    came = reads.come(reads.rows("a.arrow"), numbered(*range(7)))
    first, second = IMAGES[NAMES[0]], IMAGES[NAMES[1]]
    assert came == {0: first, 10: "empty", 20: "empty", 30: "gone", 40: b"", 50: "too-large", 60: second}


def test_keys_that_repeat_or_are_blank_become_file_and_row(reads: Reads) -> None:
    arrow(reads.data / "a.arrow", CELLS[:5], name=["cat", "cat", None, " ", "y" * 5_000])
    (found,) = reads.planned("a.arrow", key_column="name")
    assert [item.key for item in found.items] == ["cat", *(f"a.arrow#{row}" for row in range(1, 5))]


def test_a_file_that_only_names_images_is_refused(reads: Reads) -> None:
    arrow(reads.data / "a.arrow", [{"bytes": None, "path": "https://example.org/x.png"}] * 3)
    with pytest.raises(ConfigError, match="names 3 images and holds none"):
        reads.planned("a.arrow")


def test_a_column_that_is_not_there_is_named(reads: Reads) -> None:
    arrow_stream(reads.data / "a.arrow")
    with pytest.raises(ConfigError, match=r"'captoin'.* Did you mean 'caption'"):
        reads.planned("a.arrow", fields=("captoin",))
    arrow_stream(reads.data / "a.pkl")
    with pytest.raises(ConfigError, match="no ending of a file that can be streamed"):
        reads.planned("a.pkl")


def test_an_empty_file_of_its_format_has_no_list(reads: Reads) -> None:
    arrow(reads.data / "a.arrow", [])
    assert reads.planned("a.arrow") == []


def test_lists_end_early_when_their_texts_are_long(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "LIST_TEXT", 20_000)
    arrow(reads.data / "a.arrow", CELLS, text=["t" * 4_000] * len(CELLS))
    assert [len(found.items) for found in reads.planned("a.arrow", fields=("text",))] == [2, 2, 2, 1]


def test_an_address_is_streamed_by_its_path() -> None:
    assert streamed.builders(streamed._name(WebFile("https://example.org/x.zip?key=1#2"))) == "imagefolder"


# Files that are not what they say


def test_reading_ends_behind_the_last_that_is_wanted(reads: Reads) -> None:
    """The file breaks off; what lies before that is had, and nothing is asked of what comes after."""
    arrow(reads.data / "a.arrow", CELLS)
    whole = (reads.data / "a.arrow").read_bytes()
    (reads.data / "a.arrow").write_bytes(whole[: len(whole) // 2])
    assert reads.come(reads.rows("a.arrow"), numbered(0, 1)) == {0: IMAGES[NAMES[0]], 10: IMAGES[NAMES[1]]}
    came = reads.come(reads.rows("a.arrow"), numbered(1, 6))
    assert came == {10: IMAGES[NAMES[1]], 60: "undecodable"}


def test_numbers_behind_the_end_get_no_image(reads: Reads) -> None:
    arrow(reads.data / "a.arrow", CELLS[:3])
    assert list(reads.come(reads.rows("a.arrow"), numbered(1, 3, 2**40))) == [10]


def test_a_file_of_another_size_is_not_the_one_that_was_planned(reads: Reads) -> None:
    arrow_stream(reads.data / "a.arrow")
    rows = reads.rows("a.arrow")
    (reads.data / "a.arrow").write_bytes(bytes(rows.size + 1))
    with pytest.raises(SourceGone):
        reads.come(rows, numbered(0))
    assert reads.files.moved == 0


@pytest.mark.parametrize("name", ["a.arrow", "a.zip", "a.tar", "a.parquet"])
@pytest.mark.parametrize("data", [b"<html>" * 999, b""], ids=["a page", "nothing"])
def test_a_file_of_another_format_cannot_be_read(reads: Reads, name: str, data: bytes) -> None:
    (reads.data / name).write_bytes(data)
    with pytest.raises(SourceError, match=r"cannot be read as [a-z]+: \w+: .*[^.]\. Leave it out"):
        reads.planned(name)
    if data:
        came = reads.come(reads.rows(name, streamed.builders(name) or ""), numbered(0, 4))
        assert came == {0: "undecodable", 40: "undecodable"}


@pytest.mark.parametrize(("builder", "column"), [("videofolder", "video"), ("pandas", "image")])
def test_no_other_builder_of_the_library_is_used(reads: Reads, builder: str, column: str) -> None:
    with zipfile.ZipFile(reads.data / "a.zip", "w") as archive:
        archive.writestr("0.mp4", b"a film")
    assert reads.come(reads.rows("a.zip", builder, column), numbered(0)) == {0: "undecodable"}


@pytest.mark.parametrize("outside", ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd"])
def test_metadata_that_names_files_outside_the_archive_is_refused(reads: Reads, outside: str) -> None:
    with zipfile.ZipFile(reads.data / "a.zip", "w") as archive:
        archive.writestr("0.png", IMAGES[NAMES[0]])
        archive.writestr("metadata.jsonl", json.dumps({"file_name": outside}))
    with pytest.raises(SourceError, match="cannot be read as imagefolder"):
        reads.planned("a.zip")


def test_members_of_an_archive_fail_alone(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among them one of 1.25 GiB, which the process has no memory for."""
    monkeypatch.setattr(streamed, "LIMITS", Limits(memory=1024 * MIB, cpu=600, file=MIB))
    path = reads.data / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.png", "w") as bomb:
            for _ in range(1280):
                bomb.write(bytes(MIB))
        archive.writestr("broken.png", b"b" * 10_000)
        archive.writestr("good.png", IMAGES[NAMES[0]])
        archive.writestr("zzz.png", IMAGES[NAMES[1]])
        at = archive.getinfo("broken.png").header_offset
    data = bytearray(path.read_bytes())
    data[at + 40 : at + 60] = bytes(20)
    path.write_bytes(data.replace(b"zzz.png", b"zz?.png", 1))  # in the member's own header only
    (found,) = reads.planned("a.zip")
    assert [(item.key, bool(item.hash)) for item in found.items] == [
        ("bomb.png", False),
        ("broken.png", False),
        ("good.png", True),
        ("zzz.png", False),
    ]
    came = reads.come(reads.rows("a.zip", "imagefolder"), numbered(0, 1, 2, 3))
    assert came == {0: "too-large", 10: "undecodable", 20: IMAGES[NAMES[0]], 30: "undecodable"}


def test_an_example_without_end_ends_the_process_only(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of 1.25 GiB, which the library takes into memory whole, in a file of a few MB."""
    monkeypatch.setattr(streamed, "LIMITS", Limits(memory=1024 * MIB, cpu=600, file=MIB))
    with tarfile.open(reads.data / "a.tar.gz", "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("0.png")
        member.size = 1280 * MIB
        with open("/dev/zero", "rb") as zeros:
            archive.addfile(member, zeros)
    assert reads.come(reads.rows("a.tar.gz", "webdataset", "png"), numbered(0)) == {0: "undecodable"}
