"""The members of a tar and its index: the same as tarfile finds, in webshart's form, whatever strangers packed."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.errors import ConfigError, SourceDenied
from p2pcap.sources.locations import DataFile, HubFile, Location, WebFile
from p2pcap.sources.tar_index import (
    MAX_BRACES,
    MAX_INDEX,
    encode_index,
    find_index,
    index_location,
    index_name,
    parse_index,
    seek_index,
    stream_index,
)
from p2pcap.sources.tar_walk import BLOCK, MAX_EXTENSION, Contents, Member
from tests.sources.tars import FORMATS, image, pack, special
from tests.sources.twin import TwinFiles

STRANGE = [
    "plain.jpg",
    "with space.jpg",
    "quote'\"`.jpg",
    "new\nline.jpg",
    "emoji 🦊.jpg",
    "deep/" * 40 + "a.jpg",
    "n" * 296 + ".jpg",
    "é" * 140 + ".jpg",
    "100 bytes " + "x" * 86 + ".jpg",
    "./dot.jpg",
]


def walked(path: Path) -> Contents:
    with path.open("rb") as file:
        return seek_index(file, path.stat().st_size, lambda done: None)


def streamed(path: Path) -> Contents:
    files = TwinFiles(path.parent)
    size = path.stat().st_size
    return trio.run(stream_index, files, DataFile(path.name), size, lambda done: None)


def expected(path: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(path) as tar:
        return [(about.name, about.offset_data, about.size) for about in tar if about.isreg()]


def places(found: Contents) -> list[tuple[str, int, int]]:
    return [(member.name, member.offset, member.length) for member in found.members]


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_strange_names_are_found_as_tarfile_finds_them(tmp_path: Path, form: str) -> None:
    path = pack(tmp_path / "a.tar", [(name, image(name)) for name in STRANGE], form)
    assert places(walked(path)) == places(streamed(path)) == expected(path)
    assert [member.name for member in walked(path).members] == STRANGE


def test_long_names_of_ustar_are_in_two_parts(tmp_path: Path) -> None:
    names = ["short.jpg", "d" * 150 + "/" + "n" * 96 + ".jpg", "a/" * 70 + "b.jpg"]
    path = pack(tmp_path / "a.tar", [(name, image(name)) for name in names], "ustar")
    assert places(walked(path)) == expected(path)
    assert [member.name for member in walked(path).members] == names


def test_times_in_a_gnu_header_are_no_part_of_the_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", b"one")])
    data = bytearray(path.read_bytes())
    data[345:357], data[148:156] = b"14654311765\0", b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:BLOCK])
    path.write_bytes(data)
    assert [member.name for member in walked(path).members] == ["1.jpg"]


@given(st.data())
@pytest.mark.parametrize("form", list(FORMATS))
def test_any_tar(tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject) -> None:
    letters = st.characters(codec="ascii" if form == "ustar" else "utf-8", exclude_characters="\0")
    name = st.text(letters, min_size=1, max_size=60).filter(
        lambda text: text[0] != "/" and text[-1] != "/" and ".." not in text.split("/")
    )
    members = data.draw(st.lists(st.tuples(name, st.binary(max_size=1_500)), max_size=8))
    path = pack(tmp_path_factory.mktemp("tars") / "a.tar", members, form)
    assert places(walked(path)) == places(streamed(path)) == expected(path)
    assert [(member.name, member.hash) for member in streamed(path).members] == [
        (name, hashlib.sha256(content).digest()) for name, content in members
    ]


def test_a_walk_over_a_file_reads_headers_only(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [(f"{n}.jpg", bytes(100_000)) for n in range(20)])
    reads: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size or 0)
            return super().read(size)

    with Counted(path) as file:
        assert len(seek_index(file, path.stat().st_size, lambda done: None).members) == 20
    assert reads == [BLOCK] * 21


def test_a_stream_is_read_once_and_hashed(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [(f"{n}.jpg", image(str(n), 3_000_000)) for n in range(3)])
    files = TwinFiles(tmp_path)
    found = trio.run(stream_index, files, DataFile("a.tar"), path.stat().st_size, lambda done: None)
    assert [member.hash for member in found.members] == [
        hashlib.sha256(image(str(n), 3_000_000)).digest() for n in range(3)
    ]
    assert len(files.asked) == 1


def test_what_is_no_file_is_left_out_and_counted(tmp_path: Path) -> None:
    kinds = [
        ("folder", tarfile.DIRTYPE),
        ("soft.jpg", tarfile.SYMTYPE),
        ("hard.jpg", tarfile.LNKTYPE),
        ("device.jpg", tarfile.CHRTYPE),
        ("pipe.jpg", tarfile.FIFOTYPE),
    ]
    path = special(tmp_path / "a.tar", *kinds, then=[("1.jpg", b"one")])
    assert places(walked(path)) == expected(path) == [("1.jpg", 6 * BLOCK, 3)]
    assert walked(path).left_out == {"folders": 1, "links": 2, "devices": 2}


@pytest.mark.parametrize("name", ["/etc/passwd.jpg", "../up.jpg", "a/../../up.jpg", "n" * 5_000 + ".jpg"])
def test_names_that_lead_out_are_left_out(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "a.tar", [(name, b"evil"), ("1.jpg", b"one")])
    found = walked(path)
    assert [member.name for member in found.members] == ["1.jpg"]
    assert sum(found.left_out.values()) == 1


def test_sparse_files_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        about = tarfile.TarInfo("sparse.jpg")
        about.size, about.pax_headers = 600, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        tar.addfile(about, io.BytesIO(bytes(600)))
        about = tarfile.TarInfo("1.jpg")
        about.size = 3
        tar.addfile(about, io.BytesIO(b"one"))
    found = walked(tmp_path / "a.tar")
    assert [member.name for member in found.members] == ["1.jpg"]
    assert found.left_out == {"sparse files": 1}


def test_sparse_files_of_old_gnu_tars_are_passed_with_their_maps(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("sparse.jpg", bytes(600)), ("1.jpg", b"one")])
    data = bytearray(path.read_bytes())
    data[156:157], data[482:483] = b"S", b"\1"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:BLOCK])
    maps = bytearray(2 * BLOCK)
    maps[504] = 1
    path.write_bytes(data[:BLOCK] + maps + data[BLOCK:])
    found = walked(path)
    assert [(member.name, member.offset) for member in found.members] == [("1.jpg", 6 * BLOCK)]
    assert found.left_out == {"sparse files": 1}


def test_an_empty_tar_and_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "nothing.tar").touch()
    pack(tmp_path / "empty.tar", [])
    for name in ("nothing.tar", "empty.tar"):
        assert walked(tmp_path / name) == streamed(tmp_path / name) == Contents()


def test_a_tar_without_its_end_mark_is_whole(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", bytes(10)), ("2.jpg", bytes(10))])
    path.write_bytes(path.read_bytes()[: 3 * BLOCK + 10])
    assert (len(walked(path).members), walked(path).cut) == (2, "")


@pytest.mark.parametrize("keep", [2 * BLOCK + 1, 3 * BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 9])
def test_what_is_whole_of_a_cut_tar_is_found(tmp_path: Path, keep: int) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", bytes(10)), ("2.jpg", bytes(10))])
    path.write_bytes(path.read_bytes()[:keep])
    for found in (walked(path), streamed(path)):
        assert [member.name for member in found.members] == ["1.jpg"]
        assert found.cut


def test_a_damaged_header_ends_the_walk(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", bytes(10)), ("2.jpg", bytes(10))])
    data = bytearray(path.read_bytes())
    data[2 * BLOCK + 3] ^= 1
    path.write_bytes(data)
    found = walked(path)
    assert [member.name for member in found.members] == ["1.jpg"]
    assert found.cut == f"a header whose checksum does not hold at byte {2 * BLOCK} of {path.stat().st_size}"


def lying(path: Path, size: bytes) -> Path:
    """A tar whose second member claims another size."""
    pack(path, [("1.jpg", bytes(10)), ("2.jpg", bytes(10))])
    data = bytearray(path.read_bytes())
    block = data[2 * BLOCK : 3 * BLOCK]
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data[2 * BLOCK : 3 * BLOCK] = block
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "size", [b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1", b"0o17", b"1_0", b"9"], ids=repr
)
def test_lying_sizes(tmp_path: Path, size: bytes) -> None:
    found = walked(lying(tmp_path / "a.tar", size))
    assert [member.name for member in found.members] == ["1.jpg"]
    assert found.cut


def test_a_long_name_that_is_longer_than_any_name(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", b"one"), ("n" * (MAX_EXTENSION + 1), b"two")])
    assert [member.name for member in walked(path).members] == ["1.jpg"]
    assert "too long" in walked(path).cut


@pytest.mark.parametrize("record", [b"30 path=short\n", b"x path=a\n", b"11 path:no\n", b"0 path=a\n", b"-5 a=b\n"])
def test_damaged_pax_records(tmp_path: Path, record: bytes) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", b"one"), ("x", record), ("2.jpg", b"two")])
    data = bytearray(path.read_bytes())
    block = data[2 * BLOCK : 3 * BLOCK]
    block[156:157], block[148:156] = b"x", b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data[2 * BLOCK : 3 * BLOCK] = block
    path.write_bytes(data)
    assert [member.name for member in walked(path).members] == ["1.jpg"]
    assert walked(path).cut


def test_compressed_tars_and_other_files_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", bytes(10_000_000))])
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ConfigError, match="compressed"):
        walked(packed)
    (tmp_path / "page.tar").write_bytes(b"<html>" + b"x" * 2_000)
    (tmp_path / "short.tar").write_bytes(b"<html>")
    for name in ("page.tar", "short.tar"):
        with pytest.raises(ConfigError, match="no tar"):
            walked(tmp_path / name)


@given(st.binary(max_size=4_000))
def test_any_bytes(data: bytes) -> None:
    try:
        found = seek_index(io.BytesIO(data), len(data), lambda done: None)
    except ConfigError:
        return
    assert all(member.end <= len(data) for member in found.members)


@given(st.data())
def test_any_damage(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = pack(tmp_path_factory.mktemp("tars") / "a.tar", [(name, image(name)) for name in STRANGE], "pax")
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = seek_index(io.BytesIO(whole), len(whole), lambda done: None)
    except ConfigError:
        return
    assert all(member.end <= len(whole) for member in found.members)


# --- the index

WEBSHART = """{
  "path": "data-0000.tar", "filesize": 20480, "hash": "abc", "hash_lfs": "def", "includes_image_geometry": true,
  "files": {
    "b.webp": {"path": "b.webp", "offset": 10240, "length": 4000, "width": 64, "height": 32, "aspect": 2.0,
               "json_path": "b.json", "json_offset": 15360, "json_length": 20,
               "captions": ["a bee", "an insect"], "json_metadata": {"caption": "a bee", "id": 7}},
    "a.webp": {"offset": 512, "length": 9000,
               "sha256": "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"},
    "b.json": {"offset": 15360, "length": 20}
  }
}"""


def test_an_index_as_webshart_writes_it() -> None:
    members = parse_index(WEBSHART.encode(), 20_480)
    assert members is not None
    assert [(member.name, member.offset, member.length) for member in members] == [
        ("a.webp", 512, 9_000),
        ("b.webp", 10_240, 4_000),
        ("b.json", 15_360, 20),
    ]
    assert members[0].hash.hex() == "00112233445566778899aabbccddeeff" * 2
    assert members[1].captions == ("a bee", "an insect")
    assert members[1].metadata is not None
    assert json.loads(bytes(members[1].metadata)) == {"caption": "a bee", "id": 7}


@pytest.mark.parametrize(("name", "length"), [("path", "length"), ("fname", "size"), ("filename", "size")])
def test_an_index_with_a_list(name: str, length: str) -> None:
    data = json.dumps({"files": [{name: "a.jpg", "offset": 512, length: 7, "caption": "text"}]}).encode()
    assert parse_index(data, 10_240) == [Member("a.jpg", 512, 7, captions=("text",))]


def test_an_index_is_written_as_webshart_reads_it() -> None:
    members = [
        Member("a b/🦊.jpg", 512, 7, bytes(range(32))),
        Member("twice.jpg", 1_536, 8),
        Member("twice.jpg", 2_560, 9),
    ]
    assert json.loads(encode_index("x.tar", 10_240, members)) == {
        "path": "x.tar",
        "filesize": 10_240,
        "includes_image_geometry": False,
        "files": {
            "a b/🦊.jpg": {"offset": 512, "length": 7, "sha256": bytes(range(32)).hex()},
            "twice.jpg": {"offset": 1_536, "length": 8},
            "twice.jpg#2": {"offset": 2_560, "length": 9, "path": "twice.jpg"},
        },
    }


names = st.text(min_size=1, max_size=20) | st.sampled_from(["a.jpg", "a.jpg#2", "a.jpg#3"])


@given(st.lists(st.tuples(names, st.integers(0, 5_000), st.none() | st.binary(min_size=32, max_size=32)), max_size=12))
def test_an_index_comes_back_as_it_was(described: list[tuple[str, int, bytes | None]]) -> None:
    members, at = [], 0
    for name, length, digest in described:
        if name.startswith("/") or "\0" in name or ".." in name.split("/"):
            continue
        members.append(Member(name, at + BLOCK, length, digest or b""))
        at += BLOCK + -(-length // BLOCK) * BLOCK
    assert parse_index(encode_index("x.tar", at + 2 * BLOCK, members), at + 2 * BLOCK) == members


def index(**entry: object) -> bytes:
    return json.dumps({"filesize": 10_240, "files": {"a.jpg": {"offset": 512, "length": 10} | entry}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        index(offset=-1),
        index(offset=2**70),
        index(offset="512"),
        index(offset=0),
        index(offset=511),
        index(length=-5),
        index(length=10_000),
        index(length=None),
        index(sha256="00"),
        index(sha256="zz" * 32),
        index(captions={"a": 1}),
        json.dumps({"files": [{"offset": 512, "length": 1}]}).encode(),
        json.dumps({"files": {"a": {"offset": 512}}}).encode(),
        json.dumps({"files": 5}).encode(),
        json.dumps({"filesize": 10_241, "files": {}}).encode(),
        json.dumps({"files": {n: {"offset": 512, "length": 1} for n in "ab"}}).encode(),
        json.dumps({"files": {"a": {"offset": 512, "length": 600}, "b": {"offset": 1_200, "length": 1}}}).encode(),
        b'{"files": {',
        b'{"files": {"a": {"offset": 512, "length": 1, "x": ' + b"[" * 100_000,
        b'{"files":' + b"{" * 2_000_000,
        index().replace(b"a.jpg", b"\xff.jpg"),
    ],
    ids=lambda data: data[:60].decode("latin-1"),
)
def test_faulty_indexes(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_index(data, 10_240)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"7", b"\n<html>No such page</html>", b'{"shards": 3}', b'{"filesize": "no", "status": "success"}'],
)
def test_json_that_is_something_else(data: bytes) -> None:
    assert parse_index(data, 10_240) is None


@pytest.mark.parametrize(
    "data",
    [b" " * MAX_INDEX + b'{"files":{}}', b'{"files":{},"x":[' + b"{}," * MAX_BRACES + b"{}]}"],
    ids=["bytes", "entries"],
)
def test_an_index_that_would_cost_too_much_is_not_parsed(data: bytes) -> None:
    with pytest.raises(ConfigError, match="too long"):
        parse_index(data, 10_240)


def test_unsafe_names_in_an_index_are_left_out() -> None:
    files = {"/a.jpg": 512, "../b.jpg": 1_536, "c.jpg": 2_560}
    data = json.dumps({"files": {name: {"offset": at, "length": 1} for name, at in files.items()}}).encode()
    assert parse_index(data, 10_240) == [Member("c.jpg", 2_560, 1)]


def test_where_an_index_is() -> None:
    assert index_location(DataFile("d/a.tar")) == DataFile("d/a.json")
    assert index_location(WebFile("https://a.org/x/a.b.tar?key=1")) == WebFile("https://a.org/x/a.b.json?key=1")
    hub = HubFile("datasets", "o/n", "0" * 40, "train/00.tar")
    assert index_location(hub) == replace(hub, path="train/00.json")
    assert index_name("plain") == "plain.json"


def test_an_index_is_found_beside_its_tar(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", b"one")])
    files, size = TwinFiles(tmp_path), path.stat().st_size
    assert trio.run(find_index, files, DataFile("a.tar"), size) is None
    members = walked(path).members
    (tmp_path / "a.json").write_bytes(encode_index("a.tar", size, members))
    assert trio.run(find_index, files, DataFile("a.tar"), size) == members
    (tmp_path / "a.json").write_bytes(b'{"files": 1}')
    with pytest.raises(ConfigError, match=r"a\.json.*faulty"):
        trio.run(find_index, files, DataFile("a.tar"), size)


def test_an_index_that_nobody_may_read_is_none(tmp_path: Path) -> None:
    class Denying(TwinFiles):
        async def size(self, location: Location) -> int:
            raise SourceDenied("No.")

    assert trio.run(find_index, Denying(tmp_path), DataFile("a.tar"), 10_240) is None


def test_an_index_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("1.jpg", b"one")])
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(MAX_INDEX + 1)
    files = TwinFiles(tmp_path)
    with pytest.raises(ConfigError, match="too long"):
        trio.run(find_index, files, DataFile("a.tar"), path.stat().st_size)
    assert files.moved == 0
