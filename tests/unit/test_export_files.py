"""A file for each image: names that are never shared, files that are whole, exports that go on where they were."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2pcap.errors import ConfigError
from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts
from p2pcap.export.destination import whole_file
from p2pcap.export.imagefolder import write_imagefolder
from p2pcap.export.sidecars import write_jsons, write_texts
from p2pcap.export.source import Source
from p2pcap.export.tree import TEMPORARY, Tree
from tests.unit.export_ledger import CAPTIONS, KEYS, captioned, kept, source_of

ALL = Asked()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with source_of(kept(tmp_path_factory.mktemp("node"), captioned())) as source:
        yield source


def texts(
    source: Source, folder: Path, asked: Asked = ALL, *, beside: bool = False, force: bool = False, suffix: str = ".txt"
) -> Counts:
    return write_texts(source, asked, folder, suffix=suffix, beside=beside, force=force, progress=lambda rows: None)


def files(folder: Path) -> dict[str, str]:
    """What is in a folder, by path."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_each_image_has_a_file_of_its_own(source: Source, tmp_path: Path) -> None:
    counts = texts(source, tmp_path / "out")
    found = files(tmp_path / "out")
    assert counts == Counts(images=31, captions=31, errors=0, skipped={"errors": 1})
    assert len(found) == 31
    for name, key in {
        "plain.txt": "plain.jpg",
        "a/b c.txt": "a/b c.jpg",
        "new_line.txt": "new\nline.jpg",
        "😀/象.txt": "😀/象.webp",
        "_/_/etc/passwd.txt": "../../etc/passwd.jpg",
        "root.txt": "/root.jpg",
        "dot.ted.txt": "dot.ted.jpg",
        "a/b.txt": "a//b.jpg",
        ".hidden.txt": ".hidden.jpg",
        "folder.jpg/inner.txt": "folder.jpg/inner.png",
        "folder.txt": "folder.jpg",
        "without ending.txt": "without ending",
        "same.jpg.0-10.txt": "same.jpg",
        "same.png.txt": "same.png",
        "SAME.gif.txt": "SAME.gif",
        "same.jpg.png.txt": "same.jpg.png",
        "same.jpg.0-10_.txt": "same.jpg.0-10.jpg",
    }.items():
        assert found[name] == one_line(CAPTIONS[KEYS.index(key)]), name
    assert found["data/part-0001/sample/003.txt"] == "in a tar 3\n"
    assert len({name.lower() for name in found}) == 31
    assert len(list(tmp_path.iterdir())) == 1


def one_line(text: str) -> str:
    kept = "".join(
        " " if ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in "\u2028\u2029" else letter for letter in text
    )
    return " ".join(part for part in kept.split(" ") if part) + "\n" if kept != text else kept.strip(" ") + "\n"


def test_prompts_are_lines_and_the_suffix_is_free(source: Source, tmp_path: Path) -> None:
    texts(source, tmp_path, Asked(prompts=("objects", "describe"), limit=1), suffix=".caption")
    assert files(tmp_path) == {"plain.caption": "a red circle\nthing 0\n"}


def test_an_image_as_json(source: Source, tmp_path: Path) -> None:
    counts = write_jsons(source, Asked(errors=True), tmp_path, beside=False, force=False, progress=lambda rows: None)
    found = files(tmp_path)
    assert counts == Counts(images=32, captions=31, errors=1)
    assert json.loads(found["plain.json"])["describe"] == "a red circle"
    assert {json.loads(text)["key"] for text in found.values()} >= set(KEYS)
    assert json.loads(found["data/part-0001/sample/007.json"])["errors"] == ["undecodable"]


