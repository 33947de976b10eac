"""The canonical table is a function of the set: order and splits do not matter, an answer beats an error."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.canonical import Batch, Place, canonical
from p2pcap.ledger.records import Row
from tests.makers import ADA, BOB, EVE, make_project, make_result

MADE = make_project((128, 100))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """A result over a few of the first items, each answered or failed; many of these overlap."""
    chunk = draw(st.integers(0, 1))
    items = sorted(draw(st.sets(st.integers(0, 5), min_size=1, max_size=6)))
    rows = [MADE.row(chunk, item) if draw(st.booleans()) else MADE.error(chunk, item) for item in items]
    author = draw(st.sampled_from([ADA, BOB, EVE])).public
    return Batch(draw(st.binary(min_size=32, max_size=32)), author, make_result(MADE.project, chunk, rows)[0], rows)


many = st.lists(batches(), max_size=8, unique_by=lambda batch: batch.id)


def by_definition(all_batches: Sequence[Batch]) -> dict[Place, tuple[bytes, Row]]:
    """Sort every candidate by (error, id) and take the first of each place."""
    candidates = [
        ((batch.result.tid, batch.result.chunk, row.item), row.error != "", batch.id, row)
        for batch in all_batches
        for row in batch.rows
    ]
    ranked = sorted(candidates, key=lambda candidate: candidate[:3], reverse=True)
    return {place: (id_, row) for place, _, id_, row in ranked}


def table(all_batches: Sequence[Batch]) -> dict[Place, tuple[bytes, Row]]:
    return {place: (batch.id, row) for place, (batch, row) in canonical(all_batches).items()}


@given(many)
def test_the_table_is_the_defined_one(all_batches: list[Batch]) -> None:
    assert table(all_batches) == by_definition(all_batches)


@given(many, st.randoms(use_true_random=False))
def test_order_does_not_matter(all_batches: list[Batch], random: Random) -> None:
    shuffled = random.sample(all_batches, len(all_batches))
    assert table(shuffled) == table(all_batches)


@given(many)
def test_a_statement_twice_is_a_statement_once(all_batches: list[Batch]) -> None:
    assert table(all_batches + all_batches) == table(all_batches)


@given(many, many)
def test_parts_united_give_the_whole(one: list[Batch], other: list[Batch]) -> None:
    """The winners of two parts, together, have the same winners as the parts themselves."""
    winners = [batch for part in (one, other) for batch, _ in canonical(part).values()]
    assert table(winners) == table(one + other)


@given(many)
def test_an_answer_beats_every_error(all_batches: list[Batch]) -> None:
    for place, (_, row) in canonical(all_batches).items():
        if row.error:
            rivals = [batch for batch in all_batches if batch.result.chunk == place[1]]
            assert all(rival.error for batch in rivals for rival in batch.rows if rival.item == place[2])


def test_authors_and_times_play_no_part() -> None:
    first = Batch(b"\1" * 32, EVE.public, make_result(MADE.project, 0, [MADE.row(0, 0)], time=9)[0], [MADE.row(0, 0)])
    second = Batch(b"\2" * 32, ADA.public, make_result(MADE.project, 0, [MADE.row(0, 0)], time=1)[0], [MADE.row(0, 0)])
    for both in ([first, second], [second, first]):
        assert [batch for batch, _ in canonical(both).values()] == [first]


def test_tasks_do_not_mix() -> None:
    import msgspec

    result = make_result(MADE.project, 0, [MADE.row(0, 0)])[0]
    other = msgspec.structs.replace(result, tid=b"another1")
    rows = [MADE.row(0, 0)]
    assert len(canonical([Batch(b"\1" * 32, b"", result, rows), Batch(b"\2" * 32, b"", other, rows)])) == 2
