"""A database of an older version: brought up to date without loss, or left alone. tests/data/README.md says where the
old files are from."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import pytest
import trio
import zstandard

from p2pcap.codec import decode_plain
from p2pcap.envelope import open_envelope
from p2pcap.errors import StoreError
from p2pcap.store import migrations, schema
from p2pcap.store.database import connect_writer, reading
from p2pcap.store.fsck import check
from p2pcap.store.reads import Contribution
from p2pcap.store.store import Store
from tests.unit.store_project import ADA, BOB, EVE, database, sample

DATA = Path(__file__).parent.parent / "data"
TABLE_HASH = "76a31febdbf9ce6d6dd70c8403c98abbd134bc0f11224713db6f495a9d6226cb"
PROJECT = sample(chunks=3, images=128)

ADMITTED_TWICE = {"statement", "author"}
"""What p2pcap.store.fsck finds to put right in the file of schema 1: Ada joined twice there, and now counts once."""


def unpacked(version: int, folder: Path) -> Path:
    """A file of that schema, alone in its folder."""
    path = database(folder)
    path.write_bytes(zstandard.ZstdDecompressor().decompress((DATA / f"ledger-{version}.duckdb.zst").read_bytes()))
    with duckdb.connect(path) as connection:
        _sign_again(connection)
    return path


def _sign_again(connection: duckdb.DuckDBPyConnection) -> None:
    """The old files' plan is of a form that no release ever wrote: today's manifest and plan of that project and that
    task stand in their place. Everything else in the files is as it was."""
    project = PROJECT.project
    manifest = project.manifest_envelope
    ((old,),) = connection.execute("SELECT envelope FROM statement WHERE kind = 'manifest'").fetchall()
    plan = decode_plain(open_envelope(old).payload)["plan"]
    connection.execute(
        "UPDATE statement SET id = ?, author = ?, envelope = ? WHERE kind = 'manifest'",
        [manifest.id, manifest.author, manifest.data],
    )
    connection.execute("DELETE FROM blob WHERE hash = ?", [plan])
    connection.execute("INSERT INTO blob VALUES (?, ?)", [project.manifest.plan, project.plan_data])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of schema 1."""
    return unpacked(1, tmp_path)


