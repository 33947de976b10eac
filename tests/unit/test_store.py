"""The store on a real file: what is committed stays, what is said twice counts once, what fails fails alone."""

import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pcap.envelope import seal
from p2pcap.errors import QueryError, StoreError
from p2pcap.ledger.records import Claim
from p2pcap.store import writer
from p2pcap.store.query import Limits, select
from p2pcap.store.reads import Contribution
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutItems, PutStatement, Write
from tests.unit.store_project import ADA, BOB, NOW, database, sample

Use = Callable[[Store], Awaitable[None]]


def with_store(directory: Path, use: Use) -> None:
    async def run() -> None:
        store = Store.open(database(directory))
        try:
            await use(store)
        finally:
            await store.close()

    trio.run(run)


def counts(store: Store) -> dict[str, int]:
    tables = ("statement", "batch", "candidate", "superseded", "item", "blob", "author", "task", "chunk")
    with store.readers.lend() as cursor:
        return {name: cursor.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in tables}


def test_everything_written_is_read_back_after_a_restart(tmp_path: Path) -> None:
    project = sample(chunks=2, images=64)
    held, waiting = project.slice(ADA, 0, 0, 64), project.slice(BOB, 1, 0, 32)
    grants = [project.grant(ADA, "Ada"), project.grant(BOB, "Bob")]

    async def write(store: Store) -> None:
        await store.commit(*project.setup)
        await store.commit(*grants)
        await store.commit(held)
        await store.commit(PutStatement(waiting.envelope, 5.0))
        await store.commit(PutBlob(b"h" * 32, b"bytes"))

    async def read(store: Store) -> None:
        loaded = await store.load()
        assert loaded.root == project.project.root_envelope.data
        assert loaded.manifest == project.project.manifest_envelope.data
        assert loaded.plan == project.project.plan_data
        assert loaded.grants == tuple(grant.envelope.data for grant in grants)
        assert loaded.item_lists == {0, 1}
        assert [(r.id, r.author, r.result, r.checked) for r in loaded.results] == [
            (held.envelope.id, ADA.public, held.result, True),
            (waiting.envelope.id, BOB.public, waiting.result, False),
        ]
        assert await store.items(1) == project.items[1]
        assert await store.items(2) is None
        assert (await store.has_items(1), await store.has_items(2)) == (True, False)
        assert await store.body(held.result.root) == held.body
        assert await store.body(waiting.result.root) is None
        assert await store.blob(b"h" * 32) == b"bytes"
        (missing,) = await store.bodies_missing(-1, 10)
        assert (missing.envelope.id, missing.result) == (waiting.envelope.id, waiting.result)
        assert await store.bodies_missing(missing.number - 1, 10) == [missing]
        assert await store.bodies_missing(missing.number, 10) == []
        assert await store.contributions() == (Contribution(ADA.peer_id, "Ada", 64, 0, 64),)

    with_store(tmp_path, write)
    with_store(tmp_path, read)


def test_saying_it_twice_changes_nothing(tmp_path: Path) -> None:
    project = sample()
    writes: list[Write] = [*project.setup, project.grant(ADA, "Ada"), project.slice(ADA, 0, 0, 64), PutBlob(b"h", b"x")]

    async def once_more(store: Store) -> None:
        before, table = counts(store), await store.table_hash()
        await store.commit(*writes)
        await store.commit(*writes, *writes)
        assert (counts(store), await store.table_hash()) == (before, table)

    async def twice(store: Store) -> None:
        await store.commit(*writes)
        await once_more(store)

    with_store(tmp_path, twice)
    with_store(tmp_path, once_more)


def test_a_body_that_comes_after_its_statement_is_the_same_statement(tmp_path: Path) -> None:
    project = sample()
    batch = project.slice(ADA, 0, 0, 8)

    async def use(store: Store) -> None:
        await store.commit(PutStatement(batch.envelope, 1.0))
        await store.commit(batch)
        assert counts(store)["statement"] == 1
        assert await store.bodies_missing(-1, 1) == []

    with_store(tmp_path, use)


