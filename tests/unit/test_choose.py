"""Choosing work: nobody's live chunk, no more than a share, from a random place on."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.choose import claimed_chunk, lost, next_chunks, slice_items
from p2pcap.ledger.records import MAX_CLAIMED, Result
from p2pcap.ledger.state import Ledger
from tests.makers import ADA, BOB, EVE, NOW, claim_record, ledger_of, make_project, make_result

A, B = ADA.public, BOB.public
MADE = make_project([64] * 40)
PROJECT = MADE.project
UNEVEN = make_project((200, 64, 65))


def result(chunk: int, first: int = 0, last: int = 63) -> Result:
    return make_result(PROJECT, chunk, [MADE.row(chunk, index) for index in range(first, last + 1)])[0]


def chosen(ledger: Ledger, mine: list[int], images: int, workers: int = 1, seed: int = 0) -> list[int]:
    return next_chunks(ledger, A, mine, images, workers, NOW, random.Random(seed))


@given(
    theirs=st.sets(st.integers(0, 39), max_size=8),
    mine=st.lists(st.integers(0, 39), max_size=8, unique=True),
    done=st.sets(st.integers(0, 39), max_size=40),
    images=st.integers(1, 5_000),
    workers=st.integers(1, 10),
    seed=st.integers(0, 1_000),
)
def test_what_is_chosen_is_free_and_a_share(
    theirs: set[int], mine: list[int], done: set[int], images: int, workers: int, seed: int
) -> None:
    ledger = ledger_of(PROJECT)
    ledger.claims.hold(B, claim_record(PROJECT, dict.fromkeys(theirs, 1)), b"", NOW)
    for chunk in done:
        ledger.complete(bytes([chunk]) * 32, B, result(chunk))
    free = set(range(40)) - theirs - set(mine) - done
    chunks = chosen(ledger, mine, images, workers, seed)
    assert set(chunks) <= free
    assert len(set(chunks)) == len(chunks) <= max(1, len(free) // (2 * workers))
    assert len(mine) + len(chunks) <= MAX_CLAIMED
    assert bool(chunks) == bool(free and len(mine) < MAX_CLAIMED)
    assert 64 * (len(chunks) - 1) < images


def test_ones_own_claim_is_no_obstacle() -> None:
    """After a restart the node's own old claim is still live, and forgotten by its worker."""
    ledger = ledger_of(PROJECT)
    ledger.claims.hold(A, claim_record(PROJECT, dict.fromkeys(range(8), 1)), b"", NOW)
    found = {chunk for seed in range(300) for chunk in chosen(ledger, [], 64, seed=seed)}
    assert found == set(range(40))


def test_an_expired_claim_is_no_obstacle() -> None:
    ledger = ledger_of(PROJECT)
    ledger.claims.hold(B, claim_record(PROJECT, dict.fromkeys(range(8), 1)), b"", NOW - 31)
    assert {chunk for seed in range(300) for chunk in chosen(ledger, [], 64, seed=seed)} == set(range(40))


def test_what_is_announced_is_not_chosen() -> None:
    ledger = ledger_of(PROJECT)
    for chunk in range(39):
        ledger.announce(bytes([chunk]) * 32, B, result(chunk), NOW)
    assert {chunk for seed in range(20) for chunk in chosen(ledger, [], 64, seed=seed)} == {39}


def test_nothing_free_is_nothing_chosen() -> None:
    ledger = ledger_of(PROJECT)
    for chunk in range(40):
        ledger.complete(bytes([chunk]) * 32, B, result(chunk))
    assert chosen(ledger, [], 1_000) == []


def test_the_start_is_random_and_then_in_order() -> None:
    ledger = ledger_of(PROJECT)
    starts: Counter[int] = Counter()
    for seed in range(2_000):
        chunks = chosen(ledger, [], 4 * 64, seed=seed)
        assert chunks == [(chunks[0] + step) % 40 for step in range(4)]
        starts[chunks[0]] += 1
    assert len(starts) == 40
    assert max(starts.values()) < 100


