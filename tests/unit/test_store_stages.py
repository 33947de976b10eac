"""Several tasks in one database: what is asked now is shown, what was asked before is kept, and none mixes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
import trio

from p2pcap.envelope import seal
from p2pcap.export.counts import Counts
from p2pcap.export.proven_lines import verify_file, write_proven
from p2pcap.identity import Identity
from p2pcap.ledger.given import given_hash
from p2pcap.ledger.records import Row
from p2pcap.project.items import ItemList
from p2pcap.project.opened import Project
from p2pcap.project.records import Stage
from p2pcap.store.canonical import runs
from p2pcap.store.database import reading
from p2pcap.store.fsck import check
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutItems, PutProject, PutStatement, Write
from tests.makers import ADA, BOB, NOW, make_grant, make_result, signed
from tests.unit.store_project import database, kept
from tests.unit.test_adopting import (
    AGAIN,
    FIRST,
    FOURTH,
    LOOK,
    MADE,
    SECOND,
    SHORT,
    SHORTER,
    THIRD,
    answers,
    errors,
    task,
)


def batch(project: Project, stage: int, author: Identity, chunk: int, rows: Sequence[Row]) -> PutBatch:
    result, body = make_result(project, chunk, rows, stage=stage)
    return PutBatch(seal(author, "result", result), result, rows, body.data, NOW)


SETUP: list[Write] = [
    PutProject(FIRST, NOW),
    *(PutItems.of(chunk, ItemList(items)) for chunk, items in enumerate(MADE.items)),
    *(PutStatement(make_grant(FIRST, author), NOW) for author in (ADA, BOB)),
]
LOOKED = batch(FIRST, 0, ADA, 0, answers(0, 0, 40))
GIVEN = given_hash({"look.caption": "a red circle"})
SHORT_ROWS = [msgspec.structs.replace(row, given=GIVEN) for row in answers(0, 0, 10)]
SHORTENED = batch(SECOND, 1, BOB, 0, [*SHORT_ROWS, *errors(0, 10, 12)])
LOOKED_AGAIN = batch(THIRD, 0, BOB, 0, answers(0, 40, 64))
BEFORE: list[Write] = [PutProject(SECOND, NOW), LOOKED, SHORTENED]
AFTER: list[Write] = [PutProject(THIRD, NOW), LOOKED_AGAIN]


@contextmanager
def filled(directory: Path, writes: Sequence[Write]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database to which these were written one after the other, as readers see it."""
    with reading(kept(directory, [*SETUP, *writes])) as readers, readers.lend() as cursor:
        yield cursor


