"""A folder of images: what is published of it, and what never is."""

import hashlib
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_FIELD, MAX_IMAGE, Item, ItemList
from p2pcap.sources import folder as folders
from p2pcap.sources.folder import SUFFIXES, plan
from p2pcap.sources.sidecars import MAX_SIDECAR, Names, beside
from p2pcap.sources.spec import Images
from tests.sources.twin import TwinFiles

FOLDER = Images(source=".")


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def lists(folder: Path, images: Images = FOLDER, size: int = 64) -> list[ItemList]:
    async def collect() -> list[ItemList]:
        async with aclosing(plan(TwinFiles(folder), images, folder, size)) as planned:
            return [found async for found in planned]

    return trio.run(collect)


def items(folder: Path, images: Images = FOLDER) -> list[Item]:
    return [item for found in lists(folder, images) for item in found.items]


def keys(folder: Path, images: Images = FOLDER) -> list[str]:
    return [item.key for item in items(folder, images)]


def test_an_image_is_named_by_path_and_known_by_hash(tmp_path: Path) -> None:
    write(tmp_path, "b/c/two.JPG", "a.png")
    assert items(tmp_path) == [
        Item("a.png", hashlib.sha256(b"a.png").digest(), 5),
        Item("b/c/two.JPG", hashlib.sha256(b"b/c/two.JPG").digest(), 11),
    ]


NAMES = ["b.png", "a/z.png", "a.png", "a/b.png", "B.png", "é.png", "a-b.png", "10.png", "9.png", "a b.png", "a/c/x.png"]
STRANGE = ["quo\"te's.png", "two\nlines.png", "🦊.png", "ü" * 120 + ".png", "x" * 251 + ".png", " .png", "\x7f.png"]


def test_the_order_is_that_of_the_keys_whatever_the_disk_says(tmp_path: Path) -> None:
    write(tmp_path / "one", *NAMES, *STRANGE)
    write(tmp_path / "two", *reversed(STRANGE), *reversed(NAMES))
    assert items(tmp_path / "one") == items(tmp_path / "two")
    assert keys(tmp_path / "one") == sorted(NAMES + STRANGE)


@given(st.sets(st.lists(st.text("a.-/ é", min_size=1, max_size=3), min_size=1, max_size=3).map("x/".join), max_size=40))
def test_any_tree_comes_in_the_order_of_its_keys(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    folder = tmp_path_factory.mktemp("tree")
    wanted = {Path(f"{name}.png").as_posix() for name in names}
    wanted = {name for name in wanted if not any(part.startswith(".") for part in name.lstrip("/").split("/"))}
    wanted = {name.lstrip("/") for name in wanted}
    write(folder, *wanted)
    assert keys(folder) == sorted(wanted)


@pytest.mark.parametrize("held", [1, 3, 7, 24, 25])
def test_a_folder_of_more_names_than_are_sorted_at_a_time(
    tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "NAMES", held)
    names = [f"{number * 7 % 24:02}/{number}.png" if number % 3 else f"{number:02}.png" for number in range(24)]
    write(tmp_path, *names)
    assert keys(tmp_path) == sorted(names)


@pytest.mark.parametrize(("count", "size", "sizes"), [(200, 64, [64, 64, 64, 8]), (128, 64, [64, 64]), (3, 64, [3])])
def test_lists_are_full_but_for_the_last(tmp_path: Path, count: int, size: int, sizes: list[int]) -> None:
    write(tmp_path, *(f"{number:04}.png" for number in range(count)))
    assert [len(found.items) for found in lists(tmp_path, size=size)] == sizes


def test_a_list_of_more_than_one_portion_is_full(tmp_path: Path) -> None:
    names = [f"{number:04}.png" for number in range(folders.PORTION + 100)]
    write(tmp_path, *names)
    (found,) = lists(tmp_path, size=1_024)
    assert [(item.key, item.hash) for item in found.items] == [
        (name, hashlib.sha256(name.encode()).digest()) for name in names
    ]


def test_every_kind_of_image_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, *(f"image{suffix}" for suffix in SUFFIXES))
    write(tmp_path, "notes.txt", "image", "image.png.part", "script.svg", "page.html", "archive.zip")
    assert {Path(key).suffix for key in keys(tmp_path)} == SUFFIXES


