"""Exports: the same bytes everywhere, whole files or none, and lines that prove themselves."""

import base64
import json
import random
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pcap.errors import ConfigError, UntrustedError
from p2pcap.export.counts import Counts
from p2pcap.export.proven_lines import decode_runs, verify_file, write_proven
from p2pcap.export.provenance import verify_row
from p2pcap.ledger.records import Answer, Row
from p2pcap.project.items import MAX_FIELD, Item, ItemList
from p2pcap.store.canonical import runs
from p2pcap.store.database import reading
from p2pcap.store.writes import PutBatch, Write
from tests.unit.store_lists import ANYWHERE, HOSTILE
from tests.unit.store_project import ADA, BOB, EVE, Sample, image_of, kept, sample, sample_of

PROJECT = sample(chunks=2, images=100)


def results(project: Sample = PROJECT) -> list[PutBatch]:
    """Two chunks, with slices of odd sizes, errors, contested items, and a text that is no friend of terminals."""
    hostile = 'back\\slash "quoted" \x00\x1b[2J\x9b \u202e\u2066 é 象 \u2028 😀'
    return [
        project.slice(ADA, 0, 0, 64),
        project.slice(BOB, 0, 60, 7, hostile),
        project.batch(EVE, 0, [project.error(0, 70), project.row(0, 71), project.error(0, 73)]),
        project.batch(BOB, 0, [project.row(0, 70, "found it after all")]),
        project.batch(EVE, 1, [project.row(1, index) for index in range(1, 100, 2) if index < 64]),
        project.batch(ADA, 1, [project.row(1, index, "b") for index in range(0, 64, 3)]),
        project.batch(ADA, 1, [project.error(1, 99)], time=2**53 - 1),
    ]


def exported(path: Path, destination: Path, *, force: bool = False) -> Counts:
    with reading(path) as readers, readers.lend() as cursor:
        return write_proven(runs(cursor), destination, force=force)


def named_grants() -> list[Write]:
    return [PROJECT.grant(ADA, "Ada"), PROJECT.grant(BOB, "Bob \x1b]0;pwned\x07")]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a node that has ended."""
    return kept(tmp_path_factory.mktemp("node"), [*PROJECT.setup, *named_grants(), *results()])


@pytest.fixture(scope="module")
def export(ended: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export."""
    destination = tmp_path_factory.mktemp("export") / "captions.jsonl"
    exported(ended, destination)
    return destination


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nodes_with_equal_tables_write_equal_bytes(tmp_path: Path) -> None:
    written: set[bytes] = set()
    for seed in range(4):
        batches: list[Write] = [*results()]
        random.Random(seed).shuffle(batches)
        path = kept(tmp_path / f"node{seed}", [*PROJECT.setup, *batches[:3], *named_grants(), *batches[3:]])
        counts = exported(path, tmp_path / f"{seed}.jsonl")
        written.add((tmp_path / f"{seed}.jsonl").read_bytes())
        assert counts == Counts(images=114, captions=112, errors=2)
    assert len(written) == 1


def test_a_row_says_what_was_signed(export: Path) -> None:
    rows = lines(export)
    places = [(row["chunk"], row["item"]) for row in rows]
    assert places == sorted(set(places))
    by_place = dict(zip(places, rows, strict=True))
    row = by_place[0, 5]
    assert row["key"] == PROJECT.items[0][5].key
    assert row["image"] == PROJECT.items[0][5].hash.hex()
    assert row["caption"] == "a red circle 0/5"
    assert row["answers"] == {
        "describe": {"text": "a red circle 0/5", "tokens": 7, "finish": "stop"},
        "objects": {"text": "circle", "tokens": 1, "finish": "length"},
    }
    assert (row["error"], row["reason"]) == (None, None)
    assert (row["author"], row["author_name"], row["model"]) == (ADA.peer_id, "Ada", "tiny-shapes")
    assert row["time"] == "2027-01-15T08:00:00+00:00"
    assert row["project"] == PROJECT.project.m.hex()
    assert by_place[0, 70]["caption"] == "found it after all 0/70"  # an answer wins over an error
    error = by_place[0, 73]
    assert (error["caption"], error["answers"], error["error"]) == (None, {}, "undecodable")
    assert by_place[1, 99]["time"].startswith("9999-12-31")