def test_two_authors_with_equal_rows_both_count_as_candidates(tmp_path: Path) -> None:
    project = sample()
    ada, bob = project.slice(ADA, 0, 0, 8), project.slice(BOB, 0, 0, 8)
    assert ada.result.root == bob.result.root

    async def use(store: Store) -> None:
        await store.commit(ada)
        await store.commit(bob)
        assert counts(store)["candidate"] == 16
        assert counts(store)["superseded"] == 8
        assert sum(one.rows for one in await store.contributions()) == 8

    with_store(tmp_path, use)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_newest_grant_gives_the_name(tmp_path: Path, order: tuple[int, ...]) -> None:
    project = sample()
    grants = [project.grant(ADA, name, NOW + later) for name, later in (("Ada", 0), ("Countess", 9), ("Adb", 3))]

    async def use(store: Store) -> None:
        await store.commit(project.slice(ADA, 0, 0, 8))
        for index in order:
            await store.commit(grants[index])
        assert await store.contributions() == (Contribution(ADA.peer_id, "Countess", 8, 0, 8),)

    with_store(tmp_path, use)


def test_statements_are_found_by_id(tmp_path: Path) -> None:
    project = sample()
    batches = [project.slice(ADA, 0, first, 8) for first in range(0, 64, 8)]
    grant = project.grant(ADA, "Ada")

    async def use(store: Store) -> None:
        await store.commit(*project.setup, grant, *batches)
        wanted = sorted([grant.envelope.id, *(batch.envelope.id for batch in batches)])
        found = await store.statements([*wanted[:3], b"n" * 32])
        data = {envelope.id: envelope.data for envelope in [grant.envelope, *(batch.envelope for batch in batches)]}
        assert sorted(found) == sorted(data[id_] for id_ in wanted[:3])
        assert await store.statements([]) == []

    with_store(tmp_path, use)


def test_what_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    """One bad write among a hundred that may share its transaction."""
    project = sample()
    claim = seal(ADA, "claim", Claim(project.project.m, project.project.stages[0].task.tid, (), 1, NOW, 1))
    failed: list[Exception] = []

    async def use(store: Store) -> None:
        async def bad() -> None:
            try:
                await store.commit(PutBlob(b"never", b"stored"), PutStatement(claim, 1.0))
            except ValueError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(store.commit, PutBlob(b"%d" % number, b"x"))
            nursery.start_soon(bad)
            for number in range(50, 100):
                nursery.start_soon(store.commit, PutBlob(b"%d" % number, b"x"))
        assert len(failed) == 1
        assert counts(store)["blob"] == 100
        assert await store.blob(b"never") is None

    with_store(tmp_path, use)


def test_hostile_text_does_not_break_the_table(tmp_path: Path) -> None:
    project = sample()
    texts = ["'; DROP TABLE statement; --", "nul \0 inside", "\ud7ff\ue000\U0010ffff", "𝔘\u202e\x9b", "x" * 65_536, ""]
    batches = [project.batch(ADA, 0, [project.row(0, index, text)], 2**53 - 1) for index, text in enumerate(texts)]

    async def use(store: Store) -> None:
        await store.commit(*project.setup, *batches)
        with store.readers.lend() as cursor:
            found = cursor.execute("SELECT caption, time FROM captions ORDER BY item").fetchall()
        assert [caption for caption, _ in found] == [f"{text} 0/{index}" for index, text in enumerate(texts)]
        assert {time.year for _, time in found} == {9999}

    with_store(tmp_path, use)


