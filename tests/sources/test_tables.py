"""Tables of addresses: every row with an address once, in order, whatever stands in the table."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.errors import ConfigError, SourceGone
from p2pcap.project.items import Item, ItemList, decode_list, encode_list
from p2pcap.sources import tables, text_tables
from p2pcap.sources.locations import DataFile
from p2pcap.sources.spec import Images
from tests.sources.parquet_made import write
from tests.sources.twin import TwinFiles

URLS = ["https://h/1.jpg", " https://h/2 b.jpg\t", 'http://h/é🐈?x=1,2&y="q"', "https://h/1.jpg", "no address at all"]
BLANK = ["", "  ", "None", "null", "NaN", "NULL", "https://h/" + "x" * 2_048]
PLANNED = [url.strip() for url in URLS]


@pytest.fixture
def files(tmp_path: Path) -> TwinFiles:
    return TwinFiles(tmp_path)


def planned(files: TwinFiles, name: str, size: int = 1_024, **settings: Any) -> list[ItemList]:
    async def plan() -> list[ItemList]:
        images = Images(source="", **settings)
        return [found async for found in tables.plan(files, DataFile(name), images, size)]

    return trio.run(plan)


def urls(lists: list[ItemList]) -> list[Any]:
    return [item.url for found in lists for item in found.items]


def csv_of(rows: Iterable[Sequence[str]], mark: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=mark).writerows(rows)
    return text.getvalue()


# --- addresses


def test_parquet_gives_each_address_once(files: TwinFiles) -> None:
    cells = [*URLS, *BLANK, None, *URLS]
    write(files.folder / "a.parquet", {"URL": cells, "TEXT": ["t"] * len(cells)}, groups=4)
    lists = planned(files, "a.parquet", size=4)
    assert urls(lists) == [*PLANNED, *PLANNED]
    assert [len(found.items) for found in lists] == [4, 4, 2]


def test_csv_gives_each_address_once(files: TwinFiles) -> None:
    cells = [*URLS, *BLANK, *URLS]
    (files.folder / "a.csv").write_bytes(
        b"\xef\xbb\xbf" + csv_of([["url", "n"], *([cell, "1"] for cell in cells)]).encode()
    )
    assert urls(planned(files, "a.csv", size=4)) == [*PLANNED, *PLANNED]


@pytest.mark.parametrize(("name", "mark"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|")])
def test_other_delimiters_are_told_from_the_name_or_the_header(files: TwinFiles, name: str, mark: str) -> None:
    (files.folder / name).write_text(csv_of([["id", "url"], ["1", "https://h/,;"]], mark))
    assert urls(planned(files, name)) == ["https://h/,;"]


def test_json_lines_give_each_address_once(files: TwinFiles) -> None:
    cells: list[Any] = [*URLS, *BLANK, None, float("nan"), *URLS]
    lines = [json.dumps({"url": cell}) for cell in cells] + ["", json.dumps({"other": 1})]
    (files.folder / "a.jsonl").write_text("\ufeff" + "\n".join(lines))
    assert urls(planned(files, "a.jsonl", size=4)) == [*PLANNED, *PLANNED]


@settings(max_examples=15)
@given(
    cells=st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=8)), st.text(max_size=8)), max_size=30),
    size=st.integers(1, 12),
)
def test_the_three_formats_plan_the_same(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str | None, str]], size: int
) -> None:
    files = TwinFiles(tmp_path_factory.mktemp("same"))
    addresses = [None if text is None else f"https://h/{text}" for text, _ in cells]
    keys = [key for _, key in cells]
    columns = {"key": pa.array(keys, pa.string()), "url": pa.array(addresses, pa.string())}
    write(files.folder / "a.parquet", columns, groups=7)
    rows = csv_of([["key", "url"], *([key, url or ""] for key, url in zip(keys, addresses, strict=True))])
    (files.folder / "a.csv").write_text(rows, newline="")
    objects = ({"key": key, "url": url} for key, url in zip(keys, addresses, strict=True))
    (files.folder / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))
    if not cells:
        (files.folder / "a.jsonl").write_text('{"key": "", "url": null}\n')
    plans = [planned(files, name, size) for name in ("a.parquet", "a.csv", "a.jsonl")]
    assert urls(plans[0]) == [url.strip() for url in addresses if url]
    assert [len(found.items) <= size for found in plans[0]] == [True] * len(plans[0])
    fallback = [
        [item.key.replace("a.jsonl", "a.csv").replace("a.csv", "a.parquet") for one in plan for item in one.items]
        for plan in plans
    ]
    assert fallback[0] == fallback[1] == fallback[2]
    for found in plans[0]:
        assert decode_list(encode_list(found), 2**20) == found


# --- keys, fields, hashes


def test_keys_fields_and_hashes_come_with_the_address(files: TwinFiles) -> None:
    rows = [
        {"url": "https://h/1", "id": 7, "alt": "a\ncat", "tags": ["x"], "sha256": "AB" * 32},
        {"url": "https://h/2", "id": 7, "alt": " ", "tags": None, "sha256": "none"},
        {"url": "https://h/3", "alt": "\ud83d", "tags": {"é": float("nan")}},
    ]
    (files.folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [found] = planned(files, "a.jsonl", fields=("alt", "tags"))
    assert found.items == (
        Item("7", b"\xab" * 32, 0, url="https://h/1", fields={"alt": "a\ncat", "tags": '["x"]'}),
        Item("a.jsonl#1", b"", 0, url="https://h/2"),
        Item("a.jsonl#2", b"", 0, url="https://h/3", fields={"alt": "?", "tags": '{"é": NaN}'}),
    )
    assert decode_list(encode_list(found), 2**20) == found


def test_parquet_says_hashes_too_and_its_numbers_are_keys(files: TwinFiles) -> None:
    columns = {"link": ["https://h/1"], "image_id": [5], "sha256": ["00" * 32], "caption": ["x"]}
    write(files.folder / "a.parquet", columns)
    [found] = planned(files, "a.parquet", fields=("caption",))
    assert found.items == (Item("5", bytes(32), 0, url="https://h/1", fields={"caption": "x"}),)


def test_any_column_can_be_named(files: TwinFiles) -> None:
    (files.folder / "a.csv").write_text("where,what\nhttps://h/1,k\n")
    [found] = planned(files, "a.csv", url_column="where", key_column="what")
    assert found.items == (Item("k", b"", 0, url="https://h/1"),)
    with pytest.raises(ConfigError, match=r"`url_column`; there are: 'where', 'what'"):
        planned(files, "a.csv")
    with pytest.raises(ConfigError, match=r"`fields` names the column 'wht'.*'what'\?"):
        planned(files, "a.csv", url_column="where", fields=("wht",))


def test_a_row_that_is_too_short_has_no_address(files: TwinFiles) -> None:
    (files.folder / "a.csv").write_text("id,url\n1\n\n2,https://h/2,more\n")
    assert urls(planned(files, "a.csv")) == ["https://h/2"]


def test_lists_with_much_text_end_early(files: TwinFiles) -> None:
    (files.folder / "a.csv").write_text("url,t\n" + f"https://h/,{'z' * 8_000}\n" * 2_500)
    lists = planned(files, "a.csv", size=16_384, fields=("t",))
    assert len(lists) > 1
    assert len(urls(lists)) == 2_500


# --- bad tables


@pytest.mark.parametrize("text", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_empty_shard_has_no_images(files: TwinFiles, name: str, text: bytes) -> None:
    (files.folder / name).write_bytes(text)
    assert planned(files, name) == []


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.jsonl", b'{"url": "https://h/"}\n[1]\n', "line 2"),
        ("a.jsonl", b'{"url": "https://h/"}\n\n{"url": \n', "line 3"),
        ("a.jsonl", b'{"url": "caf\xe9"}\n', "line 1"),
        ("a.jsonl", b'{"url": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "line 1"),
        ("a.jsonl", b'{"url": "' + b"x" * 2_000_000 + b'"}\n', "line 1"),
        ("a.csv", b'url\n"https://h/', "line"),
        ("a.csv", b'url\nhttps://h/\n"a" b\n', "line 3"),
        ("a.csv", b"url\ncaf\xe9\n", "line"),
        ("a.csv", b"url\n" + b"x," * 1_000_000, "line 2: a row has over"),
        ("a.csv", b"url\n" + b'"x\n",' * 400_000, "a row has over"),
        ("a.csv", b'url\n"' + b"x\n" * 1_000_000, "line"),
        ("a.csv", b"url\n" + b"x" * 200_000, "field larger than"),
    ],
)
def test_a_line_that_is_none_is_named_and_not_passed_over(files: TwinFiles, name: str, text: bytes, line: str) -> None:
    (files.folder / name).write_bytes(text)
    with pytest.raises(ConfigError, match=f"{name} is no table: .*{line}"):
        planned(files, name)


def test_what_is_no_parquet_file_says_so(files: TwinFiles) -> None:
    (files.folder / "a.parquet").write_text("url\nhttps://h/\n")
    with pytest.raises(ConfigError, match="no Parquet file"):
        planned(files, "a.parquet")
    with pytest.raises(SourceGone):
        planned(files, "none.csv")


# --- size

GROWTH = """
import resource, sys, trio
from pathlib import Path
from p2pcap.sources import tables
from p2pcap.sources.locations import DataFile
from p2pcap.sources.spec import Images
from tests.sources.twin import TwinFiles

