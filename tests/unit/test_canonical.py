"""The canonical table is a function of the set: order does not matter, what is sealed stays, an answer beats an error
that too few authors said."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.ledger.canonical import Batch, Place, canonical
from p2pcap.ledger.checkpoint import Seal
from p2pcap.ledger.records import Row
from tests.makers import ADA, BOB, EVE, make_project, make_result

MADE = make_project((128, 100))
SEALS = [Seal(number, bytes(32), bytes([number]) * 32, {}) for number in (1, 2)]


@st.composite
def batches(draw: st.DrawFn, sealed: bool = True) -> Batch:
    """A result over a few of the first items, each answered or failed; many of these overlap."""
    chunk = draw(st.integers(0, 1))
    items = sorted(draw(st.sets(st.integers(0, 4), min_size=1, max_size=4)))
    rows = [MADE.row(chunk, item) if draw(st.booleans()) else MADE.error(chunk, item) for item in items]
    return Batch(
        draw(st.binary(min_size=32, max_size=32)),
        draw(st.sampled_from([ADA, BOB, EVE])).public,
        make_result(MADE.project, chunk, rows)[0],
        rows,
        draw(st.sampled_from([None, *SEALS])) if sealed else None,
        draw(st.integers(0, 2)),
        draw(st.sampled_from([0, 0, 0, 1, 6])),
    )


many = st.lists(batches(), max_size=8, unique_by=lambda batch: batch.id)
needed = st.integers(1, 3)
Table = dict[Place, tuple[bytes, Row]]


def table(all_batches: Sequence[Batch], authors_for_error: int) -> Table:
    found = canonical(all_batches, authors_for_error)
    return {place: (batch.id, row) for place, (batch, row) in found.items()}


def by_definition(all_batches: Sequence[Batch], authors_for_error: int) -> Table:
    """Of each place, everything that was said in the order of rank; then whichever comes first: an answer, or the
    statement that makes an error final."""
    said: dict[Place, list[tuple[tuple[object, ...], Batch, Row]]] = {}
    for batch in all_batches:
        number = batch.seal.number if batch.seal else 9
        tie = sha256(batch.seal.beacon + batch.id).digest() if batch.seal else batch.id
        for row in batch.rows:
            place = (batch.result.tid, batch.result.chunk, row.item)
            said.setdefault(place, []).append(((number, row.error != "", 2 - batch.tier, tie), batch, row))
    return {place: _first(sorted(entries, key=lambda e: e[0]), authors_for_error) for place, entries in said.items()}


def _first(ranked: list[tuple[tuple[object, ...], Batch, Row]], authors_for_error: int) -> tuple[bytes, Row]:
    authors: set[bytes] = set()
    best_error = next(((batch.id, row) for _, batch, row in ranked if row.error), None)
    for _, batch, row in ranked:
        if not row.error:
            return batch.id, row
        authors.add(batch.author)
        confirmed = batch.confirmed & 1 << row.item - batch.result.offset
        if (confirmed or len(authors) >= authors_for_error) and best_error is not None:
            return best_error
    assert best_error is not None
    return best_error


@given(many, needed)
@settings(max_examples=200)
def test_the_table_is_the_defined_one(all_batches: list[Batch], authors_for_error: int) -> None:
    assert table(all_batches, authors_for_error) == by_definition(all_batches, authors_for_error)


@given(many, needed, st.randoms(use_true_random=False))
def test_order_does_not_matter(all_batches: list[Batch], authors_for_error: int, random: Random) -> None:
    shuffled = random.sample(all_batches, len(all_batches))
    assert table(shuffled, authors_for_error) == table(all_batches, authors_for_error)


@given(many, needed)
def test_a_statement_twice_is_a_statement_once(all_batches: list[Batch], authors_for_error: int) -> None:
    assert table(all_batches + all_batches, authors_for_error) == table(all_batches, authors_for_error)


@given(many, st.lists(batches(sealed=False), max_size=4), needed)
@settings(max_examples=200)
def test_nothing_said_later_moves_a_sealed_answer(
    before: list[Batch], later: list[Batch], authors_for_error: int
) -> None:
    sealed = {batch.id for batch in before if batch.seal}
    after = table(before + [replace(batch, confirmed=0) for batch in later], authors_for_error)
    for place, (id_, row) in table(before, authors_for_error).items():
        if id_ in sealed and not row.error:
            assert after[place] == (id_, row)


@given(many)
def test_an_answer_beats_every_error_of_a_single_author(all_batches: list[Batch]) -> None:
    mine = [replace(batch, author=ADA.public, confirmed=0) for batch in all_batches]
    for place, (_, row) in table(mine, 2).items():
        if row.error:
            rivals = [batch for batch in mine if batch.result.chunk == place[1]]
            assert all(rival.error for batch in rivals for rival in batch.rows if rival.item == place[2])


@given(many, needed)
def test_what_does_not_count_is_not_there(all_batches: list[Batch], authors_for_error: int) -> None:
    adas = [batch for batch in all_batches if batch.author == ADA.public]
    counted = canonical(
        [b if b.author == ADA.public else replace(b, counted=0) for b in all_batches], authors_for_error
    )
    assert counted == canonical(adas, authors_for_error)


def test_authors_and_times_play_no_part() -> None:
    first = Batch(b"\1" * 32, EVE.public, make_result(MADE.project, 0, [MADE.row(0, 0)], time=9)[0], [MADE.row(0, 0)])
    second = Batch(b"\2" * 32, ADA.public, make_result(MADE.project, 0, [MADE.row(0, 0)], time=1)[0], [MADE.row(0, 0)])
    for both in ([first, second], [second, first]):
        assert [batch for batch, _ in canonical(both, 2).values()] == [first]


def test_tasks_do_not_mix() -> None:
    result = make_result(MADE.project, 0, [MADE.row(0, 0)])[0]
    other = msgspec.structs.replace(result, tid=b"another1")
    rows = [MADE.row(0, 0)]
    assert len(canonical([Batch(b"\1" * 32, b"", result, rows), Batch(b"\2" * 32, b"", other, rows)], 2)) == 2
