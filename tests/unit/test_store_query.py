"""SQL from people: what it may see, what it may not do, and that it holds up nobody."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import trio

from p2pcap.errors import QueryError, StoreError
from p2pcap.store.database import reading
from p2pcap.store.query import BATCH_ROWS, Limits, arrow_stream, select
from p2pcap.store.readers import Readers
from p2pcap.store.store import Store
from tests.unit.store_project import ADA, BOB, database, sample

FAST = Limits(rows=10_000, seconds=20.0)
ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000) b"


async def fill(store: Store) -> None:
    project = sample()
    await store.commit(*project.setup, project.grant(ADA, "Ada"))
    await store.commit(project.slice(ADA, 0, 0, 64))
    rows = [project.error(1, 0), project.row(1, 1)]
    await store.commit(project.batch(BOB, 1, rows))


@contextmanager
def filled(directory: Path) -> Iterator[Readers]:
    async def make() -> None:
        store = Store.open(database(directory))
        await fill(store)
        await store.close()

    trio.run(make)
    with reading(database(directory)) as readers:
        yield readers


def rows(readers: Readers, sql: str, limits: Limits = FAST) -> list[dict[str, object]]:
    with select(readers, sql, limits) as found:
        return [row for batch in found for row in batch.to_pylist(maps_as_pydicts="strict")]


def test_the_views_say_what_was_signed(tmp_path: Path) -> None:
    with filled(tmp_path) as readers:
        first, error = rows(readers, "SELECT * FROM captions WHERE (chunk, item) IN ((0, 5), (1, 0)) ORDER BY chunk")
        assert first["key"] == "photos/000/00005.png"
        assert (first["chunk"], first["item"], first["caption"]) == (0, 5, "a red circle 0/5")
        assert first["answers"] == {"describe": "a red circle 0/5", "objects": "circle"}
        assert (first["tokens"], first["finish"], first["error"]) == (8, "length", None)
        assert (first["author"], first["author_name"], first["model"]) == (ADA.peer_id, "Ada", "tiny-shapes")
        assert str(first["time"]) == "2027-01-15 08:00:00"
        assert (error["caption"], error["answers"], error["finish"]) == (None, None, None)
        assert (error["error"], error["reason"]) == ("undecodable", "the bytes are no image")
        assert (first["sealed"], first["final"], error["final"]) == (None, True, False)
        assert rows(readers, "SELECT prompt, text, tokens, finish FROM answers WHERE chunk = 1 ORDER BY prompt") == [
            {"prompt": "describe", "text": "a red circle 1/1", "tokens": 7, "finish": "stop"},
            {"prompt": "objects", "text": "circle", "tokens": 1, "finish": "length"},
        ]
        contributors = rows(readers, "SELECT author, rows, held, errors, tokens FROM contributors ORDER BY rows")
        assert contributors == [
            {"author": BOB.peer_id, "rows": 2, "held": 2, "errors": 1, "tokens": 8},
            {"author": ADA.peer_id, "rows": 64, "held": 64, "errors": 0, "tokens": 512},
        ]
        assert rows(readers, "SELECT * FROM chunks ORDER BY chunk") == [
            {"chunk": 0, "images": 64, "done": 64, "held": 64, "errors": 0, "redacted": 0, "stage": "caption"},
            {"chunk": 1, "images": 64, "done": 2, "held": 2, "errors": 1, "redacted": 0, "stage": "caption"},
        ]
        granted = rows(readers, "SELECT author_name, granted FROM authors ORDER BY granted NULLS LAST")
        assert [row["author_name"] for row in granted] == ["Ada", ""]
        assert granted[1]["granted"] is None


REFUSED = [
    "",
    "-- nothing",
    "SELECT 1; SELECT 2",
    "SELECT 1; DELETE FROM candidate",
    "DELETE FROM candidate",
    "WITH gone AS (DELETE FROM candidate RETURNING *) SELECT * FROM gone",
    "WITH new AS (INSERT INTO chunk VALUES (9, 9) RETURNING *) SELECT * FROM new",
    "WITH other AS (UPDATE author SET name = 'Eve' RETURNING *) SELECT * FROM other",
    "CREATE TABLE cats (name VARCHAR)",
    "CREATE TEMP TABLE cats AS SELECT 1",
    "DROP VIEW captions",
    "ATTACH '/tmp/other.duckdb'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "COPY captions TO '/tmp/p2pcap-stolen.csv'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 64",
    "RESET memory_limit",
    "PRAGMA enable_profiling",
    "CALL enable_logging()",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM force_checkpoint()",
    "CHECKPOINT",
    "BEGIN",
    "COMMIT",
    "EXPORT DATABASE '/tmp/p2pcap-stolen'",
    "SELECT nope FROM captions",
    "SELEC 1",
    "SELECT ?",
    "SELECT error('on purpose')",
    "SELECT '" + "x" * 70_000 + "'",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_nothing_but_one_harmless_select_runs(tmp_path: Path, sql: str) -> None:
    async def run() -> None:
        store = Store.open(database(tmp_path))
        await fill(store)
        before = await store.table_hash()
        with pytest.raises(QueryError) as caught:
            rows(store.readers, sql)
        assert len(str(caught.value)) > 20
        assert await store.table_hash() == before
        assert rows(store.readers, "SELECT count(*) AS n FROM chunk") == [{"n": 2}]
        await store.close()

    trio.run(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.duckdb"]


def test_duckdbs_own_words_reach_the_user(tmp_path: Path) -> None:
    with filled(tmp_path) as readers, pytest.raises(QueryError, match=r'"nope" not found.*\nCandidate bindings'):
        rows(readers, "SELECT nope FROM captions")


def test_rows_are_capped_and_it_is_said(tmp_path: Path) -> None:
    with filled(tmp_path) as readers:
        for limit, truncated in ((65, True), (66, False), (67, False)):
            with select(readers, "SELECT key FROM captions", Limits(limit, 20)) as found:
                assert sum(batch.num_rows for batch in found) == min(limit, 66)
                assert (found.rows, found.truncated) == (min(limit, 66), truncated)


def test_a_cap_at_a_batchs_end_is_seen(tmp_path: Path) -> None:
    with filled(tmp_path) as readers, select(readers, "FROM range(5000)", Limits(BATCH_ROWS, 20)) as found:
        assert sum(batch.num_rows for batch in found) == BATCH_ROWS
        assert found.truncated


def test_a_huge_result_is_streamed(tmp_path: Path) -> None:
    """Ten million million rows: only what is read is made."""
    with filled(tmp_path) as readers, select(readers, "FROM range(10000000000000)", FAST) as found:
        assert sum(batch.num_rows for batch in found) == FAST.rows


@pytest.mark.parametrize("sql", [ENDLESS, "SELECT * FROM range(10000000000000) WHERE range < 0"])
def test_a_query_that_runs_too_long_is_stopped(tmp_path: Path, sql: str) -> None:
    with filled(tmp_path) as readers, pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
        rows(readers, sql, Limits(10, 0.2))


def test_a_reader_that_dawdles_is_stopped(tmp_path: Path) -> None:
    with filled(tmp_path) as readers, select(readers, "FROM range(10000000000000)", Limits(10**9, 0.2)) as found:
        with pytest.raises(QueryError, match="stopped"):
            for _ in found:
                pass


def test_an_error_after_the_first_rows_is_the_querys_too(tmp_path: Path) -> None:
    late = "SELECT CASE WHEN range = 4000000 THEN error('too late') ELSE 'fine' END FROM range(5000000)"
    with filled(tmp_path) as readers, select(readers, late, Limits(10**9, 60)) as found:
        batches = iter(found)
        assert next(batches).num_rows == BATCH_ROWS
        with pytest.raises(QueryError, match="too late"):
            list(batches)


def test_what_happens_to_the_reader_is_not_the_querys_fault(tmp_path: Path) -> None:
    def read() -> None:
        with filled(tmp_path) as readers, select(readers, "SELECT 1", FAST) as found:
            for _ in found:
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        read()


@pytest.mark.parametrize("before", [True, False])
def test_another_thread_can_break_it_off(tmp_path: Path, before: bool) -> None:
    stop = threading.Event()

    def run(readers: Readers) -> None:
        with pytest.raises(QueryError, match="broken off"), select(readers, ENDLESS, Limits(10, 600), stop) as found:
            list(found)

    with filled(tmp_path) as readers:
        if before:
            stop.set()
        thread = threading.Thread(target=run, args=[readers])
        thread.start()
        stop.set()
        thread.join()


def test_the_writer_goes_on_while_a_query_runs(tmp_path: Path) -> None:
    project = sample()

    async def run() -> None:
        store = Store.open(database(tmp_path))
        await fill(store)
        with select(store.readers, "SELECT * FROM captions, range(10000)", FAST) as found:
            batches = iter(found)
            before = next(batches).num_rows
            await store.commit(project.slice(ADA, 1, 10, 32))
            assert (await store.contributions())[0].rows == 96
            assert before + sum(batch.num_rows for batch in batches) == FAST.rows
        await store.close()

    trio.run(run)


def test_a_query_sees_one_state_from_its_first_row_to_its_last(tmp_path: Path) -> None:
    project = sample(chunks=2, images=64)

    async def run() -> None:
        store = Store.open(database(tmp_path))
        await fill(store)
        with select(store.readers, "SELECT count(*) FROM captions, range(1000) GROUP BY range", FAST) as found:
            batches = iter(found)
            await store.commit(project.slice(ADA, 1, 10, 32))
            assert {value for batch in batches for value in batch.column(0).to_pylist()} == {66}
        await store.close()

    trio.run(run)


def test_closing_ends_running_queries(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(database(tmp_path))
        await fill(store)
        failed: list[str] = []

        def query() -> None:
            try:
                rows(store.readers, ENDLESS, Limits(10, 600))
            except (QueryError, StoreError) as error:
                failed.append(type(error).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, query)
            await trio.testing.wait_all_tasks_blocked()
            await store.close()
        assert len(failed) == 1
        assert not store.readers._lent

    trio.run(run)


def test_the_arrow_stream_is_what_was_asked(tmp_path: Path) -> None:
    sql = "SELECT item, caption FROM captions WHERE chunk = 0 ORDER BY item"
    with filled(tmp_path) as readers:
        with select(readers, sql, FAST) as found:
            data = b"".join(arrow_stream(found))
        table = pa.ipc.open_stream(data).read_all()
        assert table.to_pylist() == rows(readers, sql)
        with select(readers, "SELECT key FROM captions WHERE false", FAST) as found:
            empty = pa.ipc.open_stream(b"".join(arrow_stream(found))).read_all()
        assert (empty.num_rows, empty.column_names) == (0, ["key"])


def test_every_table_and_column_is_documented_and_nothing_else(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
    with filled(tmp_path) as readers:
        columns = rows(readers, "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal")
    documented = set(_documented(text))
    actual = {(row["table_name"], row["column_name"]) for row in columns}
    assert actual == {(table, column) for table, column, _ in documented}
    types = {(row["table_name"], row["column_name"]): row["data_type"] for row in columns}
    assert {place: types[place] for place in types} == {(table, column): kind for table, column, kind in documented}


def _documented(text: str) -> Iterator[tuple[str, str, str]]:
    """Table, column and type of each row of a table in docs/sql.md."""
    section = ""
    for line in text.splitlines():
        if line.startswith("### "):
            section = line[4:]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = next((cell for cell in cells if cell.startswith("`")), None)
        if line.startswith("|") and names is not None:
            table = section if cells[0] == names else cells[0]
            kind = cells[cells.index(names) + 1]
            for name in re.findall(r"`(\w+)`", names):
                yield table, name, kind


def test_a_reader_cannot_write_around_the_query(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(database(tmp_path))
        await fill(store)
        with store.readers.lend() as cursor, pytest.raises(duckdb.Error, match="read-only"):
            cursor.execute("DELETE FROM candidate")
        await store.close()

    trio.run(run)
