"""Item lists: two forms, one encoding each, and nothing in them that nobody could find."""

import hashlib

import pytest
from msgspec import UNSET

from p2pcap.codec import MAX_BLOB, encode
from p2pcap.errors import CodecError
from p2pcap.project.items import Item, ItemList, ParquetRows, StreamRows, TarRange, decode_list, encode_list

HASH = hashlib.sha256(b"image").digest()
PLACE = "hf://datasets/owner/name@" + "0" * 40 + "/train-00000.parquet"
ROWS = ParquetRows(PLACE, 1_000, (0, 3), "image")
RANGE = TarRange("https://example.org/0.tar", 10_240, 512, 4_096)
STREAM = StreamRows("file:train.arrow", 100, "arrow", "image")


@pytest.mark.parametrize(
    "found",
    [
        ItemList((Item("a.png", HASH, 5),)),
        ItemList((Item("a", b"", 0, url="https://example.org/a.png", fields={"title": "A \N{SNOWMAN}", "b": ""}),)),
        ItemList((Item("0", b"", 0, at=0), Item("1", HASH, 5, at=7)), parquet=ROWS),
        ItemList((Item("0.jpg", b"", 77, at=1_024),), tar=RANGE),
        ItemList((Item("0", HASH, 1, at=0),), stream=STREAM),
    ],
)
def test_a_list_comes_back(found: ItemList) -> None:
    data = encode_list(found)
    assert decode_list(data, MAX_BLOB) == found
    assert (data[0] >> 5 == 4) == (found.file is None), "images that travel, or have a URL each, are a bare array"


def test_the_file_of_a_list() -> None:
    item = Item("0", b"", 0, at=0)
    assert ItemList((Item("a", HASH, 5),)).file is None
    assert [ItemList((item,), **{name: part}).file for name, part in FILES.items()] == list(FILES.values())  # type: ignore[arg-type]


FILES = {"parquet": ROWS, "tar": RANGE, "stream": STREAM}


@pytest.mark.parametrize(
    "items",
    [
        (Item("a", b"", 0),),
        (Item("a", HASH, 5), Item("b", b"", 0)),
        (Item("a", b"", 0, at=3),),
    ],
)
def test_an_image_that_nobody_can_find_is_refused(items: tuple[Item, ...]) -> None:
    with pytest.raises(CodecError, match="neither a place nor a hash"):
        decode_list(encode(items), MAX_BLOB)
    with pytest.raises(ValueError, match="neither a place nor a hash"):
        ItemList(items)


def test_an_image_without_its_place_in_the_file_is_refused() -> None:
    good = encode_list(ItemList((Item("a", HASH, 5, at=1),), parquet=ROWS))
    bad = encode({"items": [{"key": "a", "hash": HASH, "length": 5}], "parquet": ROWS})
    assert decode_list(good, MAX_BLOB).items[0].at == 1
    with pytest.raises(CodecError):
        decode_list(bad, MAX_BLOB)


def test_two_files_are_refused() -> None:
    with pytest.raises(CodecError):
        decode_list(encode({"items": [Item("a", HASH, 5, at=1)], "parquet": ROWS, "tar": RANGE}), MAX_BLOB)


def test_one_list_has_one_encoding() -> None:
    with pytest.raises(CodecError, match="names no file"):
        decode_list(encode({"items": [Item("a", HASH, 5)]}), MAX_BLOB)


@pytest.mark.parametrize("length", [1, 31, 33])
def test_a_hash_has_32_bytes_or_none(length: int) -> None:
    with pytest.raises((CodecError, ValueError)):
        decode_list(encode([{"key": "a", "hash": b"h" * length, "length": 5}]), MAX_BLOB)


@pytest.mark.parametrize("data", [b"", b"\xa0", b"\x80", b"\xf6", b"\xff" * 5])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_list(data, MAX_BLOB)


def test_an_image_says_what_the_dataset_says_of_it() -> None:
    assert Item("a", HASH, 5).metadata == {}
    assert Item("a", HASH, 5).fields is UNSET
    assert Item("a", HASH, 5, fields={"title": "A"}).metadata == {"title": "A"}
