"""Which images a tar has, their keys, and what is said of them."""

import json
from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.sources.sidecars import MAX_SIDECAR, Names
from p2pcap.sources.tar_samples import fields, key_of, needed, pictures, said_by
from p2pcap.sources.tar_walk import Member


def members(*names: str) -> list[Member]:
    return [Member(name, 512 + 1_024 * number, 100) for number, name in enumerate(names)]


def keys(*names: str) -> list[str]:
    return [picture.key for picture in pictures(members(*names))]


def test_a_sample_is_named_up_to_the_first_dot() -> None:
    assert keys("a/1.jpg", "a/1.txt", "b.c/2.PNG", "2.cls", "./3.large.webp") == ["a/1", "b.c/2", "3"]


def test_samples_without_images_and_odd_members_give_nothing() -> None:
    assert keys("1.txt", "2.json", "README", ".hidden.jpg", "d/.jpg", "__meta__/x.jpg", "3.npy", "x.jpg.part") == []


def test_several_images_of_a_sample_keep_their_suffixes() -> None:
    assert keys("1.jpg", "1.mask.png", "2.jpg") == ["1.jpg", "1.mask.png", "2"]


def test_a_sample_that_comes_twice_has_two_keys() -> None:
    found = pictures(members("1.jpg", "1.txt", "1.jpg", "1.txt"))
    assert [picture.beside[".txt"].offset for picture in found] == [512 + 1_024, 512 + 3 * 1_024]
    used: set[str] = set()
    assert [key_of(picture.key, "", used, {}) for picture in found] == ["1", "1#2"]


def test_what_is_said_is_found_wherever_it_is() -> None:
    found = pictures(members("1.txt", "2.jpg", "1.jpg", "3.v2.jpg", "3.jpg", "3.txt", "3.v2.txt", "2.JSON"))
    assert [(picture.key, sorted((s, m.name) for s, m in picture.beside.items())) for picture in found] == [
        ("2", [(".json", "2.JSON")]),
        ("1", [(".txt", "1.txt")]),
        ("3.v2.jpg", [(".txt", "3.v2.txt")]),
        ("3.jpg", [(".txt", "3.txt")]),
    ]


def test_one_text_may_speak_of_several_images() -> None:
    found = pictures(members("1.left.jpg", "1.right.jpg", "1.txt"))
    assert [picture.beside[".txt"].name for picture in found] == ["1.txt", "1.txt"]


def test_only_what_is_needed_is_read() -> None:
    ((picture),) = pictures(members("1.jpg", "1.txt", "1.caption", "1.json"))
    assert needed(picture, ["txt"]) == [".txt"]
    assert needed(picture, ["caption"]) == [".caption", ".txt"]
    assert needed(picture, ["width", "txt"]) == [".txt", ".json"]
    assert needed(picture, []) == []
    ((only_json),) = pictures(members("1.jpg", "1.json"))
    assert needed(only_json, ["txt"]) == [".json"]
    large = [Member("1.jpg", 512, 1), Member("1.txt", 1_536, MAX_SIDECAR + 1)]
    assert needed(pictures(large)[0], ["txt"]) == []


def told(names: list[str], beside: Mapping[str, bytes], **said: object) -> dict[str, str]:
    member = Member("1.jpg", 512, 1, b"", **said)  # type: ignore[arg-type]
    known: dict[str, str] = {}
    for suffix, data in beside.items():
        known |= said_by(suffix, data, names, Names())
    return fields(pictures([member])[0], names, known, Names())


def test_where_fields_come_from() -> None:
    both = {".txt": b"from text\n", ".json": json.dumps({"caption": "from json", "width": 7, "x": None}).encode()}
    assert told(["caption"], both) == {"caption": "from text"}
    assert told(["caption", "txt"], {".caption": b"own", **both}) == {"caption": "own", "txt": "from text"}
    assert told(["caption"], {".json": both[".json"]}) == {"caption": "from json"}
    assert told(["width", "x", "none"], both) == {"width": "7"}
    assert told(["caption"], {".txt": b" \n"}, captions=("from the index",)) == {"caption": "from the index"}
    assert told(["captions"], {}, captions=("a", "b")) == {"captions": '["a","b"]'}
    assert told(["id"], {}, metadata=msgspec.Raw(b'{"id": {"a": 1}}')) == {"id": '{"a":1}'}


def test_what_is_no_text_and_no_json_says_what_it_can() -> None:
    assert told(["txt", "a"], {".txt": b"\xff\xfeok", ".json": b'{"a"'}) == {"txt": "\ufffd\ufffdok"}
    assert told(["a"], {".json": b"[" * 100_000}) == {}


def test_keys_that_are_too_long_or_taken() -> None:
    used, numbers = set[str](), dict[str, int]()
    wanted = ["a", "a#2", "a", "a", "x" * 1_030]
    assert [key_of(key, "file:t.tar#4", used, numbers) for key in wanted] == ["a", "a#2", "a#3", "a#4", "file:t.tar#4"]


parts = st.lists(st.sampled_from(["a", "b", ".", "jpg", "png", "txt", "json", "/", "#2"]), min_size=1, max_size=6)


@given(st.lists(parts.map("".join), max_size=20))
def test_any_names(names: list[str]) -> None:
    found = pictures(members(*names))
    assert len({picture.member.offset for picture in found}) == len(found)
    assert [picture.member.offset for picture in found] == sorted(picture.member.offset for picture in found)
    used, numbers = set[str](), dict[str, int]()
    for picture in found:
        key_of(picture.key, "place", used, numbers)
    assert len(used) == len(found)


@given(st.permutations(["1.jpg", "1.txt", "2.jpg", "2.txt", "3.txt", "4.png", "4.json"]))
def test_the_order_of_members_does_not_matter(names: list[str]) -> None:
    found = pictures(members(*names))
    assert {(p.key, *(m.name for m in p.said)) for p in found} == {
        ("1", "1.txt"),
        ("2", "2.txt"),
        ("4", "4.json"),
    }
