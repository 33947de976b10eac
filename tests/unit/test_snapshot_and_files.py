"""Results of queries in files, copies of the database, and what a running node adds to both."""

import json
import shutil
from pathlib import Path

import duckdb
import lance
import pandas as pd
import pyarrow.parquet as pq
import pytest

from p2pcap.cli.main import run
from p2pcap.errors import FrameError, StoreError
from p2pcap.store.comparing import differences
from p2pcap.store.copying import write_copy
from p2pcap.store.database import reading
from tests.unit.control_node import SNAPSHOT, running, runtime
from tests.unit.export_ledger import CAPTIONS, KEYS, PROJECT, captioned, kept
from tests.unit.store_project import BOB, database

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

FORMATS = ("jsonl", "csv", "parquet", "kohya", "txt", "json", "imagefolder", "webdataset", "all")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "node"


def ok(*arguments: object) -> None:
    assert run(list(map(str, arguments))) == 0


def bytes_in(path: Path) -> dict[str, bytes]:
    """What a file or a folder holds."""
    found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    return {str(one.relative_to(path)): one.read_bytes() for one in found}


def test_a_running_node_exports_what_its_file_does(node: Path, tmp_path: Path) -> None:
    with running(node, captioned()):
        for form in FORMATS:
            ok("export", form, tmp_path / f"live.{form}", "--node", node)
    for form in FORMATS:
        ok("export", form, tmp_path / f"ended.{form}", "--node", node)
        assert bytes_in(tmp_path / f"live.{form}") == bytes_in(tmp_path / f"ended.{form}"), form


def test_two_nodes_write_the_same_in_every_format(tmp_path: Path) -> None:
    """Results came in another order, and so have other numbers in their files."""
    writes, granted = [*PROJECT.blobs, *captioned()], len(PROJECT.blobs) + len(PROJECT.setup)
    nodes = [
        kept(tmp_path / "one", writes),
        kept(tmp_path / "other", [*writes[:granted], *reversed(writes[granted:])]),
    ]
    for number, one in enumerate(nodes):
        to = tmp_path / f"out{number}"
        for folder in (to, to / "attribution"):
            folder.mkdir()
        for form in FORMATS:
            ok("export", form, to / form, "--errors", "--node", one)
        ok("export", "jsonl", to / "proven", "--proofs", "--node", one)
        ok("export", "attribution", to / "attribution", "--node", one)
        ok("export", "lance", to / "lance", "--node", one)
        ok("proof", "0/3", to / "single", "--node", one)
    rows = [lance.dataset(str(tmp_path / f"out{number}" / "lance")).to_table().to_pylist() for number in range(2)]
    assert rows[0] == rows[1]
    for number in range(2):
        shutil.rmtree(tmp_path / f"out{number}" / "lance")  # its files' names are random
    first, second = (bytes_in(tmp_path / f"out{number}") for number in range(2))
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_a_result_goes_into_a_file(node: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(node, captioned())
    sql = "SELECT key, caption, fields, time, final, image FROM captions ORDER BY chunk, item"
    for ending in ("parquet", "csv", "jsonl"):
        ok("query", sql, "--to", tmp_path / f"out.{ending}", "--node", node)
        assert "32 rows" in capsys.readouterr().err
    from_csv = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    from_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    from_parquet = pq.read_table(tmp_path / "out.parquet").to_pylist()
    for found in (from_csv.to_dict("records"), from_json, from_parquet):
        assert [row["key"] for row in found][: len(KEYS)] == list(KEYS)
        assert [row["caption"] for row in found][: len(CAPTIONS)] == list(CAPTIONS)


def test_a_file_that_lacks_rows_is_a_failure(
    node: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(node, captioned())
    sql = "SELECT key FROM captions"
    ok("query", sql, "--to", tmp_path / "few.csv", "--rows", 3, "--node", node)
    monkeypatch.setattr("p2pcap.cli.query.ALL_ROWS", 5)
    assert run(["query", sql, "--to", str(tmp_path / "cut.csv"), "--node", str(node)]) == 1
    assert "more than 5 rows" in capsys.readouterr().err
    assert run(["query", sql, "--to", str(tmp_path / "few.csv"), "--node", str(node)]) == 2
    assert run(["query", sql, "--to", str(tmp_path / "out.xlsx"), "--node", str(node)]) == 2
    assert run(["query", "DELETE FROM item", "--to", str(tmp_path / "out.csv"), "--node", str(node)]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.csv", "few.csv", "node"]


def test_peers_are_there_while_the_node_runs(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT peer, name, rtt, since, relayed FROM peers"
    with running(node, captioned()):
        ok("query", sql, "--json", "--node", node)
        (found,) = json.loads(capsys.readouterr().out)
        (peer,) = SNAPSHOT.peers
        assert found == {
            "peer": BOB.peer_id,
            "name": peer.name,
            "rtt": 0.012,
            "since": "2027-01-15T08:00:00",
            "relayed": True,
        }
    ok("query", sql, "--json", "--node", node)
    assert json.loads(capsys.readouterr().out) == []


def test_batches_larger_than_a_frame_come_whole(node: Path, tmp_path: Path) -> None:
    with running(node, captioned()):
        ok("query", "SELECT repeat('x', 1000) AS t FROM range(3000)", "--to", tmp_path / "out.parquet", "--node", node)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 3_000


def test_images_say_what_became_of_them(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(node, captioned())
    ok(
        "query",
        "SELECT captioned, failed, count(*) AS n FROM images GROUP BY ALL ORDER BY ALL",
        "--json",
        "--node",
        node,
    )
    assert json.loads(capsys.readouterr().out) == [
        {"captioned": 0, "failed": 1, "n": 1},
        {"captioned": 1, "failed": 0, "n": 31},
    ]


def test_a_copy_is_the_database(node: Path, tmp_path: Path) -> None:
    with running(node, captioned()):
        ok("snapshot", tmp_path / "live.duckdb", "--node", node)
    ok("snapshot", tmp_path / "ended.duckdb", "--node", node)
    for name in ("live.duckdb", "ended.duckdb"):
        with duckdb.connect(database(node), read_only=True) as one, duckdb.connect(tmp_path / name) as other:
            assert list(differences(one, other)) == []
            count = "SELECT count(*) FROM captions"
            assert one.execute(count).fetchall() == other.execute(count).fetchall()
    with reading(tmp_path / "live.duckdb"):
        pass  # it is a database of p2pcap, of this schema
    assert run(["snapshot", str(tmp_path / "live.duckdb"), "--node", str(node)]) == 2
    ok("snapshot", tmp_path / "live.duckdb", "--force", "--node", node)


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FrameError):
        write_copy(tmp_path / "copy.duckdb", [("no table", b"")])
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        write_copy(tmp_path / "folder", [])