def test_no_line_can_steer_a_terminal(export: Path) -> None:
    text = export.read_text()
    assert not [letter for letter in text if letter != "\n" and not letter.isprintable()]


def test_an_export_verifies_from_itself_alone(export: Path) -> None:
    counts = verify_file(export)
    assert counts.images == len(lines(export)) == counts.captions + counts.errors
    assert counts.errors == 2
    for row in lines(export):
        verify_row(row)


def flip(text: str, place: int) -> str:
    """Another text of the same length, one bit of one letter changed."""
    return text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]


COVERED = ["image", "caption", "author", "engine", "time", "project", "task"]


@pytest.mark.parametrize("name", COVERED)
def test_a_changed_field_is_found_out(export: Path, name: str) -> None:
    row = lines(export)[3]
    for place in range(len(row[name])):
        with pytest.raises(UntrustedError, match=name):
            verify_row({**row, name: flip(row[name], place)})


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row | {"chunk": row["chunk"] + 1},
        lambda row: row | {"item": row["item"] + 1},
        lambda row: row | {"error": "undecodable"},
        lambda row: row | {"reason": "because"},
        lambda row: row | {"caption": None},
        lambda row: row | {"answers": {}},
        lambda row: row | {"answers": row["answers"] | {"extra": row["answers"]["objects"]}},
        lambda row: row | {"answers": dict(reversed(row["answers"].items()))},
        lambda row: _answer(row, text="another"),
        lambda row: _answer(row, tokens=8),
        lambda row: _answer(row, finish="length"),
        lambda row: row | {"unknown": 1},
        lambda row: {name: value for name, value in row.items() if name != "time"},
        lambda row: row | {"chunk": "0"},
        lambda row: [row],
        lambda row: None,
    ],
)
def test_a_changed_row_is_found_out(export: Path, change: Callable[[Any], Any]) -> None:
    row = lines(export)[3]
    with pytest.raises(UntrustedError):
        verify_row(change(row))


def _answer(row: Any, **changed: Any) -> Any:
    return row | {"answers": row["answers"] | {"describe": row["answers"]["describe"] | changed}}


@pytest.mark.parametrize("name", ["statement", "row", "path"])
def test_a_changed_proof_is_found_out(export: Path, name: str) -> None:
    """Every byte of it, and every other spelling of the same bytes."""
    row = lines(export)[3]
    proof = row["provenance"]
    texts = proof[name] if name == "path" else [proof[name]]
    for index, text in enumerate(texts):
        data = base64.b64decode(text)
        others = [base64.b64encode(data[:i] + bytes((data[i] ^ 1,)) + data[i + 1 :]).decode() for i in range(len(data))]
        others += [text + "=", text + "\n", " " + text, flip(text, -2), text[:-4], ""]
        for other in others:
            changed = [*texts[:index], other, *texts[index + 1 :]]
            with pytest.raises(UntrustedError):
                verify_row(row | {"provenance": proof | {name: changed if name == "path" else other}})


def test_a_proof_of_another_row_does_not_do(export: Path) -> None:
    first, second = lines(export)[3:5]
    with pytest.raises(UntrustedError):
        verify_row(first | {"provenance": second["provenance"]})
    with pytest.raises(UntrustedError):
        verify_row(first | {"provenance": first["provenance"] | {"path": second["provenance"]["path"]}})
    with pytest.raises(UntrustedError):
        verify_row(first | {"provenance": first["provenance"] | {"path": first["provenance"]["path"][:-1]}})