def test_an_empty_file_is_an_image_to_be_judged_later(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (item,) = items(tmp_path)
    assert (item.length, item.hash) == (0, hashlib.sha256(b"").digest())


def test_hidden_things_stay_hidden(tmp_path: Path) -> None:
    write(tmp_path, ".secret.png", ".git/a.png", "deep/.cache/b.png", "deep/shown.png")
    assert keys(tmp_path) == ["deep/shown.png"]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "outside", "private.png", "folder/more.png")
    write(tmp_path / "images", "own.png")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "outside" / "private.png")
    (tmp_path / "images" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "images" / "folder").symlink_to(tmp_path / "outside" / "folder")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    assert keys(tmp_path / "images") == ["own.png"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "images", "own.png")
    (tmp_path / "link").symlink_to(tmp_path / "images")
    assert keys(tmp_path / "link") == ["own.png"]


def test_what_is_no_file_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert keys(tmp_path) == []


@pytest.mark.parametrize("name", ["missing", "file.png"])
def test_no_folder_is_one_clear_error(tmp_path: Path, name: str) -> None:
    write(tmp_path, "file.png")
    with pytest.raises(ConfigError, match="There is no folder"):
        items(tmp_path / name)


def test_a_closed_folder_is_one_clear_error(closed: Path) -> None:
    for folder in (closed, closed / "deeper"):
        with pytest.raises(ConfigError, match="Permission denied"):
            items(folder)


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_closed_folder_deeper_down_is_not_left_out_silently(open_to_all: Path, mode: int) -> None:
    write(open_to_all, "seen.png", "closed/unseen.png")
    (open_to_all / "closed").chmod(mode)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            items(open_to_all)
    finally:
        (open_to_all / "closed").chmod(0o755)


def test_an_image_closed_to_the_user_is_one_clear_error(open_to_all: Path) -> None:
    write(open_to_all, "closed.png")
    (open_to_all / "closed.png").chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        items(open_to_all)


def test_an_image_beyond_the_limit_is_one_clear_error(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_IMAGE + 1)
    with pytest.raises(ConfigError, match=f"an image may have {MAX_IMAGE}"):
        items(tmp_path)


def test_a_name_that_is_not_unicode_is_one_clear_error(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"file name '.*not Unicode") as caught:
        items(tmp_path)
    str(caught.value).encode()


def test_a_name_beyond_the_limit_is_one_clear_error(tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 6)
    write(tmp_path, f"{deep}/image.png")
    with pytest.raises(ConfigError, match="1024"):
        items(tmp_path)


def test_the_first_fault_in_the_order_of_keys_is_told(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number:03}.png" for number in range(200)))
    for number in (33, 150, 180):
        with (tmp_path / f"{number:03}.png").open("wb") as file:
            file.truncate(MAX_IMAGE + 1)
    with pytest.raises(ConfigError, match=r"033\.png"):
        items(tmp_path)


# links that the maintainer wants followed

