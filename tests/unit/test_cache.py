"""The image cache: only what hashes to its name comes out, and the disk is not filled beyond the cap."""

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.errors import StoreError
from p2pcap.sources.cache import ImageCache


def image(number: int, size: int = 100) -> tuple[bytes, bytes]:
    data = b"%d" % number * size
    return hashlib.sha256(data[:size]).digest(), data[:size]


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def path_of(folder: Path, hash_: bytes) -> Path:
    return folder / hash_.hex()[:2] / hash_.hex()


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "images")
    pairs = [image(number) for number in range(5)]
    cache.put_many(pairs)
    again = ImageCache(tmp_path / "images")
    for found in (cache, again):
        assert [found.get(hash_) for hash_, _ in pairs] == [data for _, data in pairs]
        assert (len(found), found.bytes) == (5, 500)
        assert all(hash_ in found for hash_, _ in pairs)
    assert cache.get(bytes(32)) is None
    assert bytes(32) not in cache


def test_putting_twice_counts_once(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    cache.put_many([image(1), image(1)])
    cache.put_many([image(1)])
    assert (len(cache), cache.bytes, on_disk(tmp_path)) == (1, 100, 100)


@pytest.mark.parametrize("damage", [b"", b"x", b"1" * 99, b"1" * 101, b"2" * 100])
def test_a_damaged_image_is_dropped(tmp_path: Path, damage: bytes) -> None:
    cache = ImageCache(tmp_path)
    hash_, data = image(1)
    cache.put_many([(hash_, data), image(2)])
    path_of(tmp_path, hash_).write_bytes(damage)
    assert cache.get(hash_) is None
    assert hash_ not in cache
    assert not path_of(tmp_path, hash_).exists()
    assert cache.bytes == 100
    cache.put_many([(hash_, data)])
    assert cache.get(hash_) == data


def test_an_image_somebody_deleted_is_forgotten(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    cache.put_many([image(1)])
    path_of(tmp_path, image(1)[0]).unlink()
    assert cache.get(image(1)[0]) is None
    assert (len(cache), cache.bytes) == (0, 0)


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, cap=300)
    pairs = [image(number) for number in range(5)]
    cache.put_many(pairs[:3])
    cache.get(pairs[0][0])
    cache.put_many(pairs[3:4])
    assert [hash_ in cache for hash_, _ in pairs] == [True, False, True, True, False]
    cache.put_many(pairs[4:])
    assert [hash_ in cache for hash_, _ in pairs] == [True, False, False, True, True]
    assert cache.room == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=12), st.integers(0, 1_000))
def test_the_cap_holds_after_every_put(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[int, int]], cap: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = ImageCache(folder, cap)
    for number, size in puts:
        cache.put_many([image(number, size)])
        assert cache.bytes <= cap
        assert on_disk(folder) == cache.bytes
        assert cache.room == cap - cache.bytes
    assert len(list(folder.rglob("*"))) == len(list(folder.glob("*"))) + len(cache)


def test_a_smaller_cap_is_kept_from_the_next_put_on(tmp_path: Path) -> None:
    ImageCache(tmp_path).put_many([image(number) for number in range(5)])
    cache = ImageCache(tmp_path, cap=250)
    cache.put_many([])
    assert (len(cache), on_disk(tmp_path)) == (2, 200)


def test_what_a_crash_left_half_written_is_cleared(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    cache.put_many([image(1)])
    kept = path_of(tmp_path, image(1)[0])
    kept.with_name(f".{kept.name}.140").write_bytes(b"half")
    again = ImageCache(tmp_path)
    assert (len(again), again.bytes, on_disk(tmp_path)) == (1, 100, 100)


def test_what_is_none_of_its_own_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    ImageCache(tmp_path).put_many([image(1)])
    (tmp_path / "zz").mkdir()
    (tmp_path / "zz" / ("z" * 64)).write_bytes(b"not hexadecimal")
    (tmp_path / "ab" / ("AB" * 32)).mkdir(parents=True)
    (tmp_path / "ab" / "folder").mkdir()
    (tmp_path / "ab" / ("ab" * 32)).mkdir()
    (tmp_path / "README").write_bytes(b"not an image")
    cache = ImageCache(tmp_path)
    assert (len(cache), cache.bytes) == (1, 100)
    assert (tmp_path / "README").exists()


def test_no_folder_yet_is_an_empty_cache(tmp_path: Path) -> None:
    assert len(ImageCache(tmp_path / "none")) == 0
    assert not (tmp_path / "none").exists()


def test_a_disk_that_refuses_is_one_clear_error(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    cache = ImageCache(tmp_path / "images")
    with full_disk(), pytest.raises(StoreError, match="cannot be written"):
        cache.put_many([image(1)])
    assert (len(cache), cache.bytes) == (0, 0)
    cache.put_many([image(1)])
    assert cache.get(image(1)[0]) == image(1)[1]
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        ImageCache(tmp_path / "file").put_many([image(1)])


@pytest.mark.parametrize("cap", [0, 1_000])
def test_many_threads_may_use_it(tmp_path: Path, cap: int) -> None:
    """They put, get and crowd each other out; nobody sees wrong bytes or an error, and the cap holds at the end."""
    cache = ImageCache(tmp_path, cap)

    def use(first: int) -> None:
        for step in range(300):
            hash_, data = image((first * 7 + step) % 30)
            cache.put_many([(hash_, data)])
            assert cache.get(hash_) in (data, None)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(use, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert cache.bytes <= cap
    assert ImageCache(tmp_path, cap).bytes <= cap
