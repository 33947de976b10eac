"""Stages that use each other's answers: what is to be done in each follows from what was said, in whatever order."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.ledger.rows import Held, Rows
from tests.unit.test_rows import AUTHORS, Rulings

SIZES = [5, 7, 3, 9]
"""Images of each chunk; at first there are only the first KNOWN."""

KNOWN = 2
IDS = 5
"""Results of each task."""

Shape = Sequence[Sequence[int]]
"""For each task, those before it that it needs."""


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    count = draw(st.integers(1, 4))
    return [
        draw(st.sets(st.integers(0, number - 1), max_size=2).map(sorted)) if number else [] for number in range(count)
    ]


@st.composite
def held(draw: st.DrawFn) -> tuple[int, Held]:
    chunk = draw(st.integers(0, len(SIZES) - 1))
    offset = draw(st.integers(0, SIZES[chunk] - 1))
    items = draw(st.integers(1, 2 ** (SIZES[chunk] - offset) - 1)) << offset
    return chunk, Held(draw(st.sampled_from(AUTHORS)), offset, items, items & draw(st.integers(0, 2**9 - 1)))


tasks, ids = st.integers(0, 3), st.integers(0, IDS - 1)
steps = st.lists(
    st.tuples(st.just("hold"), tasks, ids, held())
    | st.tuples(st.just("drop"), tasks, ids)
    | st.tuples(st.just("redact"), st.integers(0, 3), st.integers(1, 2**9 - 1))
    | st.tuples(st.sampled_from(("void", "restore")), tasks, ids)
    | st.tuples(st.just("confirm"), tasks, ids, st.integers(1, 2**9 - 1))
    | st.tuples(st.just("keep"), tasks, st.sets(tasks, max_size=2))
    | st.tuples(st.just("ask"), st.integers(1, 3))
    | st.tuples(st.just("grow")),
    max_size=25,
)


@dataclass
class Facts:
    """Everything that was said, and nothing that follows from it."""

    shape: Shape
    keeps: dict[int, set[int]] = field(default_factory=dict)
    rulings: Rulings = field(default_factory=Rulings)
    results: dict[bytes, tuple[int, int, Held]] = field(default_factory=dict)
    redacted: dict[int, int] = field(default_factory=dict)
    asked: int = 2
    chunks: int = KNOWN

    def covering(self, task: int, chunk: int, item: int) -> list[tuple[bytes, Held]]:
        """The results that count and cover an item, with their ids."""
        return [
            (id_, one)
            for id_, (of, where, one) in self.results.items()
            if (of, where) == (task, chunk) and one.items >> item & 1 and id_ not in self.rulings.void
        ]

    def failed(self, task: int, chunk: int, item: int) -> set[bytes]:
        """Authors who call it an error."""
        return {one.author for _, one in self.covering(task, chunk, item) if one.errors >> item & 1}

    def answered(self, task: int, chunk: int, item: int) -> bool:
        return any(not one.errors >> item & 1 for _, one in self.covering(task, chunk, item))

    def is_settled(self, task: int, chunk: int, item: int) -> bool:
        right = any(
            one.errors >> item & 1 and self.rulings.right.get(id_, 0) << one.offset >> item & 1
            for id_, one in self.covering(task, chunk, item)
        )
        return self.answered(task, chunk, item) or right or len(self.failed(task, chunk, item)) >= self.asked

    def is_redacted(self, chunk: int, item: int) -> bool:
        return bool(self.redacted.get(chunk, 0) >> item & 1)

    def is_waived(self, task: int, chunk: int, item: int) -> bool:
        place = chunk, item
        never = any(self.is_closed(one, *place) and not self.answered(one, *place) for one in self.shape[task])
        return never or any(self.answered(one, *place) for one in self.keeps.get(task, ()))

    def is_closed(self, task: int, chunk: int, item: int) -> bool:
        """Whether nobody will ever do anything about it."""
        place = task, chunk, item
        return self.is_settled(*place) or self.is_redacted(chunk, item) or self.is_waived(*place)

    def is_open(self, task: int, chunk: int, item: int) -> bool:
        """Whether somebody is to do it now."""
        ready = all(self.answered(one, chunk, item) for one in self.shape[task])
        return ready and not self.is_closed(task, chunk, item)

    def lacks(self, task: int, chunk: int, item: int) -> bool:
        """Whether it is to have a row and has none."""
        has = self.covering(task, chunk, item) or self.is_redacted(chunk, item)
        return not has and not self.is_waived(task, chunk, item) and not self.is_stuck(task, chunk, item)

    def is_stuck(self, task: int, chunk: int, item: int) -> bool:
        """Whether a task that it needs, directly or not, has nothing but errors about it."""
        place = chunk, item
        return any(
            not self.answered(one, *place) and (self.covering(one, *place) or self.is_stuck(one, *place))
            for one in self.shape[task]
        )

    def order(self, keeps: Mapping[int, Collection[int]]) -> list[int]:
        """The tasks, each after those that it depends on. Raises CycleError."""
        depends = {task: {*needs, *keeps.get(task, ())} for task, needs in enumerate(self.shape)}
        return [*TopologicalSorter(depends).static_order()]

    def bits(self, chunk: int, true: Callable[[int], object]) -> int:
        return sum(1 << item for item in range(SIZES[chunk]) if true(item))


def id_of(task: int, number: int) -> bytes:
    return b"%d/%d" % (task, number)


def family(facts: Facts, sizes: Sequence[int] = SIZES[:KNOWN]) -> list[Rows]:
    every = [Rows(sizes, facts.asked) for _ in facts.shape]
    relink(every, facts)
    return every


def relink(every: list[Rows], facts: Facts) -> None:
    """The tasks depend on each other as the facts say now; of those that are not there yet nothing is said."""
    for rows in every:
        rows.unlink()
    for rank, task in enumerate(facts.order(facts.keeps)):
        if task < len(every):
            kept = [every[at] for at in sorted(facts.keeps.get(task, ())) if at < len(every)]
            every[task].link(rank, [every[at] for at in facts.shape[task]], kept)
            every[task].judge()


def change_keeps(every: list[Rows], facts: Facts, task: int, others: Collection[int]) -> None:
    """A plan may keep what it likes, but not in a circle."""
    keeps = facts.keeps | {task: {other for other in others if other < len(every)} - {task}}
    try:
        facts.order(keeps)
    except CycleError:
        return
    facts.keeps = keeps
    relink(every, facts)


def apply(every: list[Rows], facts: Facts, step: Sequence[Any]) -> None:
    """As the ledger does it; a step about a task or a chunk that is not known does nothing."""
    match step:
        case ("grow",):
            facts.chunks = len(SIZES)
            for rows in every:
                rows.grow(SIZES)
        case ("ask", asked):
            facts.asked = asked
            for rows in every:
                rows.ask_authors(asked, facts.rulings)
        case ("keep", task, others) if task < len(every):
            change_keeps(every, facts, task, others)
        case ("redact", chunk, items) if chunk < facts.chunks:
            items &= 2 ** SIZES[chunk] - 1
            facts.redacted[chunk] = facts.redacted.get(chunk, 0) | items
            for rows in every:
                rows.redact(chunk, items, facts.rulings)
        case ("hold", task, number, (chunk, one)) if task < len(every) and chunk < facts.chunks:
            facts.results[id_of(task, number)] = task, chunk, one
            every[task].hold(chunk, id_of(task, number), one, facts.rulings)
        case ("drop", task, number) if task < len(every):
            facts.results.pop(id_of(task, number), None)
            every[task].drop(id_of(task, number), facts.rulings)
        case ("void" | "restore" | "confirm", task, number, *items) if task < len(every):
            rule(facts.rulings, step[0], id_of(task, number), *items)
            if id_of(task, number) in facts.results:
                every[task].recount(facts.results[id_of(task, number)][1], facts.rulings)


def rule(rulings: Rulings, word: str, id_: bytes, items: int = 0) -> None:
    match word:
        case "void":
            rulings.void.add(id_)
        case "restore":
            rulings.void.discard(id_)
        case "confirm":
            rulings.right[id_] = items


def seen(rows: Rows) -> object:
    """Whatever can be asked of it."""
    chunks = range(rows.chunks)
    of_each = [(rows.missing(at), rows.unsettled(at), rows.waived(at), rows.answered(at)) for at in chunks]
    of_authors = [rows.unsettled(at, author) for at in chunks for author in AUTHORS]
    whole = rows.done, rows.by_author, rows.unfinished, rows.total, rows.complete
    return of_each, of_authors, whole, [rows.batches(at) for at in chunks], [rows.redacted(at) for at in chunks]


def check(every: list[Rows], facts: Facts) -> None:
    """Every answer, item by item."""
    for task, rows in enumerate(every):
        assert rows.chunks == facts.chunks
        left, lacking = [], 0
        for chunk in range(facts.chunks):
            place = partial(facts.bits, chunk)
            open_, missing = place(partial(facts.is_open, task, chunk)), place(partial(facts.lacks, task, chunk))
            assert rows.unsettled(chunk) == open_
            assert rows.missing(chunk) == missing
            assert rows.waived(chunk) & rows.all(chunk) == place(partial(facts.is_waived, task, chunk))
            assert rows.done.get(chunk, 0) == place(partial(facts.covering, task, chunk))
            for author in AUTHORS:
                said = sum(1 << item for item in range(SIZES[chunk]) if author in facts.failed(task, chunk, item))
                assert rows.unsettled(chunk, author) == open_ & ~said
            left += [chunk] if open_ else []
            lacking |= missing
        assert rows.unfinished == left
        assert rows.complete == (not lacking)
        assert rows.total == sum(items.bit_count() for items in rows.done.values())


@settings(max_examples=300)
@given(shapes(), steps)
def test_whatever_happened_it_is_what_counting_item_by_item_gives(shape: Shape, said: list[Any]) -> None:
    facts = Facts(shape)
    every = family(facts)
    check(every, facts)
    for step in said:
        apply(every, facts, step)
        check(every, facts)


def made_late(facts: Facts, order: random.Random) -> list[Rows]:
    """The same facts, told in another order; each task becomes known at some moment after those that it uses, and what
    was said of it before waits until then, as results do for a manifest."""
    every: list[Rows] = []
    told = [(task, chunk, id_, one) for id_, (task, chunk, one) in facts.results.items()]
    order.shuffle(told)
    for _ in facts.shape:
        sizes = SIZES[: order.choice((KNOWN, facts.chunks))] if not every else SIZES[: every[0].chunks]
        rows = Rows(sizes, order.choice((1, facts.asked)))
        for chunk in range(rows.chunks):
            rows.redact(chunk, facts.redacted.get(chunk, 0), facts.rulings)
        every.append(rows)
        relink(every, facts)
        for task, chunk, id_, one in list(told):
            if task < len(every) and chunk < every[task].chunks and order.random() < 0.5:
                told.remove((task, chunk, id_, one))
                every[task].hold(chunk, id_, one, facts.rulings)
    for rows in every:
        rows.grow(SIZES[: facts.chunks])
        rows.ask_authors(facts.asked, facts.rulings)
        for chunk in range(facts.chunks):
            rows.redact(chunk, facts.redacted.get(chunk, 0), facts.rulings)
    for task, chunk, id_, one in told:
        every[task].hold(chunk, id_, one, facts.rulings)
    return every


@settings(max_examples=300)
@given(shapes(), steps, st.integers())
def test_what_came_when_plays_no_part(shape: Shape, said: list[Any], seed: int) -> None:
    facts = Facts(shape)
    every = family(facts)
    for step in said:
        apply(every, facts, step)
    again = made_late(facts, random.Random(seed))
    assert [seen(rows) for rows in again] == [seen(rows) for rows in every]


def test_an_error_that_is_not_final_is_not_waited_for_in_any_stage_after_it() -> None:
    facts = Facts([[], [0], [1]])
    every = family(facts)
    apply(every, facts, ("hold", 0, 0, (0, Held(b"ada", 0, 0b11111, 0b10000))))
    assert [rows.missing(0) for rows in every] == [0, 0b01111, 0b01111]
    assert [rows.waived(0) for rows in every] == [0, 0, 0]
    assert every[0].unsettled(0, b"bob") == 0b10000
    check(every, facts)