FOLLOWED = Images(source=".", follow_symlinks=True)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside", "one.png", "folder/two.png", "folder/.hidden.png")
    write(tmp_path / "images", "own.png", "inside/three.png")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "outside" / "one.png")
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "outside" / "folder")
    (tmp_path / "images" / "again").symlink_to("inside")
    (tmp_path / "images" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    assert keys(tmp_path / "images", FOLLOWED) == [
        "again/three.png",
        "inside/three.png",
        "link.png",
        "linked/two.png",
        "own.png",
    ]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write(tmp_path, "a/one.png", "b/two.png")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    (tmp_path / "a" / "me").symlink_to("me")
    assert keys(tmp_path, FOLLOWED) == ["a/b/two.png", "a/one.png", "b/a/one.png", "b/two.png"]


# what lies beside an image


def fields_of(folder: Path, *names: str) -> list[dict[str, str]]:
    return [item.metadata for item in items(folder, Images(source=".", fields=names))]


def test_files_beside_an_image_say_something_of_it(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.x.png", "c.png", "d.png")
    (tmp_path / "a.txt").write_text("\ufeffA red circle.\n", encoding="utf-8")
    (tmp_path / "b.x.txt").write_text("From text.")
    (tmp_path / "b.x.caption").write_text("From caption.")
    (tmp_path / "b.x.json").write_text('{"caption": "From JSON.", "tags": ["x", {"y": 1}], "width": 640, "none": null}')
    (tmp_path / "c.caption").write_text(" \n")
    (tmp_path / "c.json").write_text('{"caption": "From JSON.", "tags": "  ", "width": "🦊", "more": 1}')
    assert fields_of(tmp_path, "caption", "txt", "tags", "width", "none") == [
        {"caption": "A red circle.", "txt": "A red circle."},
        {"caption": "From caption.", "txt": "From text.", "tags": '["x",{"y":1}]', "width": "640"},
        {"caption": "From JSON.", "width": "🦊"},
        {},
    ]
    assert fields_of(tmp_path) == [{}] * 4
    assert items(tmp_path)[0].fields is not items(tmp_path, Images(source=".", fields=("txt",)))[0].fields


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "a.txt").write_text("é" * (MAX_FIELD + 10), encoding="utf-8")
    assert fields_of(tmp_path, "txt") == [{"txt": "é" * MAX_FIELD}]


def test_very_long_texts_end_a_list_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_TEXT", 1_000)
    monkeypatch.setattr(folders, "PORTION", 10)
    for number in range(35):
        write(tmp_path, f"{number:02}.png")
        (tmp_path / f"{number:02}.txt").write_text("x" * 60)
    found = lists(tmp_path, Images(source=".", fields=("txt",)))
    assert [len(one.items) for one in found] == [20, 15]
    assert [item.key for one in found for item in one.items] == [f"{number:02}.png" for number in range(35)]


BAD = {
    "no JSON": (".json", b"{"),
    "a list": (".json", b"[1, 2]"),
    "half a character": (".json", b'{"txt": "\\ud800"}'),
    "a thousand lists in one another": (".json", b"[" * 100_000),
    "no number": (".json", b'{"txt": 1e999}'),
    "bytes": (".txt", b"\xff\xfe\x00"),
    "too much text": (".txt", b"x" * (MAX_SIDECAR + 1)),
    "too much JSON": (".json", b'"' + b"x" * MAX_SIDECAR + b'"'),
}


def test_names_that_are_as_long_as_may_be_have_no_files_beside_them(tmp_path: Path) -> None:
    """With another suffix they would be longer than any file's name."""
    write(tmp_path, "x" * 251 + ".png")
    assert fields_of(tmp_path, "caption", "title") == [{}]
    longest = Path("/" + "d/" * 2_044 + "x.png")
    assert beside(longest, ["caption", "title"], False, Names()) == {}
    assert beside(longest, ["caption", "title"], True, Names()) == {}


@pytest.mark.parametrize(("suffix", "data"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_beside_an_image_is_one_clear_error(tmp_path: Path, suffix: str, data: bytes) -> None:
    write(tmp_path, "a.png")
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(ConfigError, match=rf"a\{suffix} "):
        items(tmp_path, Images(source=".", fields=("txt", "title")))


def test_only_files_of_the_folder_itself_say_something_of_an_image(tmp_path: Path) -> None:
    write(tmp_path / "images", "a.png", "b.png", "c.png")
    (tmp_path / "secret").write_text("private")
    (tmp_path / "images" / "a.txt").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "images" / "b.txt")
    (tmp_path / "images" / "c.txt").mkdir()
    assert fields_of(tmp_path / "images", "txt") == [{}] * 3
    followed = items(tmp_path / "images", Images(source=".", fields=("txt",), follow_symlinks=True))
    assert [item.metadata for item in followed] == [{"txt": "private"}, {}, {}]


# memory

MANY = """
import resource, sys, trio
from pathlib import Path
from contextlib import aclosing
from p2pcap.sources import folder
from p2pcap.sources.spec import Images
from tests.sources.twin import TwinFiles

folder.NAMES = 20_000

async def count(path):
    found = 0
    async with aclosing(folder.plan(TwinFiles(path), Images(source="."), path, 1_024)) as planned:
        async for one in planned:
            found += len(one.items)
    return found

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024

trio.run(count, Path(sys.argv[2]))
before = peak()
print(trio.run(count, Path(sys.argv[1])), peak() - before)
"""


def test_planning_many_images_takes_little_memory(tmp_path: Path) -> None:
    """Their names alone would take 150 bytes each, and their items 400."""
    write(tmp_path / "few", *(f"{number}.png" for number in range(2_000)))
    for number in range(4):
        (tmp_path / "many" / f"{number}").mkdir(parents=True)
        for image in range(50_000):
            os.mknod(tmp_path / "many" / f"{number}" / f"{image:05}-{'x' * 60}.png")
    command = [sys.executable, "-c", MANY, str(tmp_path / "many"), str(tmp_path / "few")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    count, grown = map(int, done.stdout.split())
    assert count == 200_000
    assert grown < 40 * 2**20
