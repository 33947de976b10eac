"""Each format read back by the program it is for. Readers run in a process of their own: they are big, and warn."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from p2pcap.errors import ConfigError
from p2pcap.export.asking import Asked
from p2pcap.export.counts import Counts
from p2pcap.export.csv import write_csv
from p2pcap.export.imagefolder import write_imagefolder
from p2pcap.export.jsonl import write_jsonl
from p2pcap.export.kohya import write_kohya
from p2pcap.export.lance import write_lance
from p2pcap.export.parquet import write_parquet
from p2pcap.export.sidecars import write_texts
from p2pcap.export.source import Source
from p2pcap.export.webdataset import write_webdataset
from p2pcap.export.webshart import write_webshart
from tests.unit.export_ledger import CAPTIONS, IN_TAR, KEYS, captioned, kept, source_of

ALL = Asked()
QUIET: dict[str, Any] = {"force": False, "progress": lambda rows: None}
TABLE: dict[str, Any] = {"shape": "rows", "columns": (), **QUIET}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with source_of(kept(tmp_path_factory.mktemp("node"), captioned())) as source:
        yield source


def read(script: str, *arguments: Path, cache: Path) -> Any:
    """What a reader, a script that prints JSON, finds."""
    environment = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(cache)}
    command = [sys.executable, "-W", "ignore", "-c", f"import json, sys\n{script}", *map(str, arguments)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1])


DATASETS = """
from datasets import disable_progress_bars, load_dataset
disable_progress_bars()
found = {}
for kind, path in zip(("json", "parquet", "csv"), sys.argv[1:]):
    options = {"keep_default_na": False} if kind == "csv" else {}
    rows = load_dataset(kind, data_files=path, split="train", **options)
    found[kind] = [[row["key"], row["caption"]] for row in rows]
    if kind == "parquet":
        found["answers"], found["features"] = rows[2]["answers"], str(rows.features["answers"])
print(json.dumps(found))
"""


def test_datasets_reads_the_tables(source: Source, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("out.jsonl", "out.parquet", "out.csv")]
    write_jsonl(source, ALL, paths[0], **TABLE)
    write_parquet(source, ALL, paths[1], **TABLE)
    write_csv(source, ALL, paths[2], **TABLE)
    found = read(DATASETS, *paths, cache=tmp_path)
    expected = [
        *map(list, zip(KEYS, CAPTIONS, strict=True)),
        *([key, f"in a tar {i}"] for i, key in enumerate(IN_TAR[:7])),
    ]
    assert found["json"] == expected
    assert found["parquet"] == expected
    assert found["csv"] == expected
    assert found["answers"][1] == {"prompt": "objects", "text": "thing 2", "tokens": 1, "finish": "length"}


IMAGEFOLDER = """
from datasets import disable_progress_bars, load_dataset
disable_progress_bars()
rows = load_dataset("imagefolder", data_dir=sys.argv[1], split="train")
print(json.dumps([[row["image"].size, row["text"]] for row in rows]))
"""


def picture(width: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, 8)).save(data, "PNG")
    return data.getvalue()


def pictures(folder: Path, keys: Sequence[str]) -> None:
    """An image for each key, as wide as it is far in KEYS."""
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(10 + KEYS.index(key)))


THERE = (
    "plain.jpg",
    "a/b c.jpg",
    "commas, and \"quotes' .png",
    "😀/象.webp",
    "same.jpg",
    "same.png",
    "=cmd('calc').jpg",
)


def test_imagefolder_finds_text_beside_images(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    pictures(folder, THERE)
    counts = write_imagefolder(source, ALL, folder, beside=True, **QUIET)
    found = read(IMAGEFOLDER, folder, cache=tmp_path)
    assert counts.images == len(THERE)
    assert {size[0]: text for size, text in found} == {
        10 + KEYS.index(key): CAPTIONS[KEYS.index(key)].replace("\n", " ").replace("\t", " ").replace("\r", "").strip()
        for key in THERE
    }


WEBDATASET = """
import webdataset
from pathlib import Path
shards = sorted(map(str, Path(sys.argv[1]).glob("*.tar")))
samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
print(json.dumps([
    [one["__key__"], one["txt"].decode(), json.loads(one["json"])["key"], sorted(n for n in one if n[0] != "_")]
    for one in samples
]))
"""


def test_webdataset_reads_the_tars(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pcap.export.webdataset.SHARD", 10)
    counts = write_webdataset(source, ALL, tmp_path / "out", pictures=None, **QUIET)
    found = read(WEBDATASET, tmp_path / "out", cache=tmp_path)
    assert counts.images == len(found) == 31
    assert len({key for key, *_ in found}) == 31
    assert [found[0][0], found[0][1], found[0][2]] == ["plain", "a red circle\n", "plain.jpg"]
    assert [found[KEYS.index("dot.ted.jpg")][0], found[-1][0]] == ["dot%2Eted", "data/part-0001/sample/006"]
    assert len(list((tmp_path / "out").iterdir())) == 4
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    write_webdataset(source, ALL, tmp_path / "out", pictures=None, **QUIET)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(ConfigError, match="--force"):
        write_webdataset(source, Asked(limit=3), tmp_path / "out", pictures=None, **QUIET)


def test_webdataset_takes_the_images_along(source: Source, tmp_path: Path) -> None:
    pictures(tmp_path / "images", THERE)
    counts = write_webdataset(source, ALL, tmp_path / "out", pictures=tmp_path / "images", **QUIET)
    found = read(WEBDATASET, tmp_path / "out", cache=tmp_path)
    assert counts.images == len(THERE)
    assert counts.skipped["not in the folder"] == 31 - len(THERE)
    assert {path for _, _, path, _ in found} == set(THERE)
    assert found[0][3] == ["jpg", "json", "txt"]


WEBSHART = """
import webshart
dataset = webshart.discover_dataset(source=sys.argv[1], metadata=sys.argv[1])
loader = webshart.TarDataLoader(dataset, load_file_data=False)
entries = [loader.load_sample(0, index) for index in range(len(dataset.list_samples_in_shard(0)))]
print(json.dumps([[entry.path, entry.captions] for entry in entries]))
"""


def sharded(folder: Path) -> dict[str, Any]:
    """A tar of nine images with its index; the members' contents are where the ledger says."""
    folder.mkdir()
    files = {}
    with tarfile.open(folder / "part-0001.tar", "w") as tar:
        for place in range(9):
            member = tarfile.TarInfo(f"sample/{place:03}.jpg")
            member.size = 50
            tar.addfile(member, io.BytesIO(bytes(50)))
            files[member.name] = {"offset": 512 + 1024 * place, "length": 50, "width": 8 + place}
    index: dict[str, Any] = {"shard_id": "part-0001", "filesize": 20_480, "files": files, "big": 2**70}
    (folder / "part-0001.json").write_text(json.dumps(index))
    return index


