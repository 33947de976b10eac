"""Several tasks in one store: what is asked now, what was asked before, and what a stage keeps of it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from p2pcap.project.opened import Project
from p2pcap.project.records import Stage
from p2pcap.project.task import Prompt, Task
from p2pcap.store.canonical import runs
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject
from tests.makers import signed
from tests.unit.store_project import ADA, NOW, Sample, database, sample

MADE = sample(chunks=1)
OLD = MADE.project.stages[0].task
NEW = msgspec.structs.replace(OLD, prompts=(Prompt("caption", "What else?"),))


def again(version: int, *stages: Stage, former: tuple[Task, ...] = ()) -> Project:
    """The same images under another manifest."""
    return signed(msgspec.structs.replace(MADE.project.plan, stages=stages, former=former), version)


def asked(project: Project, task: Task) -> Sample:
    """The project as one who makes results for `task` sees it."""
    first = Stage("one", task)
    return Sample(signed(msgspec.structs.replace(project.plan, stages=(first,))), MADE.lists)


def answered(sample: Sample, first: int, count: int, text: str) -> Any:
    """A result with one answer a prompt."""
    wanted = len(sample.project.stages[0].task.prompts)
    found = [sample.row(0, index, text) for index in range(first, first + count)]
    return sample.batch(ADA, 0, [msgspec.structs.replace(row, answers=row.answers[:wanted]) for row in found])


def told(folder: Path, *projects: Project, writes: tuple[Any, ...] = ()) -> dict[str, list[Any]]:
    """What the views and an export say in the end."""

    async def main() -> dict[str, list[Any]]:
        store = Store.open(database(folder))
        await store.commit(*MADE.setup)
        await store.commit(*writes)
        for project in projects:
            await store.commit(PutProject(project, float(NOW)))
        with store.readers.lend() as cursor:
            found = {
                "captions": cursor.execute("SELECT stage, item, caption FROM captions ORDER BY ALL").fetchall(),
                "answers": cursor.execute("SELECT stage, item FROM answers ORDER BY ALL").fetchall(),
                "history": cursor.execute("SELECT stage, item, asked FROM history ORDER BY ALL").fetchall(),
                "done": cursor.execute("SELECT stage, done FROM chunks ORDER BY stage").fetchall(),
                "export": sorted((run.tid, shown.item) for run in runs(cursor) for shown in run.items),
            }
        await store.close()
        return found

    return trio.run(main)


OLDS = answered(MADE, 0, 3, "old")
NEWS = answered(asked(MADE.project, NEW), 2, 2, "new")


def test_a_changed_prompt_leaves_the_old_answers_to_history(tmp_path: Path) -> None:
    found = told(tmp_path, again(2, Stage("caption", NEW), former=(OLD,)), writes=(OLDS, NEWS))
    assert found["captions"] == [("caption", 2, "new 0/2"), ("caption", 3, "new 0/3")]
    assert found["answers"] == [("caption", 2), ("caption", 3)]
    assert found["history"] == [
        ("caption", 0, False), ("caption", 1, False), ("caption", 2, False), ("caption", 2, True), ("caption", 3, True)
    ]  # fmt: skip
    assert found["done"] == [("caption", 2)]
    assert found["export"] == [(NEW.tid, 2), (NEW.tid, 3)]


def test_what_a_stage_keeps_stands_in_where_it_has_no_row_of_its_own(tmp_path: Path) -> None:
    found = told(tmp_path, again(2, Stage("caption", NEW, keeps=(OLD.tid,)), former=(OLD,)), writes=(OLDS, NEWS))
    assert [row[1:] for row in found["captions"]] == [(0, "old 0/0"), (1, "old 0/1"), (2, "new 0/2"), (3, "new 0/3")]
    assert {item for _, item in found["export"]} == {0, 1, 2, 3}
    assert len(found["export"]) == 4
    assert {item for _, item in found["answers"]} == {0, 1, 2, 3}


def test_of_several_kept_tasks_the_newest_stands_in(tmp_path: Path) -> None:
    third = msgspec.structs.replace(OLD, prompts=(Prompt("caption", "And now?"),))
    stage = Stage("caption", third, keeps=(OLD.tid, NEW.tid))
    found = told(tmp_path, again(2, stage, former=(OLD, NEW)), writes=(OLDS, NEWS))
    assert [row[1:] for row in found["captions"]] == [(0, "old 0/0"), (1, "old 0/1"), (2, "new 0/2"), (3, "new 0/3")]


@pytest.mark.parametrize("late", [False, True])
def test_stages_go_by_their_names_whenever_the_results_came(tmp_path: Path, late: bool) -> None:
    stages = again(2, Stage("first", OLD), Stage("second", NEW))
    projects, writes = ((), (PutProject(stages, float(NOW)), OLDS, NEWS)) if late else ((stages,), (OLDS, NEWS))
    found = told(tmp_path, *projects, writes=writes)
    stages_and_items = [("first", 0), ("first", 1), ("first", 2), ("second", 2), ("second", 3)]
    assert [row[:2] for row in found["captions"]] == stages_and_items
    assert found["done"] == [("first", 3), ("second", 2)]


def test_a_former_task_keeps_its_stage_s_name(tmp_path: Path) -> None:
    stages = again(2, Stage("first", OLD), Stage("second", NEW))
    found = told(tmp_path, stages, again(3, Stage("first", OLD), former=(NEW,)), writes=(OLDS, NEWS))
    assert [row for row in found["history"] if not row[2]] == [("second", 2, False), ("second", 3, False)]


def test_an_older_manifest_changes_nothing(tmp_path: Path) -> None:
    newer = again(2, Stage("caption", NEW), former=(OLD,))
    found = told(tmp_path, newer, MADE.project, writes=(OLDS, NEWS))
    assert found["done"] == [("caption", 2)]
