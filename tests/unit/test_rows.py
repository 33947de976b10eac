"""What results add up to, one by one, is what they add up to at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.checks import ALL
from p2pcap.ledger.rows import Held, Rows

SIZES = [6, 9]
AUTHORS = [b"ada", b"bob", b"eve"]
IDS = [b"%d" % number for number in range(8)]


@dataclass
class Rulings:
    """Results that do not count, and which items of others were confirmed; how often anybody asked."""

    void: set[bytes] = field(default_factory=set)
    right: dict[bytes, int] = field(default_factory=dict)
    asked: int = 0

    def counted(self, id_: bytes, author: bytes) -> int:
        self.asked += 1
        return 0 if id_ in self.void else ALL

    def may_count(self, id_: bytes, author: bytes) -> bool:
        return id_ not in self.void

    def confirmed(self, id_: bytes) -> int:
        return self.right.get(id_, 0)


@st.composite
def holding(draw: st.DrawFn) -> tuple[int, Held]:
    chunk = draw(st.integers(0, len(SIZES) - 1))
    offset = draw(st.integers(0, SIZES[chunk] - 1))
    items = draw(st.integers(1, 2 ** (SIZES[chunk] - offset) - 1)) << offset
    return chunk, Held(draw(st.sampled_from(AUTHORS)), offset, items, items & draw(st.integers(0, 2**9 - 1)))


ids = st.sampled_from(IDS)
steps = st.lists(
    st.tuples(st.just("hold"), ids, holding())
    | st.tuples(st.just("drop"), ids)
    | st.tuples(st.just("redact"), st.integers(0, 1), st.integers(1, 2**6 - 1))
    | st.tuples(st.just("void"), ids)
    | st.tuples(st.just("restore"), ids)
    | st.tuples(st.just("confirm"), ids, st.integers(1, 2**9 - 1)),
    max_size=30,
)


def apply(rows: Rows, rulings: Rulings, step: Sequence[Any]) -> None:
    """As the ledger does it: whatever is ruled about a result that is held, its chunk is worked out anew."""
    match step:
        case ("hold", id_, (chunk, held)):
            return rows.hold(chunk, id_, held, rulings)
        case ("drop", id_):
            return rows.drop(id_, rulings)
        case ("redact", chunk, items):
            return rows.redact(chunk, items, rulings)
        case ("void", id_):
            rulings.void.add(id_)
        case ("restore", id_):
            rulings.void.discard(id_)
        case ("confirm", id_, items):
            rulings.right[id_] = items
    for chunk in range(len(SIZES)):
        if rows.held(chunk, step[1]) is not None:
            rows.recount(chunk, rulings)
    return None


@given(steps, st.integers(1, 3))
def test_whatever_happened_it_is_what_counting_item_by_item_gives(steps: list[Any], authors_for_error: int) -> None:
    rows, rulings = Rows(SIZES, authors_for_error), Rulings()
    held: dict[bytes, tuple[int, Held]] = {}
    redacted = [0, 0]
    for step in steps:
        apply(rows, rulings, step)
        if step[0] == "hold":
            held[step[1]] = step[2]
        elif step[0] == "drop":
            held.pop(step[1], None)
        elif step[0] == "redact":
            redacted[step[1]] |= step[2]
        check(rows, rulings, held, redacted, authors_for_error)


def check(
    rows: Rows, rulings: Rulings, held: dict[bytes, tuple[int, Held]], redacted: list[int], authors_for_error: int
) -> None:
    """Every answer, item by item."""
    counting = [(id_, chunk, one) for id_, (chunk, one) in held.items() if id_ not in rulings.void]
    done, left, by_author = dict[int, int](), list[int](), dict[tuple[bytes, int], int]()
    for chunk, size in enumerate(SIZES):
        open_to_all = 0
        open_to = dict.fromkeys(AUTHORS, 0)
        for item in range(size):
            bit = 1 << item
            covering = [(id_, one) for id_, of, one in counting if of == chunk and one.items & bit]
            failed = [(id_, one) for id_, one in covering if one.errors & bit]
            for _, one in covering:
                done[chunk] = done.get(chunk, 0) | bit
                by_author[one.author, chunk] = by_author.get((one.author, chunk), 0) | bit
            authors = {one.author for _, one in failed}
            right = any(rulings.right.get(id_, 0) << one.offset & bit for id_, one in failed)
            final = len(failed) < len(covering) or right or len(authors) >= authors_for_error
            if not final and not redacted[chunk] & bit:
                open_to_all |= bit
                for author in set(AUTHORS) - authors:
                    open_to[author] |= bit
        assert rows.missing(chunk) == 2**size - 1 & ~done.get(chunk, 0) & ~redacted[chunk]
        assert rows.unsettled(chunk) == open_to_all
        assert {author: rows.unsettled(chunk, author) for author in AUTHORS} == open_to
        assert rows.batches(chunk) == {id_: one for id_, (of, one) in held.items() if of == chunk}
        left += [chunk] if open_to_all else []
    assert (rows.done, rows.by_author, rows.unfinished) == (done, by_author, left)
    assert rows.total == sum(items.bit_count() for items in done.values())
    assert rows.complete == (not any(rows.missing(chunk) for chunk in range(len(SIZES))))


def test_results_that_repeat_a_slice_are_not_counted_again_and_again() -> None:
    rows, rulings = Rows(SIZES, 2), Rulings()
    for number in range(500):
        rows.hold(0, b"%d" % number, Held(b"ada", 0, 0b111, 0b100), rulings)
    assert rulings.asked == 500
    assert (rows.total, rows.unsettled(0), rows.unsettled(0, b"ada")) == (3, 0b111100, 0b111000)
