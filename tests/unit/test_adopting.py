"""Newer manifests: what was captioned stays where it was, tasks never mix, and when a manifest came plays no part."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.envelope import Envelope, seal
from p2pcap.errors import UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger.body import error_bits
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.rows import Rows
from p2pcap.ledger.rulings import Finding, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Verdict, validate
from p2pcap.ledger.work import Work
from p2pcap.project.chunks import table_of
from p2pcap.project.opened import Project, check_follows
from p2pcap.project.records import MAX_FORMER_TASKS, MAX_STAGES, Plan, Policy, Stage
from p2pcap.project.task import MAX_INPUTS, Input, Model, Prompt, Task
from tests.makers import ADA, BOB, COORDINATOR, EVE, NOW, chunks_of, make_grant, make_project, make_result, signed

MADE = make_project((64, 64, 64))
CHUNKS = chunks_of(MADE.project)
WHOLE = 2**64 - 1


def task(text: str, *needs: tuple[str, Task]) -> Task:
    inputs = tuple(Input(stage, needed.tid, ("caption",)) for stage, needed in needs)
    return Task(Model("tiny"), (Prompt("caption", text),), inputs=inputs or UNSET)


LOOK, AGAIN = task("What is it?"), task("What do you see?")
SHORT, SHORTER = (task("Shorten: {look.caption}", ("look", look)) for look in (LOOK, AGAIN))

ONE = Plan("Shapes", (Stage("look", LOOK),), table_of(CHUNKS[:2]))
TWO = Plan("Shapes", (Stage("look", LOOK), Stage("short", SHORT)), table_of(CHUNKS))
THREE = Plan(
    "Shapes",
    (Stage("look", AGAIN, keeps=(LOOK.tid,)), Stage("short", SHORTER)),
    table_of(CHUNKS),
    Policy(error_authors=1),
    former=(LOOK, SHORT),
)
FOUR = Plan(
    "Shapes",
    (Stage("look", LOOK, keeps=(AGAIN.tid,)), Stage("short", SHORT, paused=True)),
    table_of(CHUNKS),
    Policy(error_authors=3),
    former=(SHORTER, AGAIN),
)
PROJECTS = [signed(plan, version) for version, plan in enumerate((ONE, TWO, THREE, FOUR), 1)]
FIRST, SECOND, THIRD, FOURTH = PROJECTS


ERRORS: dict[bytes, int] = {}
"""The items whose row is an error, by result."""


def result(project: Project, stage: int, author: Identity, chunk: int, rows: Sequence[Row]) -> Envelope:
    """A sealed result for a stage."""
    envelope = seal(author, "result", make_result(project, chunk, rows, stage=stage)[0])
    ERRORS[envelope.id] = error_bits(rows)
    return envelope


def answers(chunk: int, first: int, last: int) -> list[Row]:
    return [MADE.row(chunk, index) for index in range(first, last)]


def errors(chunk: int, first: int, last: int) -> list[Row]:
    return [MADE.error(chunk, index) for index in range(first, last)]


LOOKED = [
    result(SECOND, 0, ADA, 0, answers(0, 0, 40)),
    result(SECOND, 0, BOB, 0, errors(0, 30, 50)),
    result(SECOND, 0, EVE, 0, errors(0, 45, 60)),
    result(SECOND, 0, BOB, 2, answers(2, 0, 64)),
]
SHORTENED = [result(SECOND, 1, EVE, 0, answers(0, 0, 20)), result(SECOND, 1, ADA, 2, errors(2, 10, 20))]
LOOKED_AGAIN = [result(THIRD, 0, EVE, 0, answers(0, 35, 64)), result(THIRD, 0, ADA, 1, errors(1, 0, 64))]
SHORTENED_AGAIN = [result(THIRD, 1, BOB, 0, answers(0, 40, 50))]
RESULTS = [*LOOKED, *SHORTENED, *LOOKED_AGAIN, *SHORTENED_AGAIN]
M = MADE.project.m
RULINGS = [
    seal(COORDINATOR, "void", Void(M, (LOOKED[0].id, SHORTENED[1].id), "", (), NOW)),
    seal(COORDINATOR, "redact", Redact(M, 0, 0, 64, (1 << 3).to_bytes(8, "little"), "", NOW)),
    seal(COORDINATOR, "redact", Redact(M, 2, 0, 64, (1 << 60).to_bytes(8, "little"), "", NOW)),
    seal(COORDINATOR, "verdict", Finding(M, LOOKED_AGAIN[1].id, b"\xff" + bytes(7), "ok", "scoring", b"", NOW)),
]


class Node:
    """A ledger that is told what comes in, and what came too early for it."""

    def __init__(self, project: Project) -> None:
        self.ledger = Ledger(project)
        self.early: list[Envelope] = []
        for author in (ADA, BOB, EVE):
            self.hear(make_grant(project, author))

    def hear(self, envelope: Envelope) -> None:
        judgement = validate(self.ledger, envelope.data, NOW)
        assert judgement.verdict is not Verdict.REJECT, judgement.reason
        if judgement.verdict is Verdict.ACCEPT and judgement.record is not None:
            self.take(envelope, judgement.record)
            self.try_again()
        elif judgement.wait is not None:
            self.early.append(envelope)

    def take(self, envelope: Envelope, record: Any) -> None:
        self.ledger.hear(envelope, record, NOW)
        self.ledger.add(envelope, record)
        if isinstance(record, Result) and self.ledger.is_wanted(record):
            self.ledger.complete(envelope.id, envelope.author, record, ERRORS[envelope.id])
        elif isinstance(record, Result):
            self.ledger.forget(envelope.id, record)

    def try_again(self) -> None:
        early, self.early = self.early, []
        for envelope in early:
            self.hear(envelope)

    def adopt(self, project: Project) -> None:
        if project.version > self.ledger.project.version:
            check_follows(project, self.ledger.project)
            self.ledger.adopt(project)
            self.try_again()

    def work(self, of: Task) -> Work:
        return self.ledger.works[of.tid]


def told(*said: Envelope, project: Project = SECOND) -> Node:
    node = Node(project)
    for envelope in said:
        node.hear(envelope)
    return node


def sums(ledger: Ledger) -> object:
    """Everything that the order must not change."""
    whole = ledger.index.digest, ledger.items_done, ledger.finished, [work.tid for work in ledger.open_works]
    return whole, {tid: sums_of(work) for tid, work in ledger.works.items()}


def sums_of(work: Work) -> object:
    chunks, authors = range(work.chunks), [author.public for author in (ADA, BOB, EVE)]
    open_ = [work.open_items(chunk, NOW, author) for chunk in chunks for author in authors]
    missing = [(work.missing(chunk), work.rows.waived(chunk)) for chunk in chunks]
    left = [work.left(author) for author in authors]
    return dict(work.done), dict(work.by_author), list(work.unfinished), open_, missing, left, work.announced


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([*RESULTS, *RULINGS]), unique=True),
    st.sets(st.integers(1, 2)),
    st.integers(),
)
def test_when_a_manifest_came_plays_no_part(said: list[Envelope], on_the_way: set[int], seed: int) -> None:
    order = random.Random(seed)
    known, follows = Node(FOURTH), Node(FIRST)
    for envelope in order.sample(said, len(said)):
        known.hear(envelope)
    steps = [partial(follows.hear, envelope) for envelope in order.sample(said, len(said))]
    for at, between in zip(sorted(order.randint(0, len(steps)) for _ in on_the_way), sorted(on_the_way), strict=True):
        steps.insert(at + between - 1, partial(follows.adopt, PROJECTS[between]))
    for step in [*steps, partial(follows.adopt, FOURTH)]:
        step()
    assert set(follows.early) == set(known.early)
    assert sums(follows.ledger) == sums(known.ledger)


def test_two_stages_never_mix() -> None:
    node = told(*LOOKED, *SHORTENED)
    look, short = node.work(LOOK), node.work(SHORT)
    assert look.done == {0: 2**60 - 1, 2: WHOLE}
    assert short.done == {0: 2**20 - 1, 2: 2**20 - 2**10}
    assert look.by_author == {
        (ADA.public, 0): 2**40 - 1,
        (BOB.public, 0): 2**50 - 2**30,
        (EVE.public, 0): 2**60 - 2**45,
        (BOB.public, 2): WHOLE,
    }
    assert short.by_author == {(EVE.public, 0): 2**20 - 1, (ADA.public, 2): 2**20 - 2**10}
    assert node.ledger.items_done == 60 + 64 + 20 + 10
    assert node.ledger.by_author_total(EVE.public) == 15 + 20


def test_a_stage_asks_about_what_the_one_before_has_answered() -> None:
    node = told(*LOOKED[:3])
    short = node.work(SHORT)
    assert short.open_items(0, NOW) == 2**40 - 1
    assert short.missing(0) == WHOLE & ~(2**60 - 2**40), "what has only errors to go on with is not waited for"
    assert short.unfinished == [0]
    assert (short.open_items(1, NOW), short.missing(1)) == (0, WHOLE)


def test_what_one_author_could_not_look_at_does_not_keep_a_job_from_its_end() -> None:
    """It is open to others all the same, and then it goes on."""
    project = signed(msgspec.structs.replace(TWO, chunks=table_of(CHUNKS[:1])))
    looked = result(project, 0, ADA, 0, [*answers(0, 0, 60), *errors(0, 60, 64)])
    shortened = result(project, 1, ADA, 0, answers(0, 0, 60))
    node = told(looked, shortened, project=project)
    assert node.ledger.finished
    assert not node.ledger.work_left(ADA.public)
    assert node.ledger.work_left(BOB.public)
    node.hear(result(project, 0, BOB, 0, answers(0, 60, 62)))
    assert [work.rows.complete for work in node.ledger.open_works] == [True, False]
    assert node.work(SHORT).missing(0) == node.work(SHORT).open_items(0, NOW) == 0b11 << 60


def test_a_body_that_goes_takes_the_next_stage_s_work_with_it() -> None:
    node = told(*LOOKED[:1])
    assert node.work(SHORT).open_items(0, NOW) == 2**40 - 1
    node.hear(RULINGS[0])
    assert node.work(SHORT).open_items(0, NOW) == 0
    assert node.work(SHORT).unfinished == []
    assert not node.work(SHORT).left(BOB.public)


def test_another_prompt_asks_anew_and_keeps_what_it_is_told_to_keep() -> None:
    node = told(*LOOKED[:2], *SHORTENED[:1])
    node.adopt(THIRD)
    again, shorter = node.work(AGAIN), node.work(SHORTER)
    assert again.done == shorter.done == {}
    assert again.open_items(0, NOW) == WHOLE & ~(2**40 - 1)
    assert again.missing(0) == again.open_items(0, NOW)
    assert shorter.missing(0) == again.missing(0), "what was kept is not shortened by the new prompt either"
    assert node.work(SHORT).done == {0: 2**20 - 1}
    assert [work.tid for work in node.ledger.open_works] == [AGAIN.tid, SHORTER.tid]


def test_the_former_prompt_may_come_back_and_keep_what_came_between() -> None:
    node = told(*LOOKED[:1])
    node.adopt(THIRD)
    node.hear(LOOKED_AGAIN[0])
    assert node.work(AGAIN).open_items(0, NOW) == 0
    node.adopt(FOURTH)
    assert node.work(LOOK).open_items(0, NOW) == 0
    assert node.work(LOOK).missing(1) == WHOLE
    assert [work.tid for work in node.ledger.open_works] == [LOOK.tid], "the other one is paused"


def test_more_images_are_more_work() -> None:
    node = told(*(result(FIRST, 0, ADA, chunk, answers(chunk, 0, 64)) for chunk in (0, 1)), project=FIRST)
    assert node.ledger.finished
    assert not node.ledger.work_left(BOB.public)
    node.adopt(SECOND)
    assert node.work(LOOK).unfinished == [2]
    assert node.work(SHORT).unfinished == [0, 1]
    assert node.ledger.work_left(BOB.public)


def test_results_for_what_a_newer_manifest_brings_wait_for_it() -> None:
    node = told(LOOKED[3], SHORTENED[0], project=FIRST)
    node.hear(RULINGS[2])
    assert [envelope.id for envelope in node.early] == [LOOKED[3].id, SHORTENED[0].id, RULINGS[2].id]
    assert node.ledger.items_done == 0
    node.adopt(SECOND)
    assert node.early == []
    assert node.work(SHORT).done == {0: 2**20 - 1}
    assert node.work(LOOK).rows.redacted(2) == 1 << 60


def test_what_a_result_costs_does_not_grow_with_the_ways_in_which_stages_hang_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each stage needs the eight before it: from the first to the last there are more ways than there is time."""
    tasks: list[Task] = []
    for number in range(MAX_STAGES + MAX_FORMER_TASKS):
        tasks.append(task(f"Question {number}", *((f"s{number}", one) for one in tasks[-MAX_INPUTS:])))
    stages = tuple(Stage(f"s{number}", one) for number, one in enumerate(tasks[:MAX_STAGES]))
    project = signed(Plan("Shapes", stages, table_of(CHUNKS), former=tuple(tasks[MAX_STAGES:])))
    node = Node(project)
    judged: list[Rows] = []
    judge = Rows._judge

    def counted(rows: Rows, chunk: int) -> None:
        judged.append(rows)
        judge(rows, chunk)

    monkeypatch.setattr(Rows, "_judge", counted)
    node.hear(result(project, 0, ADA, 0, answers(0, 0, 64)))
    assert len(judged) == len(tasks)
    assert [work.open_items(0, NOW) for work in node.ledger.works.values()][:3] == [0, WHOLE, 0]


