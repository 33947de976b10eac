"""Bodies that were checked and are not kept: what goes, what stays, and what a node says that has only a part."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from p2pcap.cli.main import run as run_command
from p2pcap.errors import StoreError
from p2pcap.export.proven_lines import write_proven
from p2pcap.store.canonical import runs
from p2pcap.store.fsck import check
from p2pcap.store.store import Store
from p2pcap.store.writes import DropBodies
from tests.unit.store_project import ADA, BOB, EVE, database, dropped, sample
from tests.unit.test_store import with_store

PROJECT = sample(chunks=2, images=128)
KEPT = PROJECT.slice(ADA, 0, 0, 64)
GONE = PROJECT.batch(BOB, 0, [*(PROJECT.row(0, item) for item in range(64, 100)), PROJECT.error(0, 100)])
LOST = PROJECT.slice(EVE, 0, 60, 40, "another text")

GRANTS = [PROJECT.grant(author, name) for author, name in ((ADA, "Ada"), (BOB, "Bob"), (EVE, ""))]


async def fill(store: Store) -> None:
    """`KEPT` and `GONE` win or lose some rows against `LOST`."""
    await store.commit(*PROJECT.setup, *GRANTS, KEPT, GONE, LOST)


def asked(store: Store, sql: str) -> list[Any]:
    with store.readers.lend() as cursor:
        return cursor.execute(sql).fetchall()


COUNTED = "SELECT chunk, item, lower(hex(s.id)), error FROM counted JOIN statement s USING (no) ORDER BY ALL"


def test_what_is_dropped_counts_as_before_also_after_a_restart(tmp_path: Path) -> None:
    before: list[object] = []

    async def first(store: Store) -> None:
        await fill(store)
        before.extend([asked(store, COUNTED), [one[:4] for one in map(_plain, await store.contributions())]])
        await store.commit(DropBodies([GONE.envelope.id, LOST.envelope.id]))
        await look(store)

    async def look(store: Store) -> None:
        assert await store.dropped() == {GONE.envelope.id, LOST.envelope.id}
        assert await store.bodies_missing(-1, 9) == []
        assert [asked(store, COUNTED), [one[:4] for one in map(_plain, await store.contributions())]] == before
        loaded = {one.id: one for one in (await store.load()).results}
        assert all(one.checked for one in loaded.values())
        assert loaded[GONE.envelope.id].errors == 1 << 100
        assert await store.body(KEPT.result.root) == KEPT.body
        assert await store.body(GONE.result.root) is None

    with_store(tmp_path, first)
    with_store(tmp_path, look)


def _plain(contribution: object) -> list[object]:
    return list(vars(contribution).values())


def test_queries_see_what_is_held_and_say_how_much_counts(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        await fill(store)
        [(total,)] = asked(store, "SELECT count(*) FROM captions")
        await store.commit(DropBodies([GONE.envelope.id, LOST.envelope.id]))
        [(held,)] = asked(store, "SELECT count(*) FROM captions")
        assert 0 < held < total == 101
        assert asked(store, "SELECT sum(done), sum(held) FROM chunks") == [(total, held)]
        assert asked(store, "SELECT sum(rows), sum(held) FROM contributors") == [(total, held)]
        assert sum(one.held for one in await store.contributions()) == held
        assert asked(store, "SELECT DISTINCT author_name FROM captions") == [("Ada",)]
        assert asked(store, "SELECT count(DISTINCT item) FROM answers") == [(held,)]

    with_store(tmp_path, use)


def test_a_body_comes_back_whole(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        await fill(store)
        table, text = await store.table_hash(), asked(store, "SELECT * FROM captions ORDER BY chunk, item")
        for drops in ([GONE], [GONE, LOST, KEPT], [KEPT]):
            ids = [put.envelope.id for put in drops]
            await store.commit(DropBodies(ids))
            assert await store.dropped() == set(ids)
            await store.commit(*drops)
        assert await store.dropped() == set()
        assert await store.table_hash() == table
        assert asked(store, "SELECT * FROM captions ORDER BY chunk, item") == text
        assert await store.body(GONE.result.root) == GONE.body

    with_store(tmp_path, use)


def test_said_twice_or_of_what_is_not_there_a_drop_changes_nothing(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        await fill(store)
        never = PROJECT.slice(BOB, 1, 0, 64)
        for _ in range(2):
            await store.commit(DropBodies([GONE.envelope.id, GONE.envelope.id, never.envelope.id, b"x" * 32]))
        assert asked(store, "SELECT count(*) FROM dropped") == [(1,)]
        await store.commit(DropBodies([LOST.envelope.id]), LOST)  # dropped and said again in one transaction
        assert asked(store, "SELECT count(*) FROM dropped") == [(1,)]
        await store.commit(GONE, DropBodies([GONE.envelope.id]), never, DropBodies([never.envelope.id]))
        assert await store.dropped() == {GONE.envelope.id, never.envelope.id}
        assert asked(store, "SELECT count(*) FROM candidate") == [(64 + 37 + 40 + 64,)]

    with_store(tmp_path, use)


def test_what_was_dropped_can_be_redacted(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        await fill(store)
        await store.commit(DropBodies([GONE.envelope.id]))
        await store.commit(dropped([GONE], 0, 1 << 70))
        assert await store.dropped() == set()
        assert asked(store, "SELECT count(*) FROM dropped") == [(0,)]
        await store.commit(GONE)
        assert await store.body(GONE.result.root) is None

    with_store(tmp_path, use)


def test_of_two_results_with_one_root_the_held_one_is_served(tmp_path: Path) -> None:
    twin = PROJECT.batch(EVE, 0, GONE.rows)
    assert twin.result.root == GONE.result.root

    async def use(store: Store) -> None:
        await store.commit(GONE, twin)
        await store.commit(DropBodies([GONE.envelope.id]))
        assert await store.body(GONE.result.root) == twin.body

    with_store(tmp_path, use)


def test_export_and_table_hash_say_why_they_cannot(tmp_path: Path) -> None:
    said = r"holds 63 % of the captions \(64 of 101\).*--store full"

    async def use(store: Store) -> None:
        await fill(store)
        await store.commit(DropBodies([LOST.envelope.id]))
        if [won for won in asked(store, COUNTED) if won[2] == LOST.envelope.id.hex()]:
            await store.commit(LOST)
        else:
            assert len(await store.table_hash()) == 64  # what is gone has lost anyway
        await store.commit(dropped([LOST], 1, 1), DropBodies([GONE.envelope.id]))
        with pytest.raises(StoreError, match="join --store full"):
            await store.table_hash()
        with store.readers.lend() as cursor, pytest.raises(StoreError, match="join --store full"):
            write_proven(runs(cursor), tmp_path / "captions.jsonl")
        assert not (tmp_path / "captions.jsonl").exists()

    async def alone(store: Store) -> None:
        await store.commit(*PROJECT.setup, KEPT, GONE)
        await store.commit(DropBodies([GONE.envelope.id]))
        with pytest.raises(StoreError, match=said):
            await store.table_hash()

    with_store(tmp_path / "contested", use)
    with_store(tmp_path / "alone", alone)


def test_the_commands_say_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def use(store: Store) -> None:
        await store.commit(*PROJECT.setup, *GRANTS, KEPT, GONE)
        await store.commit(DropBodies([GONE.envelope.id]))

    with_store(tmp_path, use)
    for command in (["export", "jsonl", str(tmp_path / "captions.jsonl")], ["export", "jsonl", "-"], ["table-hash"]):
        assert run_command([*command, "--node", str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "holds 63 % of the captions" in err
    assert not (tmp_path / "captions.jsonl").exists()


def test_fsck_takes_over_what_was_known_of_dropped_bodies(tmp_path: Path) -> None:
    found: list[object] = []

    async def first(store: Store) -> None:
        await fill(store)
        await store.commit(DropBodies([GONE.envelope.id, LOST.envelope.id]))
        found.append(asked(store, COUNTED))

    async def again(store: Store) -> None:
        assert [asked(store, COUNTED)] == found
        assert await store.dropped() == {GONE.envelope.id, LOST.envelope.id}
        await store.commit(GONE, LOST)
        assert len(await store.table_hash()) == 64

    with_store(tmp_path, first)
    report = check(database(tmp_path), lambda what, done, total: None)
    assert (report.left_out, report.differences, report.notes) == ([], [], [])
    spoil(tmp_path, "DELETE FROM superseded")
    assert check(database(tmp_path), lambda what, done, total: None, repair=True).kept is not None
    with_store(tmp_path, again)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM candidate WHERE item = 70 AND texts = []",
        "UPDATE candidate SET item = 5 WHERE item = 70 AND texts = []",
        "DELETE FROM candidate WHERE texts = []",
    ],
)
def test_what_is_known_of_a_dropped_body_must_fit_its_header(tmp_path: Path, sql: str) -> None:
    async def first(store: Store) -> None:
        await store.commit(*PROJECT.setup, PROJECT.grant(BOB, ""), GONE)
        await store.commit(DropBodies([GONE.envelope.id]))

    async def again(store: Store) -> None:
        assert [one.envelope.id for one in await store.bodies_missing(-1, 9)] == [GONE.envelope.id]  # so it is fetched

    with_store(tmp_path, first)
    spoil(tmp_path, sql)
    report = check(database(tmp_path), lambda what, done, total: None, repair=True)
    assert report.left_out == [
        f"the rows of result {GONE.envelope.id.hex()[:16]}: they are not the items its header covers"
    ]
    with_store(tmp_path, again)


def spoil(directory: Path, sql: str) -> None:
    with duckdb.connect(database(directory)) as connection:
        assert connection.execute(sql).fetchall() != [(0,)]


def test_a_drop_that_fails_drops_nothing(tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]) -> None:
    async def use(store: Store) -> None:
        await fill(store)
        with full_disk(), pytest.raises(StoreError, match="room"):
            await store.commit(DropBodies([GONE.envelope.id]))
        assert await store.dropped() == set()
        assert await store.body(GONE.result.root) == GONE.body
        await store.commit(DropBodies([GONE.envelope.id]))

    async def look(store: Store) -> None:
        assert await store.dropped() == {GONE.envelope.id}

    with_store(tmp_path, use)
    with_store(tmp_path, look)


def test_a_file_from_which_duckdb_cut_free_blocks_is_not_damaged(tmp_path: Path) -> None:
    """Its header still counts them: any deletion may leave a file like that."""

    async def first(store: Store) -> None:
        await fill(store)

    async def again(store: Store) -> None:
        assert await store.body(KEPT.result.root) == KEPT.body

    with_store(tmp_path, first)
    path = database(tmp_path)
    for number in range(8):
        spoil(tmp_path, f"CREATE TABLE more_{number} AS SELECT random() AS x FROM range(100000)")
    for number in range(8):
        spoil(tmp_path, f"DROP TABLE more_{number}")
    with duckdb.connect(path, read_only=True) as connection:
        [(blocks, size)] = connection.execute("SELECT total_blocks, block_size FROM pragma_database_size()").fetchall()
    assert path.stat().st_size < blocks * size
    with_store(tmp_path, again)
