"""The database file between processes and after a crash: with real processes and real kills."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb
import pytest
import trio

from p2pcap.errors import StoreError
from p2pcap.store.database import reading
from p2pcap.store.schema import SCHEMA
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob
from tests.unit.store_project import database, sample

FullDisk = Callable[[], AbstractContextManager[None]]
ROUNDS = 4
CHUNKS = 40

WRITER = """
import sys
from pathlib import Path
import trio
from p2pcap.store.store import Store
from tests.unit.store_project import ADA, BOB, database, sample

project = sample(chunks=40, images=64)

async def slices(store, author, numbers):
    for number in numbers:
        await store.commit(project.slice(author, number, 0, 64, author.peer_id))
        print(author.peer_id, number, flush=True)

async def main():
    store = Store.open(database(Path(sys.argv[1])))
    await store.commit(*project.setup)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slices, store, ADA, range(40))
        nursery.start_soon(slices, store, BOB, reversed(range(40)))

trio.run(main)
"""

HOLDER = """
import sys
from pathlib import Path
from p2pcap.store.store import Store
from tests.unit.store_project import database

Store.open(database(Path(sys.argv[1])))
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def python(code: str, directory: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: set[tuple[str, int]] = set()
    for round_ in range(ROUNDS):
        with python(WRITER, tmp_path) as process:
            assert process.stdout is not None
            for _ in range(5 + 7 * round_):
                author, number = process.stdout.readline().split()
                acknowledged.add((author, int(number)))
            process.send_signal(signal.SIGKILL)
            for line in process.stdout.read().splitlines():
                author, number = line.split()
                acknowledged.add((author, int(number)))
        assert process.returncode == -signal.SIGKILL
        with reading(database(tmp_path)) as readers, readers.lend() as cursor:
            rows = cursor.execute(
                """SELECT a.peer_id, c.chunk, count(*), count(DISTINCT c.item), any_value(c.texts[1]) FROM candidate c
                JOIN batch b USING (no) JOIN author a USING (author_no) GROUP BY ALL"""
            ).fetchall()
            assert cursor.execute("SELECT sum(images)::INT, count(*) FROM chunks").fetchall() == [(64 * CHUNKS, CHUNKS)]
        assert acknowledged <= {(author, chunk) for author, chunk, *_ in rows}
        assert all(count == distinct == 64 and author in text for author, _, count, distinct, text in rows)


def test_a_second_process_is_told_who_has_the_file(tmp_path: Path) -> None:
    with python(HOLDER, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=f"in use by process {process.pid}"):
            Store.open(database(tmp_path))
        with pytest.raises(StoreError, match=f"in use by process {process.pid}"), reading(database(tmp_path)):
            pass
        process.kill()


READER = """
import sys
from pathlib import Path
from p2pcap.store.database import reading
from tests.unit.store_project import database

with reading(database(Path(sys.argv[1]))) as readers, readers.lend() as cursor:
    print(cursor.execute("SELECT count(*) FROM chunk").fetchall()[0][0], flush=True)
    sys.stdin.read()
"""


def test_a_closed_file_has_several_readers_and_no_writer_beside_them(tmp_path: Path) -> None:
    trio.run(_make, tmp_path)
    with reading(database(tmp_path)) as readers, python(READER, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        with readers.lend() as cursor, pytest.raises(duckdb.Error, match="read-only"):
            cursor.execute("DELETE FROM statement")
        process.kill()


def test_a_file_that_is_being_read_is_not_written(tmp_path: Path) -> None:
    trio.run(_make, tmp_path)
    with python(READER, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        with pytest.raises(StoreError, match=f"in use by process {process.pid}"):
            Store.open(database(tmp_path))
        process.kill()


def test_a_file_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"), reading(database(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"no database" * 1000, b"x"])
def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    database(tmp_path).write_bytes(damage)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(database(tmp_path))
    assert database(tmp_path).read_bytes() == damage


def test_a_flipped_block_is_an_error_not_a_crash(tmp_path: Path) -> None:
    trio.run(_make, tmp_path)
    data = bytearray(database(tmp_path).read_bytes())
    data[4096:8192] = bytes(4096)
    data[0:4096] = bytes(4096)
    database(tmp_path).write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(database(tmp_path))


def test_a_second_store_in_one_process_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(database(tmp_path))
        with pytest.raises(StoreError, match="cannot be opened"):
            Store.open(database(tmp_path))
        await store.commit(*sample().setup)  # and the first goes on
        await store.close()

    trio.run(run)


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    database(tmp_path).touch()
    trio.run(_make, tmp_path)
    assert database(tmp_path).stat().st_size > 0


def test_a_newer_schema_asks_for_an_update(tmp_path: Path) -> None:
    trio.run(_make, tmp_path)
    with duckdb.connect(database(tmp_path)) as connection:
        connection.execute("UPDATE meta SET schema = ?, created_by = '9.9.9'", [SCHEMA + 1])
    with pytest.raises(StoreError, match=r"9\.9\.9, which is newer"):
        Store.open(database(tmp_path))


LOGGED = """
import os, sys
from pathlib import Path
import duckdb
from p2pcap.store.schema import SCHEMA
from tests.unit.store_project import database

connection = duckdb.connect(database(Path(sys.argv[1])))
connection.execute("UPDATE meta SET schema = ?, created_by = '9.9.9'", [SCHEMA + 1])
print("written", flush=True)
os._exit(0)
"""


def test_a_newer_file_is_not_written_to(tmp_path: Path) -> None:
    """Its last change lies in DuckDB's log, which opening the file would otherwise write back."""
    trio.run(_make, tmp_path)
    with python(LOGGED, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
    before = contents(tmp_path)
    assert len(before) == 2
    with pytest.raises(StoreError, match=r"9\.9\.9, which is newer"):
        Store.open(database(tmp_path))
    with pytest.raises(StoreError, match=r"9\.9\.9, which is newer"), reading(database(tmp_path)):
        pass
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("kept", [1, 5_000, 12_288, 300_000, 0.4, 0.8, 0.99])
def test_a_file_that_was_cut_short_is_refused_and_left_alone(tmp_path: Path, kept: float) -> None:
    trio.run(_make, tmp_path)
    whole = database(tmp_path).read_bytes()
    part = whole[: int(kept if kept >= 1 else kept * len(whole))]
    database(tmp_path).write_bytes(part)
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(database(tmp_path))
    with pytest.raises(StoreError, match="is damaged"), reading(database(tmp_path)):
        pass
    assert contents(tmp_path) == {"ledger.duckdb": part}


def test_on_a_full_disk_nothing_is_acknowledged_and_nothing_is_lost(tmp_path: Path, full_disk: FullDisk) -> None:
    async def run() -> None:
        store = Store.open(database(tmp_path))
        await store.commit(*sample().setup)
        with full_disk(), pytest.raises(StoreError, match="See that the disk has room"):
            await store.commit(PutBlob(b"late", b"x" * 100_000))
        await store.close()

    trio.run(run)
    with reading(database(tmp_path)) as readers, readers.lend() as cursor:
        assert cursor.execute("SELECT count(*) FROM chunks").fetchall() == [(2,)]
        assert cursor.execute("SELECT count(*) FROM blob WHERE hash = 'late'::BLOB").fetchall() == [(0,)]


def test_a_database_is_not_begun_on_a_full_disk(tmp_path: Path, full_disk: FullDisk) -> None:
    with full_disk(), pytest.raises(StoreError, match="See that the disk has room"):
        Store.open(database(tmp_path))
    trio.run(_make, tmp_path)  # and what was left of it is in nobody's way


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with duckdb.connect(database(tmp_path)) as connection:
        connection.execute("CREATE TABLE cats (name VARCHAR)")
    with pytest.raises(StoreError, match="not p2pcap's"):
        Store.open(database(tmp_path))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Check the folder"):
        Store.open(tmp_path / "file" / "ledger.duckdb")


def test_a_folder_of_somebody_else_is_named(closed: Path) -> None:
    with pytest.raises(StoreError, match="Check the folder"):
        Store.open(database(closed))
    with pytest.raises(StoreError, match="Check the folder"), reading(database(closed)):
        pass


def test_the_database_is_not_readable_by_others(tmp_path: Path) -> None:
    """Captions are public, but the folder also holds the key; nothing in it is for others."""
    trio.run(_make, tmp_path / "node")
    assert os.stat(tmp_path / "node").st_mode & 0o077 == 0


async def _make(directory: Path) -> None:
    store = Store.open(database(directory))
    await store.commit(*sample().setup)
    await store.close()
