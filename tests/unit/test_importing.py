"""Captions of other programs become fields of the images they are of, and of no others."""

import csv
import json
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p2pcap.cli.main import run
from p2pcap.errors import ConfigError
from p2pcap.sources.sidecars import Names, beside
from p2pcap_bootstrap.importing import Images, Imported, put_beside
from p2pcap_bootstrap.prior import Prior, read

NASTY = 'a "red", circle\n\t=cmd() é 象 😀 \u202e'

CAPTIONFLOW: list[dict[str, Any]] = [
    {"job_id": "local:chunk:0:idx:0", "filename": "a.png", "captions": [NASTY, "a circle"], "metadata": {"x": 1}},
    {"job_id": "local:chunk:0:idx:1", "filename": "b.jpg", "captions": ["a square"], "metadata": {}},
    {"job_id": "local:chunk:0:idx:2", "filename": "c.jpg", "captions": [], "metadata": {}},
    {"job_id": "local:chunk:0:idx:3", "filename": "gone.jpg", "captions": ["nobody's"], "metadata": {}},
]
"""Rows as its exports have them: no one image has the last one's name."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for name in ("a.png", "sub/b.jpg", "c.jpg", "one/twin.png", "two/twin.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"an image")
    return folder


def jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in CAPTIONFLOW))
    return path


def parquet(path: Path) -> Path:
    rows = [{key: value for key, value in row.items() if key != "metadata"} for row in CAPTIONFLOW]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def table(path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["filename", "captions"])
        writer.writeheader()
        for row in CAPTIONFLOW:
            writer.writerow({"filename": row["filename"], "captions": "\n".join(row["captions"])})
    return path


def kohya(path: Path) -> Path:
    found = {row["filename"].split(".")[0]: {"caption": "\n".join(row["captions"])} for row in CAPTIONFLOW}
    path.write_text(json.dumps(found))
    return path


def webshart(path: Path) -> Path:
    files = {row["filename"]: {"offset": 0, "captions": row["captions"]} for row in CAPTIONFLOW}
    path.write_text(json.dumps({"path": "shard.tar", "files": files}))
    return path


def lance_folder(path: Path) -> Path:
    lance.write_dataset(pa.Table.from_pylist([dict(row, metadata="{}") for row in CAPTIONFLOW]), path)
    return path


def image_folder(path: Path) -> Path:
    rows = [{"file_name": row["filename"], "text": "\n".join(row["captions"])} for row in CAPTIONFLOW]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FORMS = [
    (jsonl, "default.jsonl"),
    (parquet, "default.parquet"),
    (table, "default.csv"),
    (kohya, "meta_cap.json"),
    (webshart, "shard.json"),
    (image_folder, "metadata.jsonl"),
    (lance_folder, "captions.lance"),
]


@pytest.mark.parametrize(("write", "name"), FORMS)
def test_every_form_gives_each_image_its_own(write: Any, name: str, tmp_path: Path, pictures: Path) -> None:
    done = put_beside(read(write(tmp_path / name)), Images(pictures), "caption")
    assert done == Imported(written=2, missing=1)
    found = {image: beside(pictures / image, ["caption"], False, Names()) for image in ("a.png", "sub/b.jpg", "c.jpg")}
    assert found == {
        "a.png": {"caption": f"{NASTY}\na circle".strip()},
        "sub/b.jpg": {"caption": "a square"},
        "c.jpg": {},
    }


def test_a_name_that_several_images_have_goes_to_none(pictures: Path) -> None:
    images = Images(pictures)
    assert put_beside([Prior("twin.png", ("x",))], images, "caption") == Imported(unclear=1)
    assert put_beside([Prior("two/twin.png", ("x",)), Prior("", ("x",))], images, "caption") == Imported(1, missing=1)
    assert not (pictures / "one/twin.json").exists()
    assert images.named("https://a.org/x/sub%2F../a.png?size=2") == {pictures / "a.png"}


def test_what_is_there_stays_unless_it_is_to_be_replaced(pictures: Path) -> None:
    beside_a = pictures / "a.json"
    beside_a.write_text('{"caption": "mine", "title": "A"}')
    new = [Prior("a.png", ("theirs",))]
    assert put_beside(new, Images(pictures), "caption") == Imported(kept=1)
    assert json.loads(beside_a.read_text())["caption"] == "mine"
    assert put_beside(new, Images(pictures), "caption", replace=True, dry_run=True).written == 1
    assert json.loads(beside_a.read_text())["caption"] == "mine"
    put_beside(new, Images(pictures), "caption", replace=True)
    assert json.loads(beside_a.read_text()) == {"caption": "theirs", "title": "A"}


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b"x"), ("a.jsonl", b"nonsense"), ("a.jsonl", b"[1]\n"), ("a.json", b"{"), ("a.parquet", b"PAR1"),
     ("a.jsonl", b'{"filename": "a.png", "tags": "x"}\n'), ("a.jsonl", b""), ("a.csv", b"\xff\xfe\x00")],
)  # fmt: skip
def test_what_is_no_file_of_captions_is_told(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        list(read(tmp_path / name))


def test_a_folder_that_is_no_lance_dataset_is_told(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="no Lance dataset"):
        list(read(pictures))


def test_the_command_says_what_it_did(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(jsonl(tmp_path / "default.jsonl")), str(pictures), "--as", "prior"]) == 0
    told = capsys.readouterr().err
    assert "wrote 2 captions" in told
    assert "1 rows whose image is not there" in told
    assert json.loads((pictures / "sub/b.json").read_text()) == {"prior": "a square"}
    assert run(["import", str(tmp_path / "default.jsonl"), str(tmp_path / "nothing")]) == 2
