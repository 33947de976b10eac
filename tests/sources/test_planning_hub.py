"""Planning from the Hub, with all of p2pcap and huggingface_hub unmodified against the fake one: bytes are counted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.items import MAX_IMAGE, ItemList
from p2pcap.sources.spec import Images
from tests.sources.fake_hub import FakeHub
from tests.sources.made import STRANGE, digest, image, items, keys, lay, parquet, planned, url_table


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub({"o/n": {}}, page=3) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake


# --- the Hub


def on_hub(hub: FakeHub, files: Mapping[str, bytes], images: Images, base: Path, size: int = 64) -> list[ItemList]:
    hub.commit("o/n", files)
    return planned(base, images, size)


def test_planning_parquet_of_the_hub_moves_footers_only(hub: FakeHub, tmp_path: Path) -> None:
    big = parquet([f"{n}" for n in range(3_000)], group=500)
    small = parquet(["x", "y"])
    files = {"data/train-00000-of-00002.parquet": big, "data/train-00001-of-00002.parquet": small}
    lists = on_hub(hub, files, Images(source="hf://datasets/o/n", key_column="key"), tmp_path, 1_024)
    assert keys(lists) == [*(f"{n}" for n in range(3_000)), "x", "y"]
    assert {found.parquet.file for found in lists if found.parquet} == {
        f"hf://datasets/o/n@{hub.revision('o/n')}/{path}" for path in files
    }
    assert not any(item.hash for item in items(lists))
    footer = 64 * 1024 + 40_000  # the tail that is read at once, and the column of keys
    assert hub.sent < 0.1 * len(big) + footer


def test_a_split_and_a_configuration_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    listed = "- config_name: a\n  default: true\n  data_files:\n  - split: train\n    path: a/*\n"
    listed += "- config_name: b\n  data_files: b/*\n"
    card = f"---\nconfigs:\n{listed}---\n".encode()
    files = {"README.md": card, "a/1.parquet": parquet(["a1"]), "b/1.parquet": parquet(["b1"])}
    files |= {"train/x.txt": b"x", "preview.jpg": b"x"}
    hub.commit("o/n", files)
    assert keys(planned(tmp_path, Images(source="hf://datasets/o/n"))) == ["a1"]
    assert keys(planned(tmp_path, Images(source="hf://datasets/o/n", config="b"))) == ["b1"]
    assert keys(planned(tmp_path, Images(source="hf://datasets/o/n", config="a", split="train"))) == ["a1"]
    assert keys(planned(tmp_path, Images(source="hf://datasets/o/n/b"))) == ["b1"]
    assert keys(planned(tmp_path, Images(source="hf://datasets/o/n/**/1.parquet"))) == ["a1", "b1"]
    with pytest.raises(ConfigError, match="test"):
        planned(tmp_path, Images(source="hf://datasets/o/n", split="test"))


def test_loose_images_of_the_hub_with_a_table_that_describes_them(hub: FakeHub, tmp_path: Path) -> None:
    names = [f"train/{name}" for name in STRANGE] + ["test/same.jpg", "test/last.PNG"]
    said: list[dict[str, object]] = [
        {"file_name": name, "text": f"about {name}", "tags": ["a", "ü"]} for name in STRANGE[:3]
    ]
    said += [
        {"file_name": "../../outside.jpg", "text": "x"},
        {"file_name": "nested/../😀.jpg", "text": "smile", "tags": None},
    ]
    table = "\ufeff" + "\n".join(json.dumps(row) for row in said) + "\n\n"
    files = {name: image(name) for name in names} | {"train/metadata.jsonl": table.encode()}
    files["test/metadata.csv"] = b'file_name,text,tags\r\nsame.jpg,"two\nlines",\r\nlast.PNG, ,x\r\n'
    images = Images(source="hf://datasets/o/n", fields=("text", "tags"))
    lists = on_hub(hub, files, images, tmp_path, 3)
    found = {item.key: item for item in items(lists)}
    assert keys(lists) == sorted(names)
    assert [len(one.items) for one in lists] == [3, 3, 2]
    assert {key: item.hash for key, item in found.items()} == {name: digest(image(name)) for name in names}
    assert {item.url for item in found.values()} == {
        f"hf://datasets/o/n@{hub.revision('o/n')}/{name}" for name in names
    }
    assert found["train/new\nline.webp"].metadata == {"text": "about new\nline.webp", "tags": '["a","ü"]'}
    assert found["train/😀.jpg"].metadata == {"text": "smile"}
    assert found["test/same.jpg"].metadata == {"text": "two\nlines"}
    assert found["test/last.PNG"].metadata == {"tags": "x"}
    assert found["train/same.jpg"].fields is UNSET
    assert hub.sent == len(table.encode()) + len(files["test/metadata.csv"]), "no image was read"


def test_a_table_beside_image_files_is_not_taken_for_the_data(hub: FakeHub, tmp_path: Path) -> None:
    files = {"a/1.jpg": image("1"), "a/metadata.parquet": parquet(["x"]), "more.csv": b"url\nhttps://x.org/1"}
    assert keys(on_hub(hub, files, Images(source="hf://datasets/o/n"), tmp_path)) == ["a/1.jpg"]


def test_files_beside_images_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    files = {f"{n}.jpg": image(str(n)) for n in range(12)} | {f"{n}.txt": f"caption {n}".encode() for n in range(10)}
    files["11.json"] = b'{"artist": "A", "caption": "from json"}'
    images = Images(source="hf://datasets/o/n", fields=("artist",), caption_field="caption")
    found = {item.key: item.metadata for item in items(on_hub(hub, files, images, tmp_path, 5))}
    assert found == {f"{n}.jpg": {"caption": f"caption {n}"} for n in range(10)} | {
        "10.jpg": {},
        "11.jpg": {"artist": "A", "caption": "from json"},
    }


def test_a_loose_image_that_is_too_large_is_planned_to_become_an_error(hub: FakeHub, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(MAX_IMAGE + 1)
    hub.commit("o/n", {"huge.jpg": huge, "small.jpg": b"x"})
    assert [(item.key, item.length) for item in items(planned(tmp_path, Images(source="hf://datasets/o/n")))] == [
        ("huge.jpg", 0),
        ("small.jpg", 1),
    ]


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("metadata.jsonl", b"[1]\n"),
        ("metadata.jsonl", b'{"text": "no name"}\n'),
        ("metadata.jsonl", b'{"file_name": "' + b"x" * 2_000_000),
        ("metadata.jsonl", b"\xff\xfe\x00"),
        ("metadata.csv", b"name,text\n1.jpg,x\n"),
        ("metadata.csv", b'file_name,text\n1.jpg,"' + b"x" * 200_000 + b'"\n'),
        ("metadata.csv", b"file_name,text\n1.jpg" + b',"\n"' * 600_000),
    ],
)
def test_a_table_that_describes_nothing_is_named(hub: FakeHub, tmp_path: Path, path: str, table: bytes) -> None:
    with pytest.raises(ConfigError, match=path):
        on_hub(hub, {"1.jpg": b"x", path: table}, Images(source="hf://datasets/o/n", fields=("text",)), tmp_path)


def test_hashes_of_images_at_addresses(hub: FakeHub, tmp_path: Path) -> None:
    files = {f"pictures/{n}.jpg": image(str(n)) for n in range(9)}
    hub.commit("o/n", files)
    revision = hub.revision("o/n")
    addresses = [f"{hub.url}/datasets/o/n/resolve/{revision}/pictures/{n}.jpg" for n in range(10)]
    lay(tmp_path, {"t.jsonl": "\n".join(json.dumps({"url": url}) for url in addresses).encode()})
    found = items(planned(tmp_path, Images(source="t.jsonl", hashes=True, robots=False)))
    assert [item.hash for item in found] == [digest(image(str(n))) for n in range(9)] + [b""]
    assert [item.length for item in found] == [600] * 9 + [0]


# --- memory

SHARDS, ROWS = 200, 2_500
LIMIT = 300 * 1024 * 1024
TAIL = 64 * 1024
"""What is read of a Parquet file's end at once."""


@pytest.mark.slow
def test_planning_many_rows_takes_the_memory_of_a_few_lists(tmp_path: Path) -> None:
    shards = {
        f"data/train-{n:05d}-of-{SHARDS:05d}.parquet": url_table(
            [f"https://images.example.com/{n}/{row}.jpg" for row in range(ROWS)],
            {"key": [f"{n}-{row}" for row in range(ROWS)], "text": [f"caption of image {row}" for row in range(ROWS)]},
        )
        for n in range(SHARDS)
    }
    images = Images(source="hf://datasets/o/n", fields=("text",))
    with FakeHub({"o/n": shards}) as hub:
        said = in_child(images, tmp_path, hub.environment)
        assert said["images"] == SHARDS * ROWS
        assert said["chunks"] == -(-SHARDS * ROWS // 1_024), "neighbouring tables fill lists together"
        assert said["grown"] + said["reader"] < LIMIT
        assert hub.sent < sum(map(len, shards.values())) + SHARDS * TAIL


def in_child(images: Images, base: Path, environment: Mapping[str, str]) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.sources.plan_child", msgspec.json.encode(images).decode(), str(base)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True, timeout=240)
    found: dict[str, int] = json.loads(done.stdout)
    return found