def test_a_caller_that_gives_up_loses_the_answer_but_not_the_write(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel_when_queued, scope)
                    await store.commit(PutBlob(b"kept", b"x"))

            async def cancel_when_queued(scope: trio.CancelScope) -> None:
                scope.cancel()

            nursery.start_soon(give_up)
        await store.commit(PutBlob(b"after", b"x"))
        assert await store.blob(b"kept") == b"x"

    with_store(tmp_path, use)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.commit(PutBlob(b"late", b"x"))
        with pytest.raises(StoreError, match="closed"):
            await store.load()

    with_store(tmp_path, use)


def test_a_clean_close_leaves_no_log_and_everything_in_the_file(tmp_path: Path) -> None:
    project = sample()

    async def use(store: Store) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, *project.setup)
            nursery.start_soon(store.commit, project.slice(ADA, 0, 0, 64))
            await trio.testing.wait_all_tasks_blocked()
            await store.close()
        assert os.listdir(tmp_path) == ["ledger.duckdb"]

    with_store(tmp_path, use)

    async def check(store: Store) -> None:
        assert counts(store)["candidate"] == 64

    with_store(tmp_path, check)


def test_what_is_queued_when_it_closes_is_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", 1)

    async def use(store: Store) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(store.commit, PutBlob(b"%d" % number, b"x"))
            await trio.testing.wait_all_tasks_blocked()
            await store.close()

    async def check(store: Store) -> None:
        assert counts(store)["blob"] == 200

    with_store(tmp_path, use)
    with_store(tmp_path, check)


def test_a_restart_forgets_no_contest(tmp_path: Path) -> None:
    project = sample()

    async def first(store: Store) -> None:
        await store.commit(project.slice(ADA, 0, 0, 20))

    async def second(store: Store) -> None:
        await store.commit(project.slice(BOB, 0, 10, 20, "other"))
        assert counts(store)["superseded"] == 10
        assert sum(one.rows for one in await store.contributions()) == 30

    with_store(tmp_path, first)
    with_store(tmp_path, second)


def test_queries_that_take_all_memory_fail_no_commit(tmp_path: Path) -> None:
    project = sample(chunks=4, images=64)
    hogs = ["SELECT list(range) FROM range(400000000)", "SELECT string_agg(repeat('x', 1000)) FROM range(3000000)"]
    ended: list[str] = []

    def hog(store: Store, sql: str) -> None:
        with pytest.raises(QueryError) as caught, select(store.readers, sql, Limits(1, 60)) as found:
            list(found)
        ended.append(str(caught.value))

    async def use(store: Store) -> None:
        await store.commit(*project.setup)
        async with trio.open_nursery() as nursery:
            for sql in hogs * 2:
                nursery.start_soon(partial(trio.to_thread.run_sync, hog, store, sql, limiter=limiter))
            while len(ended) < len(hogs) * 2:
                for chunk in range(4):
                    await store.commit(project.slice(ADA, chunk, 0, 64, f"{len(ended)}"))
        assert all("memory" in message for message in ended)

    limiter = trio.CapacityLimiter(4)
    with_store(tmp_path, use)


def test_items_of_a_chunk_are_kept_once(tmp_path: Path) -> None:
    project = sample(chunks=1, images=64)

    async def use(store: Store) -> None:
        await store.commit(PutItems(0, project.items[0]), PutItems(0, project.items[0]))
        assert await store.items(0) == project.items[0]

    with_store(tmp_path, use)


def test_a_full_disk_is_said_and_loses_nothing(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    project = sample()
    kept, lost = project.slice(ADA, 0, 0, 64), project.slice(BOB, 1, 0, 64)

    async def fill(store: Store) -> None:
        await store.commit(*project.setup, kept)
        with full_disk(), pytest.raises(StoreError, match="room"):
            await store.commit(lost)
        assert [result.id for result in (await store.load()).results] == [kept.envelope.id]
        await store.commit(lost)

    async def check(store: Store) -> None:
        assert counts(store)["candidate"] == 128

    with_store(tmp_path, fill)
    with_store(tmp_path, check)
