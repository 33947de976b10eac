"""Each source, from the maintainer's plan to a volunteer's rows: every image once, its own caption to each.

Captions are hashes of the bytes that the engine was given, so they are compared with the images and not with places.
"""

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import trio

from p2pcap.project.items import Item
from p2pcap.project.records import FetchRules
from p2pcap.sources.spec import Images
from tests.sources.fake_hub import FakeHub
from tests.sources.whole import Captioned, captioned, planned

REPO = "someone/pictures"
COUNT = 300
STRANGE = ("a b", "quo\"te's", "new\nline", "\N{CAT FACE}", "x" * 290, "50%", "ünï", "dots..", "#hash?query", "tab\t")


def picture(number: int) -> bytes:
    """The bytes of an image file: each its own, of its own length."""
    return b"\xff\xd8\xff\xe0" + number.to_bytes(4, "big") * (100 + number % 900)


def name(number: int) -> str:
    """A key that file systems take: strange ones among them, and none twice."""
    return f"{STRANGE[number % len(STRANGE)]} {number}" if number < 40 else f"{number:05}"


PICTURES = {name(number): picture(number) for number in range(COUNT)}
HASHES = {key: hashlib.sha256(data).hexdigest() for key, data in PICTURES.items()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub({REPO: {}}) as hub:
        for variable, value in hub.environment.items():
            monkeypatch.setenv(variable, value)
        yield hub


def parquet(keys: list[str], groups: int) -> bytes:
    cells = [{"bytes": PICTURES[key], "path": None} for key in keys]
    table = pa.table({"key": keys, "title": [f"title of {key}" for key in keys], "image": cells})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=groups)
    return out.getvalue()