def test_the_next_chunk_follows_the_last() -> None:
    ledger = ledger_of(PROJECT)
    assert {tuple(chosen(ledger, [17], 64, seed=seed)) for seed in range(20)} == {(18,)}
    ledger.claims.hold(B, claim_record(PROJECT, {18: 1}), b"", NOW)
    assert len({tuple(chosen(ledger, [17], 64, seed=seed)) for seed in range(20)}) > 5
    assert {tuple(chosen(ledger, [39], 64, seed=seed)) for seed in range(20)} != {(0,)}


def test_the_last_chunks_are_split() -> None:
    ledger = ledger_of(PROJECT)
    assert len(chosen(ledger, [], 10_000, workers=1)) == MAX_CLAIMED
    assert len(chosen(ledger, [], 10_000, workers=4)) == 5
    assert len(chosen(ledger, [], 10_000, workers=20)) == 1
    assert len(chosen(ledger, [], 10_000, workers=1_000)) == 1


def test_a_half_done_chunk_counts_for_its_rest() -> None:
    ledger = ledger_of(PROJECT)
    for chunk in range(40):
        ledger.complete(bytes([chunk]) * 32, B, result(chunk, 0, 31))
    assert len(chosen(ledger, [], 64)) == 2


def both_claim(*, done: Result | None = None, by: bytes = A) -> Ledger:
    ledger = ledger_of(PROJECT)
    for author in (A, B):
        ledger.claims.hold(author, claim_record(PROJECT, dict.fromkeys(range(8), 1)), b"", NOW)
    if done is not None:
        ledger.complete(b"\1" * 32, by, done)
    return ledger


def test_of_two_claims_exactly_one_loses() -> None:
    ledger = both_claim()
    ours, theirs = lost(ledger, A, range(8), NOW), lost(ledger, B, range(8), NOW)
    assert ours | theirs == set(range(8))
    assert not ours & theirs
    assert ours
    assert theirs


def test_of_three_claims_one_keeps_each_chunk() -> None:
    ledger = both_claim()
    ledger.claims.hold(EVE.public, claim_record(PROJECT, dict.fromkeys(range(8), 1)), b"", NOW)
    losers = [lost(ledger, author, range(8), NOW) for author in (A, B, EVE.public)]
    assert all(sum(chunk in each for each in losers) == 2 for chunk in range(8))


def test_whoever_has_published_keeps_the_chunk() -> None:
    for author, other in ((A, B), (B, A)):
        for chunk in range(8):
            ledger = both_claim(done=result(chunk, 0, 5), by=author)
            assert chunk not in lost(ledger, author, [chunk], NOW)
            assert chunk in lost(ledger, other, [chunk], NOW)


def test_when_both_have_published_still_one_loses() -> None:
    ledger = both_claim(done=result(0, 0, 5), by=A)
    ledger.announce(b"\2" * 32, B, result(0, 6, 7), NOW)
    assert (lost(ledger, A, [0], NOW) == {0}) != (lost(ledger, B, [0], NOW) == {0})


def test_nothing_is_lost_to_a_claim_that_is_over() -> None:
    assert lost(both_claim(), A, range(8), NOW + 31) == set()
    assert lost(ledger_of(PROJECT), A, range(8), NOW) == set()


def test_a_claim_names_the_slices_that_miss_items() -> None:
    ledger = ledger_of(UNEVEN.project)
    assert [claimed_chunk(ledger, chunk).slices for chunk in range(3)] == [b"\x0f", b"\x01", b"\x03"]
    rows = [UNEVEN.row(0, index) for index in range(64, 128)]
    ledger.complete(b"\1" * 32, B, make_result(UNEVEN.project, 0, rows)[0])
    assert claimed_chunk(ledger, 0).slices == b"\x0d"
    ledger.complete(b"\2" * 32, B, make_result(UNEVEN.project, 0, [UNEVEN.row(0, 0)])[0])
    assert claimed_chunk(ledger, 0).slices == b"\x0d"


def test_slices_part_a_chunk() -> None:
    ledger = ledger_of(UNEVEN.project)
    pieces = slice_items(ledger, 0)
    assert [bits.bit_count() for bits in pieces] == [64, 64, 64, 8]
    assert sum(pieces) == ledger.missing(0) == 2**200 - 1
    ledger.complete(b"\2" * 32, B, make_result(UNEVEN.project, 0, [UNEVEN.row(0, 65)])[0])
    assert [bits.bit_count() for bits in slice_items(ledger, 0)] == [64, 63, 64, 8]