def columns(path: Path) -> list[tuple[str, str, str, bool]]:
    query = """SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal
        ORDER BY table_name, column_index"""
    with duckdb.connect(path, read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_the_ledger_of_the_version_before_is_still_the_same(old: Path) -> None:
    async def run() -> None:
        store = Store.open(old)
        assert await store.table_hash() == TABLE_HASH
        loaded = await store.load()
        assert loaded.root == PROJECT.project.root_envelope.data
        assert (len(loaded.grants), len(loaded.results), loaded.item_lists) == (4, 8, frozenset({0, 1, 2}))
        assert [result.checked for result in loaded.results].count(False) == 1
        errors = {result.author: 0 for result in loaded.results}
        for result in loaded.results:
            errors[result.author] |= result.errors
        assert errors == {
            ADA.public: sum(1 << item for item in range(0, 30, 3)),
            BOB.public: (1 << 12) - 1,
            EVE.public: 1 << 60,
        }
        assert {one.name for one in await store.contributions()} == {"Countess", "Bob", ""}
        await store.close()

    trio.run(run)


def test_errors_that_one_author_said_are_open_again(old: Path) -> None:
    """Ada called every third of 30 items an error, Bob the first twelve; Eve answered two of these and failed at 60."""
    connect_writer(old).close()
    with reading(old) as readers, readers.lend() as cursor:
        query = "SELECT item, final FROM captions WHERE chunk = 1 AND error IS NOT NULL ORDER BY item"
        found = dict(cursor.execute(query).fetchall())
    both = {0, 3, 9}  # Eve answered 6, and Ada everything else below twelve
    assert found == {item: item in both for item in [0, 3, 9, *range(12, 30, 3), 60]}


@pytest.mark.parametrize("version", range(1, schema.SCHEMA))
def test_a_migrated_file_is_as_if_made_anew(version: int, tmp_path: Path) -> None:
    old = unpacked(version, tmp_path)
    connect_writer(old).close()
    fresh = tmp_path / "fresh" / "ledger.duckdb"
    connect_writer(fresh).close()
    assert columns(old) == columns(fresh)
    report = check(old, lambda what, done, total: None)
    assert ([line.split()[0] for line in report.left_out], report.notes) == (["grant"] * (version == 1), [])
    assert {one.table for one in report.differences} == (ADMITTED_TWICE if version == 1 else set())


def test_a_file_of_schema_2_keeps_its_rulings_and_all_its_bodies(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(unpacked(2, tmp_path))
        assert await store.table_hash() == "70d0cb9376add9fb595a2f227839bc3104b1b856590dd5a2f8c8a48a4aa47e72"
        assert await store.dropped() == set()
        loaded = await store.load()
        assert ([result.checked for result in loaded.results].count(False), len(loaded.seals)) == (2, 1)
        assert all(one.rows == one.held for one in await store.contributions())
        await store.close()

    trio.run(run)


def test_a_file_of_schema_3_keeps_its_images_and_takes_a_body_back(tmp_path: Path) -> None:
    gone = PROJECT.batch(EVE, 0, [PROJECT.row(0, 110), PROJECT.error(0, 111)])

    async def run() -> None:
        store = Store.open(unpacked(3, tmp_path))
        assert await store.dropped() == {gone.envelope.id}
        assert await store.items(2) == PROJECT.items[2]
        await store.commit(gone)
        assert await store.table_hash() == "9ff173f10283c9366d066171c007ed1180a522dd456d45e740c7529c479be5bf"
        with store.readers.lend() as cursor:
            query = "SELECT chunk, item, image, url, file, place, fields FROM captions"
            for chunk, item, image, *said in cursor.execute(query).fetchall():
                assert (image, said) == (PROJECT.items[chunk][item].hash.hex(), [None] * 4)
            errors = "SELECT chunk, item, tries FROM failures WHERE chunk < 2 ORDER BY ALL"
            assert cursor.execute(errors).fetchall() == [(0, 111, 1), *((1, item, 2) for item in range(4)), (1, 9, 1)]
            assert cursor.execute("SELECT count(image) FROM candidate").fetchall() == [(0,)]
        await store.close()

    trio.run(run)


def test_in_a_file_of_schema_4_the_one_task_is_the_one_that_is_asked(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(unpacked(4, tmp_path))
        with store.readers.lend() as cursor:
            assert cursor.execute("SELECT stage, place FROM task").fetchall() == [("", 0)]
            ((shown, all_),) = cursor.execute(
                "SELECT (SELECT count(*) FROM captions), (SELECT count(*) FROM history)"
            ).fetchall()
            assert shown == all_ > 0
        await store.commit(PROJECT.batch(EVE, 0, [PROJECT.row(0, 110), PROJECT.error(0, 111)]))
        assert await store.table_hash() == "9ff173f10283c9366d066171c007ed1180a522dd456d45e740c7529c479be5bf"
        await store.close()

    trio.run(run)


def test_the_old_file_is_kept(old: Path) -> None:
    before = old.read_bytes()
    connect_writer(old).close()
    assert old.with_name("ledger.duckdb.schema-1").read_bytes() == before
    connect_writer(old).close()
    assert sorted(path.name for path in old.parent.iterdir()) == ["ledger.duckdb", "ledger.duckdb.schema-1"]


def test_a_migrated_ledger_goes_on(old: Path) -> None:
    more = PROJECT.slice(EVE, 2, 0, 32)

    async def run() -> None:
        store = Store.open(old)
        await store.commit(more, PROJECT.slice(ADA, 1, 60, 1))
        shares = {one.peer_id: one for one in await store.contributions()}
        assert shares[EVE.peer_id].rows >= 96
        rows = shares[ADA.peer_id].rows
        assert shares[ADA.peer_id] == Contribution(ADA.peer_id, "Countess", rows, 9, rows)
        await store.close()

    trio.run(run)
    assert {one.table for one in check(old, lambda what, done, total: None).differences} == ADMITTED_TWICE


def test_reading_an_old_file_says_what_to_do(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(StoreError, match="Start its node once"), reading(old):
        pass
    with pytest.raises(StoreError, match="Start its node once"):
        check(old, lambda what, done, total: None)
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def test_without_room_for_the_copy_nothing_is_changed(
    old: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    before = old.read_bytes()
    with full_disk(), pytest.raises(StoreError, match="no copy of it could be made"):
        connect_writer(old)
    monkeypatch.setattr(migrations, "MARGIN", 2**60)
    with pytest.raises(StoreError, match="no room on the disk"):
        connect_writer(old)
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def test_a_step_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("DELETE FROM statement")
        connection.execute("SELECT * FROM nothing")

    before = old.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 1: fails})
        with pytest.raises(StoreError, match=r"What it held before is in ledger\.duckdb\.schema-1"):
            connect_writer(old)
    assert {path.name: path.read_bytes() for path in old.parent.iterdir()} == {
        "ledger.duckdb": before,
        "ledger.duckdb.schema-1": before,
    }
    connect_writer(old).close()
    with duckdb.connect(old, read_only=True) as connection:
        assert connection.execute("SELECT schema FROM meta").fetchall() == [(schema.SCHEMA,)]


def test_every_older_schema_has_a_step() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, schema.SCHEMA))