def tar(keys: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for number, key in enumerate(keys):
            for suffix, data in ((".jpg", PICTURES[key]), (".txt", f"title of {key}".encode())):
                member = tarfile.TarInfo(f"{number:05}{suffix}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def shards(sizes: tuple[int, ...]) -> list[list[str]]:
    """The keys, cut into shards of these sizes."""
    keys, cut = list(PICTURES), []
    for size in sizes:
        cut.append(keys[:size])
        keys = keys[size:]
    assert not keys
    return cut


ODD = (1, 130, 0, 63, 106)


def check(outcome: Captioned, expected: Mapping[str, str] = HASHES) -> None:
    """Every image once, by its content; no image of the plan without a row."""
    texts = [row.error or row.answers[0].text for _, row in outcome.rows]
    assert sorted(texts) == sorted(expected.values())
    for _, row in outcome.rows:
        assert row.image.hex() == row.answers[0].text, "the row says which bytes it is about"
    places = [(chunk, row.item) for chunk, row in outcome.rows]
    assert len(set(places)) == len(places) == sum(len(found.items) for found in outcome.lists)


def check_keys(outcome: Captioned) -> None:
    assert outcome.by_key == {key: [hash_] for key, hash_ in HASHES.items()}


def run(tmp_path: Path, images: Images, stops: tuple[int, ...] = (), rules: FetchRules | None = None) -> Captioned:
    """Plan a dataset, and caption it."""

    async def main() -> Captioned:
        lists = await planned(tmp_path, images)
        data = tmp_path / "data"
        return await captioned(tmp_path / "volunteer", lists, rules, data if data.is_dir() else None, stops)

    return trio.run(main)


@pytest.mark.parametrize("stops", [(), (70, 150)], ids=["at once", "with two breaks"])
@pytest.mark.parametrize("groups", [1_000, 40, 7])
def test_parquet_on_the_hub(tmp_path: Path, hub: FakeHub, groups: int, stops: tuple[int, ...]) -> None:
    files = {f"data/train-{number}.parquet": parquet(keys, groups) for number, keys in enumerate(shards(ODD))}
    hub.commit(REPO, files)
    outcome = run(tmp_path, Images(source=f"hf://datasets/{REPO}", fields=("title",)), stops)
    check(outcome)
    check_keys(outcome)
    titles = {item.key: item.metadata["title"] for found in outcome.lists for item in found.items}
    assert titles == {key: f"title of {key}" for key in PICTURES}


def test_parquet_of_the_hub_with_hashes(tmp_path: Path, hub: FakeHub) -> None:
    hub.commit(REPO, {"train.parquet": parquet(list(PICTURES), 50)})
    outcome = run(tmp_path, Images(source=f"hf://datasets/{REPO}", hashes=True))
    assert {item.hash.hex() for found in outcome.lists for item in found.items} == set(HASHES.values())
    check_keys(outcome)


@pytest.mark.parametrize("stops", [(), (70, 150)], ids=["at once", "with two breaks"])
@pytest.mark.parametrize("indexed", [True, False])
def test_tars_on_the_hub(tmp_path: Path, hub: FakeHub, indexed: bool, stops: tuple[int, ...]) -> None:
    files: dict[str, bytes] = {}
    for number, keys in enumerate(shards(ODD)):
        files[f"{number:05}.tar"] = tar(keys)
        if indexed:
            files[f"{number:05}.json"] = index(files[f"{number:05}.tar"], f"{number:05}.tar")
    hub.commit(REPO, files)
    outcome = run(tmp_path, Images(source=f"hf://datasets/{REPO}", fields=("txt",)), stops)
    check(outcome)
    titles = {hash_: item.metadata["txt"] for hash_, item in with_items(outcome)}
    assert titles == {HASHES[key]: f"title of {key}" for key in PICTURES}


def with_items(outcome: Captioned) -> list[tuple[str, Item]]:
    return [(row.answers[0].text, outcome.item(chunk, row)) for chunk, row in outcome.rows]


def index(data: bytes, file: str) -> bytes:
    """What webshart's index of a tar says."""
    with tarfile.open(fileobj=io.BytesIO(data)) as members:
        found = {member.name: {"offset": member.offset_data, "length": member.size} for member in members}
    return json.dumps({"path": file, "filesize": len(data), "files": found}).encode()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_addresses(tmp_path: Path, hub: FakeHub, suffix: str) -> None:
    """Addresses of images on a web server; rows without one are no images."""
    hub.commit(REPO, {f"{number}.jpg": data for number, data in enumerate(PICTURES.values())})
    base = f"{hub.url}/datasets/{REPO}/resolve/main"
    rows = [{"name": key, "link": f"{base}/{number}.jpg"} for number, key in enumerate(PICTURES)]
    rows[100:100] = [{"name": f"none {blank}", "link": blank} for blank in ("", "None", "  ")]
    (tmp_path / f"list.{suffix}").write_bytes(table(rows, suffix))
    host = hub.url.removeprefix("http://")
    images = Images(
        source=f"list.{suffix}", kind="urls", url_column="link", key_column="name", hosts=(host,), robots=False
    )
    outcome = run(tmp_path, images, (100,), FetchRules((host,), robots=False))
    check(outcome)
    check_keys(outcome)


def table(rows: list[dict[str, str]], suffix: str) -> bytes:
    if suffix == "parquet":
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=90)
        return out.getvalue()
    if suffix == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, ["name", "link"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def test_image_files_on_the_hub(tmp_path: Path, hub: FakeHub) -> None:
    files = {
        f"{'left' if number % 2 else 'right'}/{key}.jpg": data for number, (key, data) in enumerate(PICTURES.items())
    }
    files["left/same.jpg"], files["right/same.jpg"] = picture(1_000), picture(1_001)
    hub.commit(REPO, {**files, "README.md": b"# Pictures", "left/notes.txt": b"no image"})
    outcome = run(tmp_path, Images(source=f"hf://datasets/{REPO}"), (90,))
    check(outcome, {path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
    assert outcome.by_key == {path: [hashlib.sha256(data).hexdigest()] for path, data in files.items()}


def test_what_only_datasets_reads(tmp_path: Path, hub: FakeHub) -> None:
    files = {f"data/{number}.arrow": arrow(keys) for number, keys in enumerate(shards((120, 0, 180)))}
    hub.commit(REPO, files)
    outcome = run(tmp_path, Images(source=f"hf://datasets/{REPO}", kind="stream"), (100,))
    check(outcome)
    check_keys(outcome)


def arrow(keys: list[str]) -> bytes:
    schema = pa.schema({"key": pa.string(), "image": pa.struct({"bytes": pa.binary(), "path": pa.string()})})
    cells = [{"bytes": PICTURES[key], "path": None} for key in keys]
    out = io.BytesIO()
    with pa.ipc.new_stream(out, schema) as writer:
        writer.write_table(pa.table({"key": keys, "image": cells}, schema), max_chunksize=50)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_files_that_the_volunteer_has_too(tmp_path: Path, kind: str) -> None:
    make = {"parquet": lambda keys: parquet(keys, 40), "tar": tar}[kind]
    (tmp_path / "data").mkdir()
    for number, keys in enumerate(shards(ODD)):
        (tmp_path / "data" / f"{number}.{kind}").write_bytes(make(keys))
    lists = trio.run(planned, tmp_path, Images(source=f"data/*.{kind}"))
    assert {item.hash.hex() for found in lists for item in found.items} == set(HASHES.values())
    assert all(found.file is not None and found.file.file.startswith("file:") for found in lists)


def test_images_that_have_captions_are_left_out(tmp_path: Path, hub: FakeHub) -> None:
    keys = list(PICTURES)
    said = ["" if number % 3 else f"caption of {key}" for number, key in enumerate(keys)]
    cells = [{"bytes": PICTURES[key], "path": None} for key in keys]
    out = io.BytesIO()
    pq.write_table(pa.table({"key": keys, "old": said, "image": cells}), out, row_group_size=50)
    hub.commit(REPO, {"train.parquet": out.getvalue()})
    images = Images(source=f"hf://datasets/{REPO}", caption_field="old", captioned="skip")
    outcome = run(tmp_path, images, (40,))
    check(outcome, {key: HASHES[key] for number, key in enumerate(keys) if number % 3})