def ask(cursor: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    return cursor.execute(query).fetchall()


COUNTS = "SELECT stage, task, count(*), count(error) FROM {} GROUP BY ALL ORDER BY stage, task"


def test_each_stage_has_its_own_rows(tmp_path: Path) -> None:
    with filled(tmp_path, BEFORE) as cursor:
        both = [("look", LOOK.tid.hex(), 40, 0), ("short", SHORT.tid.hex(), 12, 2)]
        assert ask(cursor, COUNTS.format("captions")) == ask(cursor, COUNTS.format("history")) == both
        assert ask(cursor, "SELECT stage, count(*) FROM answers GROUP BY ALL ORDER BY ALL") == [
            ("look", 40),
            ("short", 10),
        ]
        assert ask(cursor, "SELECT stage, item, tries FROM failures ORDER BY ALL") == [
            ("short", 10, 1),
            ("short", 11, 1),
        ]
        chunks = ask(cursor, "SELECT stage, chunk, images, done, errors FROM chunks WHERE chunk < 2 ORDER BY ALL")
        assert chunks == [
            ("look", 0, 64, 40, 0),
            ("look", 1, 64, 0, 0),
            ("short", 0, 64, 12, 2),
            ("short", 1, 64, 0, 0),
        ]


@pytest.mark.parametrize("writes", [[*BEFORE, *AFTER], [*AFTER, *BEFORE]], ids=["in order", "the newest first"])
def test_what_was_asked_before_is_history_and_keeps_its_stage_s_name(tmp_path: Path, writes: list[Write]) -> None:
    with filled(tmp_path, writes) as cursor:
        kept = sorted([("look", AGAIN.tid.hex(), 24, 0), ("look", LOOK.tid.hex(), 40, 0)])
        assert ask(cursor, COUNTS.format("captions")) == kept
        all_ = ask(cursor, "SELECT task, asked, count(*) FROM history GROUP BY ALL")
        expected = [(AGAIN, True, 24), (LOOK, False, 40), (SHORT, False, 12)]
        assert sorted(all_) == sorted((task.tid.hex(), asked, rows) for task, asked, rows in expected)
        assert ask(cursor, "SELECT count(*) FROM failures") == [(0,)]
        named = dict(ask(cursor, "SELECT tid, stage FROM task"))
        assert (named[AGAIN.tid], named[SHORTER.tid]) == ("look", "short")
        if writes[0] == BEFORE[0]:
            assert (named[LOOK.tid], named[SHORT.tid]) == ("look", "short")


def test_of_several_kept_tasks_the_newest_stands_in(tmp_path: Path) -> None:
    """Also where each has an answer; and what is asked now goes before all of them."""
    last = task("And now?")
    stage = Stage("look", last, keeps=(LOOK.tid, AGAIN.tid))
    project = signed(msgspec.structs.replace(THIRD.plan, stages=(stage,), former=(LOOK, AGAIN, SHORT, SHORTER)), 5)
    both = batch(THIRD, 0, BOB, 0, answers(0, 30, 40))
    now = batch(project, 0, ADA, 0, answers(0, 35, 45))
    with filled(tmp_path, [*BEFORE, *AFTER, both, PutProject(project, NOW), now]) as cursor:
        shown = dict(ask(cursor, "SELECT item, task FROM captions"))
        spans = ((LOOK, 0, 30), (AGAIN, 30, 35), (last, 35, 45), (AGAIN, 45, 64))
        assert shown == {item: asked.tid.hex() for asked, first, end in spans for item in range(first, end)}
        assert ask(cursor, "SELECT count(*) FROM answers") == [(64,)]
        assert sorted(item.item for run in runs(cursor) for item in run.items) == [*range(64)]


def test_a_prompt_that_comes_back_is_shown_again(tmp_path: Path) -> None:
    with filled(tmp_path, [*BEFORE, *AFTER, PutProject(FOURTH, NOW)]) as cursor:
        assert ask(cursor, COUNTS.format("captions")) == [
            *sorted([("look", AGAIN.tid.hex(), 24, 0), ("look", LOOK.tid.hex(), 40, 0)]),
            ("short", SHORT.tid.hex(), 12, 2),
        ]


def test_an_older_manifest_changes_nothing(tmp_path: Path) -> None:
    with filled(tmp_path, [*BEFORE, *AFTER, PutProject(SECOND, NOW)]) as cursor:
        assert {task for (task,) in ask(cursor, "SELECT task FROM captions")} == {AGAIN.tid.hex(), LOOK.tid.hex()}


def test_an_export_has_what_is_asked_now(tmp_path: Path) -> None:
    for name, writes, counts in (("one", BEFORE, Counts(52, 50, 2)), ("two", [*BEFORE, *AFTER], Counts(64, 64, 0))):
        (tmp_path / name).mkdir()
        with filled(tmp_path / name, writes) as cursor:
            assert write_proven(runs(cursor), tmp_path / f"{name}.jsonl") == counts
        assert verify_file(tmp_path / f"{name}.jsonl") == counts


def test_other_tasks_answers_are_found_by_task_and_chunk(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store.open(database(tmp_path))
        for write in (*SETUP, *BEFORE):
            await store.commit(write)
        assert await store.answers(LOOK.tid, 0) == {item: ["a red circle"] for item in range(40)}
        assert sorted(await store.answers(SHORT.tid, 0)) == list(range(10)), "an error is no answer"
        assert await store.answers(LOOK.tid, 1) == await store.answers(AGAIN.tid, 0) == {}
        await store.close()

    trio.run(run)


def test_a_database_of_several_plans_is_well(tmp_path: Path) -> None:
    with filled(tmp_path, [*BEFORE, *AFTER]):
        pass
    report = check(database(tmp_path), lambda what, done, total: None)
    assert (report.left_out, report.differences, report.notes) == ([], [], [])
