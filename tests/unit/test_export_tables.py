"""Tables out of the ledger: what goes in comes out, each row is exported or counted, equal ledgers give equal bytes."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow.parquet as pq
import pytest

from p2pcap.errors import ConfigError, QueryError
from p2pcap.export.asking import Asked
from p2pcap.export.columns import LONG, ROWS, Shape
from p2pcap.export.counts import Counts
from p2pcap.export.csv import write_csv
from p2pcap.export.jsonl import write_jsonl
from p2pcap.export.parquet import write_parquet
from p2pcap.export.source import Source
from p2pcap.ledger.checks import Ruled
from p2pcap.store.writes import PutSeal, PutStanding
from tests.unit.export_ledger import CAPTIONS, IN_TAR, KEYS, PROJECT, captioned, kept, source_of
from tests.unit.store_project import ADA, BOB, EVE
from tests.unit.test_store_rulings import seal_of

Rows = list[dict[str, Any]]


class Written(Protocol):
    def __call__(
        self, asked: Asked = ..., shape: Shape = ..., columns: tuple[str, ...] = ..., force: bool = ...
    ) -> tuple[Counts, Path]: ...


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("node"), captioned())


@pytest.fixture(scope="module")
def source(node: Path) -> Iterator[Source]:
    with source_of(node) as source:
        yield source


ALL = Asked()


def no_progress(rows: int) -> None:
    pass


def exporting(source: Source, write: Callable[..., Counts], path: Path) -> Written:
    def export(
        asked: Asked = ALL, shape: Shape = "rows", columns: tuple[str, ...] = (), force: bool = True
    ) -> tuple[Counts, Path]:
        return write(source, asked, path, shape=shape, columns=columns, force=force, progress=no_progress), path

    return export


@pytest.fixture
def jsonl(source: Source, tmp_path: Path) -> Written:
    return exporting(source, write_jsonl, tmp_path / "out.jsonl")


@pytest.fixture
def csv(source: Source, tmp_path: Path) -> Written:
    return exporting(source, write_csv, tmp_path / "out.csv")


@pytest.fixture
def parquet(source: Source, tmp_path: Path) -> Written:
    return exporting(source, write_parquet, tmp_path / "out.parquet")


def lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()]


# round trips


def test_json_lines_hold_what_went_in(jsonl: Written) -> None:
    counts, path = jsonl()
    rows = lines(path)
    assert [row["key"] for row in rows] == [*KEYS, *IN_TAR[:7]]
    assert [row["caption"] for row in rows[: len(CAPTIONS)]] == list(CAPTIONS)
    assert rows[2]["answers"] == {"describe": CAPTIONS[2], "objects": "thing 2"}
    assert rows[2]["fields"] == {"title": KEYS[2][:20], "=1+1": 'a "b"'}
    assert (rows[0]["time"], rows[0]["author"], rows[0]["tokens"]) == ("2027-01-15T08:00:00Z", ADA.peer_id, 8)
    assert (rows[-1]["file"], rows[-1]["place"]) == ("hf://datasets/o/n@main/data/part-0001.tar", 512 + 1024 * 6)
    assert counts == Counts(images=31, captions=31, errors=0, skipped={"errors": 1})
    assert {letter for letter in path.read_text() if not letter.isprintable()} == {"\n", "\u200d"}


def test_pandas_reads_the_csv_as_it_went_in(csv: Written) -> None:
    _, path = csv()
    found = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(found.columns) == [column.name for column in ROWS]
    assert list(found["key"]) == [*KEYS, *IN_TAR[:7]]
    assert list(found["caption"])[: len(CAPTIONS)] == list(CAPTIONS)
    assert json.loads(found["answers"][2]) == {"describe": CAPTIONS[2], "objects": "thing 2"}
    assert found["author_name"][0] == 'Ada, "the first"\n=1'
    typed = pd.read_csv(path)
    assert list(typed["chunk"])[-1] == 1
    assert typed["url"].isna().all()


def test_pandas_reads_the_parquet_as_it_went_in(parquet: Written) -> None:
    _, path = parquet()
    found = pd.read_parquet(path)
    assert list(found.columns) == [column.name for column in ROWS]
    assert list(found["caption"])[: len(CAPTIONS)] == list(CAPTIONS)
    assert list(found["answers"][2]) == [
        {"prompt": "describe", "text": CAPTIONS[2], "tokens": 7, "finish": "stop"},
        {"prompt": "objects", "text": "thing 2", "tokens": 1, "finish": "length"},
    ]
    assert list(found["fields"][0]) == [{"name": "title", "value": "plain.jpg"}, {"name": "=1+1", "value": 'a "b"'}]
    assert str(found["time"].dtype).startswith("datetime64")


@pytest.mark.parametrize("shape", ["rows", "long", "wide"])
def test_all_formats_say_the_same(shape: Shape, jsonl: Written, csv: Written, parquet: Written) -> None:
    asked = Asked(errors=True)
    from_json = lines(jsonl(asked, shape)[1])
    from_csv = pd.read_csv(csv(asked, shape)[1], dtype=str, keep_default_na=False).to_dict("records")
    from_parquet = pq.read_table(parquet(asked, shape)[1]).to_pylist()
    assert len(from_json) == len(from_csv) == len(from_parquet)
    assert list(from_json[0]) == list(from_csv[0]) == list(from_parquet[0])
    texts = {"long": "text", "rows": "caption", "wide": "describe"}[shape]
    for one, two, three in zip(from_json, from_csv, from_parquet, strict=True):
        assert (one["key"], one[texts]) == (two["key"], two[texts] or None) == (three["key"], three[texts])


# shapes


def test_long_has_a_row_for_each_answer(jsonl: Written) -> None:
    counts, path = jsonl(Asked(errors=True), "long")
    rows = lines(path)
    assert list(rows[0]) == [column.name for column in LONG]
    assert [(row["prompt"], row["text"], row["tokens"], row["finish"]) for row in rows[:2]] == [
        ("describe", "a red circle", 7, "stop"),
        ("objects", "thing 0", 1, "length"),
    ]
    assert (rows[-1]["prompt"], rows[-1]["error"]) == (None, "undecodable")
    assert counts == Counts(images=32, captions=62, errors=1)


def test_wide_has_a_row_for_each_image_and_a_column_for_each_prompt(jsonl: Written) -> None:
    counts, path = jsonl(Asked(errors=True), "wide")
    rows = lines(path)
    assert (rows[0]["describe"], rows[0]["objects"], rows[0]["authors"]) == ("a red circle", "thing 0", [ADA.peer_id])
    assert (rows[-1]["describe"], rows[-1]["errors"]) == (None, ["undecodable"])
    assert counts == Counts(images=32, captions=31, errors=1)


def test_columns_are_chosen_by_name(csv: Written, parquet: Written) -> None:
    assert csv(columns=("caption", "key"))[1].read_text().startswith("caption,key\n")
    assert pq.read_schema(parquet(columns=("caption", "key"))[1]).names == ["caption", "key"]
    with pytest.raises(ConfigError, match="no column 'captions'"):
        csv(columns=("captions",))


# filters


@pytest.mark.parametrize(
    ("asked", "images", "skipped"),
    [
        (Asked(limit=3), 3, {}),
        (Asked(authors=("Bob",)), 12, {"by other authors": 19, "errors": 1}),
        (Asked(authors=(EVE.peer_id, ADA.peer_id)), 19, {"by other authors": 13}),
        (Asked(shards=("part-*.tar",)), 7, {"of another shard": 24, "errors": 1}),
        (Asked(shards=("nothing",)), 0, {"of another shard": 32}),
        (Asked(stages=("caption",)), 31, {"errors": 1}),
        (Asked(stages=("other",)), 0, {"of another stage": 32}),
        (Asked(tasks=("00" * 8,)), 0, {"of another task": 32}),
        (Asked(sealed=True), 0, {"not sealed": 32}),
        (Asked(verified=True), 0, {"not verified": 32}),
        (Asked(tier=1), 0, {"of a lower tier": 32}),
        (Asked(where="caption LIKE 'in a tar%'"), 7, {"not meant by --where": 24, "errors": 1}),
        (Asked(where="url = 'x' -- a comment"), 0, {"not meant by --where": 31, "errors": 1}),
        (Asked(errors=True), 32, {}),
        (Asked(prompts=("objects",)), 31, {"errors": 1}),
        (Asked(prompts=("nobody's",)), 0, {"errors": 1, "without such an answer": 31}),
    ],
)
def test_a_row_is_exported_or_counted(asked: Asked, images: int, skipped: dict[str, int], jsonl: Written) -> None:
    counts, path = jsonl(asked)
    assert (counts.images, counts.skipped) == (images, skipped)
    assert len(lines(path)) == images


def test_prompts_choose_among_the_answers(jsonl: Written) -> None:
    found = lines(jsonl(Asked(prompts=("objects",)))[1])[2]
    assert (found["caption"], found["answers"]) == ("thing 2", {"objects": "thing 2"})
    assert "describe" not in lines(jsonl(Asked(prompts=("objects",)), "wide")[1])[2]


def test_what_is_sealed_and_verified_is_found(tmp_path: Path) -> None:
    one = PROJECT.slice(ADA, 0, 0, 4)
    two = PROJECT.slice(BOB, 0, 4, 4)
    writes = [
        *PROJECT.setup,
        one,
        two,
        PutSeal(seal_of(1, {ADA.public: 2}), [one.envelope.id]),
        PutStanding(one.envelope.id, Ruled(confirmed=0b0110)),
    ]
    with source_of(kept(tmp_path / "node", writes)) as source:
        export = exporting(source, write_jsonl, tmp_path / "out.jsonl")
        for asked, items in (
            (Asked(sealed=True), [0, 1, 2, 3]),
            (Asked(verified=True), [1, 2]),
            (Asked(tier=2), [0, 1, 2, 3]),
        ):
            assert [row["item"] for row in lines(export(asked)[1])] == items


@pytest.mark.parametrize(
    "where", ["key", "1; DROP TABLE item", "1) UNION SELECT 1 --", "caption = (SELECT", "read_csv('/etc/passwd')"]
)
def test_a_condition_that_is_none_is_refused(where: str, jsonl: Written, tmp_path: Path) -> None:
    with pytest.raises(QueryError):
        jsonl(Asked(where=where))
    assert list(tmp_path.iterdir()) == []


# bytes


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    """Whatever the order in which the results came."""
    written: dict[str, set[bytes]] = {}
    for seed in range(3):
        setup, batches = captioned()[: len(PROJECT.setup) + 2], captioned()[len(PROJECT.setup) + 2 :]
        random.Random(seed).shuffle(batches)
        with source_of(kept(tmp_path / f"node{seed}", [*setup, *batches])) as source:
            for name, write in (("jsonl", write_jsonl), ("csv", write_csv), ("parquet", write_parquet)):
                _, path = exporting(source, write, tmp_path / f"{seed}.{name}")(Asked(errors=True))
                written.setdefault(name, set()).add(path.read_bytes())
    assert {name: len(contents) for name, contents in written.items()} == {"jsonl": 1, "csv": 1, "parquet": 1}


def test_stretches_join_without_a_seam(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = exporting(source, write_jsonl, tmp_path / "whole.jsonl")()
    monkeypatch.setattr("p2pcap.store.parts.STRETCH", 1)
    monkeypatch.setattr("p2pcap.export.parquet.ROW_GROUP", 5)
    _, cut = exporting(source, write_jsonl, tmp_path / "cut.jsonl")()
    _, table = exporting(source, write_parquet, tmp_path / "cut.parquet")()
    assert whole.read_bytes() == cut.read_bytes()
    groups = pq.ParquetFile(table).metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [5] * 6 + [1]


@pytest.mark.parametrize("shape", ["rows", "long"])
def test_a_stretch_that_is_too_large_to_sort_in_memory_comes_in_order(
    shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, granted = captioned(), len(PROJECT.setup) + 2
    with source_of(kept(tmp_path / "node", [*writes[:granted], *reversed(writes[granted:])])) as source:
        _, small = exporting(source, write_parquet, tmp_path / "small.parquet")(shape=shape)
        monkeypatch.setattr("p2pcap.store.parts.IN_MEMORY", 1)
        _, large = exporting(source, write_parquet, tmp_path / "large.parquet")(shape=shape)
    places = [(row["chunk"], row["item"]) for row in pq.read_table(small).to_pylist()]
    assert places == sorted(places)
    assert small.read_bytes() == large.read_bytes()


def test_a_reading_that_is_broken_off_leaves_no_watch_behind(source: Source) -> None:
    with source.parts("SELECT chunk, item FROM part", "task") as rows:
        next(iter(rows))
    assert [thread.name for thread in threading.enumerate() if "guard" in thread.name] == []


def test_an_empty_ledger_gives_files_with_columns(tmp_path: Path) -> None:
    with source_of(kept(tmp_path / "node", PROJECT.setup)) as source:
        assert exporting(source, write_jsonl, tmp_path / "out.jsonl")()[1].read_bytes() == b""
        assert exporting(source, write_csv, tmp_path / "out.csv")()[1].read_text().count("\n") == 1
        counts, path = exporting(source, write_parquet, tmp_path / "out.parquet")()
    assert counts == Counts()
    assert pq.read_table(path).column_names == [column.name for column in ROWS]


def test_a_spreadsheet_calculates_nothing(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_csv(
        source, Asked(), path, shape="rows", columns=("caption",), force=True, progress=no_progress, spreadsheet=True
    )
    found = pd.read_csv(path, dtype=str, keep_default_na=False)["caption"]
    assert [one for one in found if one.startswith(("'=", "'@", "'-"))] == [
        f"'{one}" for one in CAPTIONS if one[0] in "=@-"
    ]
    assert not [one for one in found if one[0] in "=+-@\t\r"]