class Files(TwinFiles):
    async def save(self, location, start, length, file):
        with self._path(location).open("rb") as whole:
            whole.seek(start)
            for at in range(0, length, 2**20):
                file.write(whole.read(min(2**20, length - at)))

async def count():
    total = 0
    async for found in tables.plan(Files(Path(sys.argv[1])), DataFile(sys.argv[2]), Images(source=""), 1024):
        total += len(found.items)
    return total

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(trio.run(count), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_memory_does_not_grow_with_the_table(files: TwinFiles, name: str) -> None:
    rows = 200_000
    addresses = [f"https://example.org/{'x' * 100}/{number}.jpg" for number in range(rows)]
    if name == "a.parquet":
        write(files.folder / name, {"url": addresses}, groups=50_000)
    elif name == "a.csv":
        (files.folder / name).write_text("url\n" + "\n".join(addresses))
    else:
        (files.folder / name).write_text("\n".join(f'{{"url": "{url}"}}' for url in addresses))
    command = [sys.executable, "-c", GROWTH, str(files.folder), name]
    total, grown, other = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert total == rows
    assert grown < 20 * 1024, "the addresses alone are 25 MB"
    assert other < 200 * 1024, "the process that reads Parquet has Python and pyarrow in it"


def test_no_row_is_lost_behind_the_first_ones(files: TwinFiles) -> None:
    rows = 2 * text_tables.FIRST_ROWS
    (files.folder / "a.jsonl").write_text("".join(f'{{"url": "{number}"}}\n' for number in range(rows)))
    assert urls(planned(files, "a.jsonl")) == [str(number) for number in range(rows)]


def test_columns_of_json_lines_are_those_of_the_first_objects(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    with (tmp_path / "a.jsonl").open("rb") as file:
        table = text_tables.json_table(file)
        assert list(table.columns) == ["a", "b"]
        assert list(table.rows) == [{"a": 1}, {"b": 2}]