def test_an_export_goes_on_where_it_was(source: Source, tmp_path: Path) -> None:
    texts(source, tmp_path)
    whole, times = files(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.txt")}
    (tmp_path / "plain.txt").unlink()
    (tmp_path / "a" / TEMPORARY).write_text("half a ca")
    assert texts(source, tmp_path).images == 31
    left = files(tmp_path)
    assert {name: text for name, text in left.items() if not name.endswith(TEMPORARY)} == whole
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.txt") if path.name != "plain.txt"}
    assert again.items() <= times.items()


def test_what_is_there_is_not_replaced_unless_asked(source: Source, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("by hand\n")
    with pytest.raises(ConfigError, match="--force"):
        texts(source, tmp_path)
    assert (tmp_path / "plain.txt").read_text() == "by hand\n"
    texts(source, tmp_path, force=True)
    assert (tmp_path / "plain.txt").read_text() == "a red circle\n"


def test_beside_the_images_only_what_has_one(source: Source, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("plain.jpg", "a/b c.jpg", "same.png"):
        (tmp_path / name).write_bytes(b"image")
    counts = texts(source, tmp_path, beside=True)
    assert {name for name in files(tmp_path) if name.endswith(".txt")} == {"plain.txt", "a/b c.txt", "same.png.txt"}
    assert (counts.images, counts.skipped) == (3, {"errors": 1, "not in the folder": 28})


def test_a_name_that_no_file_can_have_is_counted(tmp_path: Path) -> None:
    (tmp_path / "taken.txt").mkdir()
    (tmp_path / "file").write_text("")
    with Tree(tmp_path, force=True) as tree:
        assert tree.put("good.txt", b"1")
        assert not tree.put("taken.txt", b"1")
        assert not tree.put("file/inner.txt", b"1")
        assert not tree.put("x" * 256, b"1")
        assert not tree.put("/".join(["deep"] * 2_000), b"1")
        assert tree.put("good too.txt", b"1")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "deep") == [
        "file",
        "good too.txt",
        "good.txt",
        "taken.txt",
    ]


def test_what_cannot_be_written_is_a_failure(source: Source, tmp_path: Path) -> None:
    assert not texts(source, tmp_path).incomplete
    (tmp_path / "plain.txt").unlink()
    (tmp_path / "plain.txt").mkdir()
    counts = texts(source, tmp_path)
    assert (counts.images, counts.incomplete) == (30, True)
    assert counts.skipped == {"errors": 1, "whose name no file can have": 1}


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").symlink_to(tmp_path / "precious")
    with Tree(tmp_path / "out", force=True) as tree:
        assert tree.put("a.txt", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "out" / "a.txt").read_text() == "new"


def test_a_full_disk_leaves_whole_files_alone(
    source: Source, tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    texts(source, tmp_path / "out", Asked(limit=2))
    before = files(tmp_path / "out")
    with full_disk(), pytest.raises(ConfigError, match="cannot be written"):
        texts(source, tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_a_folder_of_somebody_else_is_named(source: Source, closed: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        texts(source, closed / "out")


def test_metadata_of_a_folder_name_what_is_there(source: Source, tmp_path: Path) -> None:
    (tmp_path / "plain.jpg").write_bytes(b"image")
    counts = write_imagefolder(source, ALL, tmp_path, beside=True, force=False, progress=lambda rows: None)
    assert json.loads((tmp_path / "metadata.jsonl").read_text()) == {"file_name": "plain.jpg", "text": "a red circle"}
    assert counts.images == 1
    with pytest.raises(ConfigError, match="--force"):
        write_imagefolder(source, ALL, tmp_path, beside=True, force=False, progress=lambda rows: None)


def test_what_a_killed_export_left_goes_with_the_next_one(tmp_path: Path) -> None:
    killed = _ended()
    old, live, other = (
        tmp_path / name for name in (f".out.csv.{killed}.part", ".out.csv.1.part", f".in.{killed}.part")
    )
    for path in (old, live, other):
        path.write_text("half")
    with whole_file(tmp_path / "out.csv", force=False) as file:
        file.write(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([live, other, tmp_path / "out.csv"])


def _ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_no_handle_stays_open(source: Source, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "plain.txt").write_text("by hand\n")
    for _ in range(3):
        with pytest.raises(ConfigError):
            texts(source, tmp_path)
    assert len(os.listdir("/proc/self/fd")) <= before