def test_a_grant_proves_no_row(export: Path) -> None:
    row = lines(export)[3]
    grant = base64.b64encode(PROJECT.grant(ADA, "Ada").envelope.data).decode()
    with pytest.raises(UntrustedError):
        verify_row(row | {"provenance": row["provenance"] | {"statement": grant}})


def test_a_file_with_a_bad_line_names_it(tmp_path: Path, export: Path) -> None:
    destination = tmp_path / "bad.jsonl"
    good = export.read_bytes().splitlines(keepends=True)
    other = sample(chunks=1, images=64, title="Others")
    exported(kept(tmp_path / "other", [*other.setup, other.slice(ADA, 0, 0, 4)]), tmp_path / "other.jsonl")
    foreign = (tmp_path / "other.jsonl").read_bytes().splitlines(keepends=True)
    for bad, number in (
        ([good[0], b"{}\n"], 2),
        ([good[0], b"not json\n"], 2),
        ([good[0], b'{"key": 1e999}\n'], 2),
        ([*good[:2], good[2][:-1]], 3),
        ([good[1], good[0]], 2),
        ([good[0], good[0]], 2),
        ([good[0], foreign[1]], 2),
    ):
        destination.write_bytes(b"".join(bad))
        with pytest.raises(UntrustedError, match=f"line {number}:"):
            verify_file(destination)
    with pytest.raises(ConfigError, match="cannot be read"):
        verify_file(tmp_path / "missing.jsonl")


def test_an_empty_table_makes_an_empty_file(tmp_path: Path) -> None:
    assert exported(kept(tmp_path / "node", []), tmp_path / "out.jsonl") == Counts(0, 0, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert verify_file(tmp_path / "out.jsonl") == Counts(0, 0, 0)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, ended: Path) -> None:
    destination = tmp_path / "out.jsonl"
    destination.write_text("precious")
    with pytest.raises(ConfigError, match="--force"):
        exported(ended, destination)
    assert destination.read_text() == "precious"
    exported(ended, destination, force=True)
    assert verify_file(destination).images > 0


