"""A folder of images: what is published of it, and what never is."""

import hashlib
import os
from pathlib import Path

import pytest

from p2pcap.errors import ConfigError
from p2pcap.project.records import MAX_IMAGE, Item
from p2pcap.sources.folder import SUFFIXES, FolderImages, scan


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def keys(folder: Path) -> list[str]:
    return [item.key for item, _ in scan(folder)]


def test_an_image_is_named_by_path_and_known_by_hash(tmp_path: Path) -> None:
    write(tmp_path, "b/c/two.JPG", "a.png")
    assert list(scan(tmp_path)) == [
        (Item("a.png", hashlib.sha256(b"a.png").digest(), 5), tmp_path / "a.png"),
        (Item("b/c/two.JPG", hashlib.sha256(b"b/c/two.JPG").digest(), 11), tmp_path / "b" / "c" / "two.JPG"),
    ]


def test_the_order_is_that_of_the_keys_whatever_the_disk_says(tmp_path: Path) -> None:
    names = ["b.png", "a/z.png", "a.png", "a/b.png", "B.png", "é.png", "a-b.png", "10.png", "9.png"]
    write(tmp_path / "one", *names)
    write(tmp_path / "two", *reversed(names))
    assert keys(tmp_path / "one") == keys(tmp_path / "two") == sorted(names)


def test_every_kind_of_image_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, *(f"image{suffix}" for suffix in SUFFIXES))
    write(tmp_path, "notes.txt", "image", "image.png.part", "script.svg", "page.html", "archive.zip")
    assert {Path(key).suffix for key in keys(tmp_path)} == SUFFIXES


def test_an_empty_file_is_an_image_to_be_judged_later(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    ((item, _),) = scan(tmp_path)
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
        list(scan(tmp_path / name))


def test_a_closed_folder_is_one_clear_error(closed: Path) -> None:
    for folder in (closed, closed / "deeper"):
        with pytest.raises(ConfigError, match="Permission denied"):
            list(scan(folder))


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_closed_folder_deeper_down_is_not_left_out_silently(open_to_all: Path, mode: int) -> None:
    write(open_to_all, "seen.png", "closed/unseen.png")
    (open_to_all / "closed").chmod(mode)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            list(scan(open_to_all))
    finally:
        (open_to_all / "closed").chmod(0o755)


def test_an_image_closed_to_the_user_is_one_clear_error(open_to_all: Path) -> None:
    write(open_to_all, "closed.png")
    (open_to_all / "closed.png").chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        list(scan(open_to_all))


def test_an_image_beyond_the_limit_is_one_clear_error(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_IMAGE + 1)
    with pytest.raises(ConfigError, match=f"an image may have {MAX_IMAGE}"):
        list(scan(tmp_path))


def test_a_name_that_is_not_unicode_is_one_clear_error(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(ConfigError, match="not Unicode") as caught:
        list(scan(tmp_path))
    str(caught.value).encode()


def test_a_name_beyond_the_limit_is_one_clear_error(tmp_path: Path) -> None:
    deep = "/".join(["d" * 200] * 6)
    write(tmp_path, f"{deep}/image.png")
    with pytest.raises(ConfigError, match="1024"):
        list(scan(tmp_path))


def test_images_are_read_by_hash(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    paths = {item.hash: path for item, path in scan(tmp_path)}
    images = FolderImages(paths)
    hash_ = hashlib.sha256(b"a.png").digest()
    assert len(images) == 2
    assert hash_ in images
    assert images.read(hash_) == b"a.png"
    assert bytes(32) not in images
    assert images.read(bytes(32)) is None


def test_an_image_that_changed_is_not_served(tmp_path: Path) -> None:
    write(tmp_path, "changed.png", "gone.png", "larger.png", "folder.png")
    paths = {item.hash: path for item, path in scan(tmp_path)}
    (tmp_path / "changed.png").write_bytes(b"another")
    (tmp_path / "gone.png").unlink()
    with (tmp_path / "larger.png").open("wb") as file:
        file.truncate(MAX_IMAGE + 1)
    (tmp_path / "folder.png").unlink()
    (tmp_path / "folder.png").mkdir()
    images = FolderImages(paths)
    assert [images.read(hash_) for hash_ in paths] == [None] * 4