A_CIRCLE = (Stage("look", LOOK, keeps=(AGAIN.tid,)), Stage("again", AGAIN, keeps=(LOOK.tid,)))
PLANS = {
    "one keeps itself": ((Stage("look", LOOK, keeps=(LOOK.tid,)),), ()),
    "two keep each other": (A_CIRCLE, ()),
    "one keeps what needs it": ((Stage("look", LOOK, keeps=(SHORT.tid,)),), (SHORT,)),
    "one needs what is not there": ((Stage("short", SHORT),), ()),
    "one keeps what is not there": ((Stage("look", LOOK, keeps=(AGAIN.tid,)),), ()),
    "a former task needs what is not there": ((Stage("again", AGAIN),), (SHORT,)),
    "two of one name": ((Stage("look", LOOK), Stage("look", AGAIN)), ()),
    "one task twice": ((Stage("look", LOOK), Stage("again", LOOK)), ()),
    "a task that is former too": ((Stage("look", LOOK),), (LOOK,)),
}


@pytest.mark.parametrize(("stages", "former"), PLANS.values(), ids=PLANS.keys())
def test_stages_that_cannot_be_are_refused(stages: tuple[Stage, ...], former: tuple[Task, ...]) -> None:
    with pytest.raises(UntrustedError):
        signed(Plan("Shapes", stages, table_of(CHUNKS), former=former or UNSET))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"chunks": table_of(CHUNKS[:1])}, id="fewer images"),
        pytest.param({"chunks": table_of(CHUNKS[1:])}, id="others at their places"),
        pytest.param({"chunks": table_of(CHUNKS[::-1])}, id="another order"),
        pytest.param({"stages": TWO.stages[:1]}, id="a stage less"),
        pytest.param({"stages": (Stage("look", AGAIN),)}, id="another prompt"),
    ],
)
def test_a_manifest_that_loses_what_was_captioned_is_not_followed(changed: dict[str, object]) -> None:
    with pytest.raises(UntrustedError, match="not followed"):
        check_follows(signed(msgspec.structs.replace(TWO, **changed), 3), SECOND)