@pytest.mark.parametrize("place", ["missing/out.jsonl", ".", "file/out.jsonl"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="folder"):
        write_proven([], tmp_path / place)


def test_a_folder_of_somebody_else_is_named(closed: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_proven([], closed / "out.jsonl")


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, ended: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    with reading(ended) as readers, readers.lend() as cursor, full_disk(), pytest.raises(ConfigError, match="written"):
        write_proven(runs(cursor), tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_in_the_middle_leaves_nothing(tmp_path: Path, ended: Path) -> None:
    destination = tmp_path / "out.jsonl"

    with reading(ended) as readers, readers.lend() as cursor:
        found = list(runs(cursor))
    broken = [*found[:2], type(found[2])(found[2].tid, 0, found[2].envelope, found[1].body, "", "", (), found[2].items)]
    with pytest.raises(UntrustedError):
        write_proven(iter(broken), destination)
    assert list(tmp_path.iterdir()) == []


def test_two_exports_of_one_node_are_counted_alike(tmp_path: Path, ended: Path) -> None:
    assert exported(ended, tmp_path / "a.jsonl") == exported(ended, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_every_field_is_documented(export: Path, from_anywhere: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    documented = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    row = lines(from_anywhere)[0]
    assert {*lines(export)[0], *row} <= documented
    assert set(row["provenance"]) <= set(re.findall(r"`(\w+)` \(", text))


# what the dataset says

SAID = [
    ANYWHERE.slice(ADA, 0, 0, 3),
    ANYWHERE.batch(BOB, 0, [ANYWHERE.error(0, 5)]),
    ANYWHERE.slice(ADA, 1, 0, 3),
    ANYWHERE.slice(ADA, 2, 0, 2),
    ANYWHERE.slice(ADA, 3, 0, 2),
]


@pytest.fixture(scope="module")
def from_anywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a project whose images are at URLs, in a file, and in a folder."""
    path = kept(tmp_path_factory.mktemp("anywhere"), [*ANYWHERE.setup, *SAID])
    destination = path.with_name("captions.jsonl")
    exported(path, destination)
    return destination


def test_addresses_and_metadata_stand_beside_the_caption(from_anywhere: Path) -> None:
    by_place = {(row["chunk"], row["item"]): row for row in lines(from_anywhere)}
    row = by_place[0, 1]
    assert (row["key"], row["url"], row["fields"]) == ("row/1", "https://example.org/1", {"title": "no. 1"} | HOSTILE)
    assert row["image"] == image_of(ANYWHERE.items[0][1]).hex()
    assert list(row)[:6] == ["key", "url", "image", "caption", "fields", "answers"]
    assert (by_place[0, 5]["image"], by_place[0, 5]["error"]) == (None, "undecodable")
    assert by_place[1, 1]["url"] == "https://example.org/seen/1"
    for place in ((1, 1), (2, 0), (3, 0)):
        assert "fields" not in by_place[place]
    for place in ((2, 0), (3, 0)):
        assert "url" not in by_place[place]


def test_the_file_that_an_image_is_a_part_of_stands_beside_it(from_anywhere: Path) -> None:
    rows = lines(from_anywhere)
    assert [(row["file"], row["place"]) for row in rows if row["chunk"] == 2] == [
        ("hf://o/n/part.parquet", 0),
        ("hf://o/n/part.parquet", 1),
    ]
    assert not [row for row in rows if row["chunk"] != 2 and ("file" in row or "place" in row)]
    assert verify_row(rows[-3] | {"place": 7}).place == 7  # the list says it, not the author


def test_metadata_cannot_steer_a_terminal_or_break_a_line(from_anywhere: Path) -> None:
    text = from_anywhere.read_text()
    assert not [letter for letter in text if letter != "\n" and not letter.isprintable()]
    assert len(text.split("\n")) == len(lines(from_anywhere)) + 1


def test_what_the_dataset_says_is_shown_but_not_proven_by_the_author(from_anywhere: Path) -> None:
    assert verify_file(from_anywhere) == Counts(11, 10, 1)
    row = lines(from_anywhere)[0]
    verify_row(row | {"fields": {"title": "another"}, "url": "https://example.com/"})
    for changed in (
        {"fields": {"title": 1}},
        {"fields": ["title"]},
        {"fields": None},
        {"url": None},
        {"url": 1},
        {"file": 1},
        {"place": "1"},
        {"image": None},
        {"image": "00" * 32},
    ):
        with pytest.raises(UntrustedError):
            verify_row(row | changed)


def test_an_image_that_never_came_cannot_be_given_a_hash(from_anywhere: Path) -> None:
    failed = next(row for row in lines(from_anywhere) if row["error"])
    for image in ("00" * 32, "ab" * 32, ""):
        with pytest.raises(UntrustedError, match="image"):
            verify_row(failed | {"image": image})


def test_a_running_node_sends_what_its_file_holds(tmp_path: Path) -> None:
    with reading(kept(tmp_path, [*ANYWHERE.setup, *SAID])) as readers, readers.lend() as cursor:
        found = list(runs(cursor))
    assert list(decode_runs(msgspec.msgpack.encode(run) for run in found)) == found


def test_a_line_of_the_largest_row_and_metadata_can_be_verified(tmp_path: Path) -> None:
    worst = {f"{number:02}" + "\x01" * 62: "\x01" * MAX_FIELD for number in range(32)}
    large = sample_of([ItemList((Item("\x01" * 1_024, b"", 0, url="\x01" * 2_048, fields=worst),))])
    texts = [Answer("\x01" * 65_000, 7, "stop")] * 2
    row = Row(0, bytes([1]) * 32, tuple(texts))
    exported(kept(tmp_path, [*large.setup, large.batch(ADA, 0, [row])]), tmp_path / "out.jsonl")
    assert verify_file(tmp_path / "out.jsonl") == Counts(1, 1, 0)