def test_webshart_reads_the_captions_in_its_index(source: Source, tmp_path: Path) -> None:
    before = sharded(tmp_path / "shards")
    counts = write_webshart(source, ALL, tmp_path / "shards", **QUIET)
    assert counts == Counts(7, 7, 0, {"errors": 1, "without an index in the folder": 24})
    found = dict(read(WEBSHART, tmp_path / "shards", cache=tmp_path))
    assert found["sample/003.jpg"] == ["in a tar 3"]
    assert found["sample/008.jpg"] is None
    index = json.loads((tmp_path / "shards" / "part-0001.json").read_text())
    for entry in index["files"].values():
        entry.pop("captions", None)
    assert index == before


def test_webshart_replaces_nobodys_captions_unasked(source: Source, tmp_path: Path) -> None:
    index = sharded(tmp_path / "shards")
    index["files"]["sample/002.jpg"]["caption"] = "by hand"
    path = tmp_path / "shards" / "part-0001.json"
    path.write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="--force"):
        write_webshart(source, ALL, tmp_path / "shards", **QUIET)
    assert json.loads(path.read_text()) == index
    write_webshart(source, ALL, tmp_path / "shards", **(QUIET | {"force": True}))
    entry = json.loads(path.read_text())["files"]["sample/002.jpg"]
    assert (entry["captions"], "caption" in entry) == (["in a tar 2"], False)
    write_webshart(source, ALL, tmp_path / "shards", **QUIET)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 1}', "[" * 100_000, '{"files": {"a": 1}'])
def test_an_index_that_is_none_is_named(text: str, source: Source, tmp_path: Path) -> None:
    sharded(tmp_path / "shards")
    (tmp_path / "shards" / "part-0001.json").write_text(text)
    with pytest.raises(ConfigError, match=r"part-0001\.json"):
        write_webshart(source, ALL, tmp_path / "shards", **QUIET)


LANCE = """
import lance
rows = lance.dataset(sys.argv[1]).to_table(columns=["key", "caption", "answers"]).to_pylist()
print(json.dumps([[row["key"], row["caption"], row["answers"][1]["text"]] for row in rows]))
"""


def test_lance_reads_its_dataset(source: Source, tmp_path: Path) -> None:
    write_lance(source, ALL, tmp_path / "out.lance", **TABLE)
    found = read(LANCE, tmp_path / "out.lance", cache=tmp_path)
    assert found[: len(KEYS)] == [
        [key, caption, f"thing {index}"] for index, (key, caption) in enumerate(zip(KEYS, CAPTIONS, strict=True))
    ]
    with pytest.raises(ConfigError, match="--force"):
        write_lance(source, ALL, tmp_path / "out.lance", **TABLE)
    write_lance(source, Asked(limit=2), tmp_path / "out.lance", **(TABLE | {"force": True}))
    assert len(read(LANCE, tmp_path / "out.lance", cache=tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_kohya_finds_each_image_by_its_member(source: Source, tmp_path: Path) -> None:
    """As its FineTuningDataset does: a member is a path below the image folder, without the ending of an image."""
    write_kohya(source, ALL, tmp_path / "meta.json", **QUIET)
    members = json.loads((tmp_path / "meta.json").read_text())
    assert len(members) == 31
    assert members["plain"] == {"caption": "a red circle"}
    assert members["a/b c"] == {"caption": CAPTIONS[1]}


def test_simpletuner_and_onetrainer_read_a_caption_a_line(source: Source, tmp_path: Path) -> None:
    """As their loaders do: `splitlines`, blank lines left out."""
    write_texts(source, ALL, tmp_path, suffix=".txt", beside=False, **QUIET)
    for path in tmp_path.rglob("*.txt"):
        assert len([line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]) == 1, path
