"""Choosing work: nobody's live chunk, no more than a share, from a random place on; then slices from the back."""

import random
from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.choose import SAMPLE, Look, Pick, items_of, next_chunks, next_slices, slices_of, yielded
from p2pcap.ledger.claims import SETTLE, UNPROVEN
from p2pcap.ledger.records import MAX_CLAIMED, Result
from p2pcap.ledger.state import Ledger
from tests.makers import ADA, BOB, EVE, NOW, claim_record, ledger_of, make_project, make_result, work_of

A, B, E = ADA.public, BOB.public, EVE.public
MADE = make_project([64] * 40)
PROJECT = MADE.project
LONG = make_project([1_024] * 4)
ALL = 2**16 - 1


def result(chunk: int, first: int = 0, last: int = 63) -> Result:
    return make_result(PROJECT, chunk, [MADE.row(chunk, index) for index in range(first, last + 1)])[0]


def complete(ledger: Ledger, chunk: int, made: Result, author: bytes = B) -> None:
    ledger.complete(bytes([chunk, made.offset // 64]) + author[:30], author, made, 0)


def claim(
    ledger: Ledger, author: bytes, chunks: Mapping[int, int], now: float = NOW, seconds: int = 10, nonce: int = 1
) -> None:
    ledger.claims.hold(author, claim_record(ledger.project, chunks, nonce, NOW, seconds), b"", now)


def look_of(mine: Mapping[int, int] | None = None, now: float = NOW, rest: float = 0.0, seconds: float = 10.0) -> Look:
    return Look(A, mine or {}, rest, seconds, now)


def chosen(ledger: Ledger, mine: list[int], images: int, workers: int = 1, seed: int = 0) -> list[int]:
    look = look_of(dict.fromkeys(mine, 1))
    return [pick.chunk for pick in next_chunks(work_of(ledger), look, images, workers, random.Random(seed))]


# whole chunks


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
    claim(ledger, B, dict.fromkeys(theirs, 1))
    for chunk in done:
        complete(ledger, chunk, result(chunk))
    free = set(range(40)) - theirs - set(mine) - done
    chunks = chosen(ledger, mine, images, workers, seed)
    assert set(chunks) <= free
    assert len(set(chunks)) == len(chunks) <= max(1, len(set(range(40)) - theirs - done) // (2 * workers))
    assert len(mine) + len(chunks) <= MAX_CLAIMED
    assert 64 * (len(chunks) - 1) < images
    if len(free) > 20 and len(mine) < MAX_CLAIMED:
        assert chunks, "with half the chunks free none was found in so many tries"


def test_ones_own_claim_is_no_obstacle() -> None:
    """After a restart the node's own old claim is still live, and forgotten by its worker."""
    ledger = ledger_of(PROJECT)
    claim(ledger, A, dict.fromkeys(range(8), 1))
    found = {chunk for seed in range(300) for chunk in chosen(ledger, [], 64, seed=seed)}
    assert found == set(range(40))


def test_an_expired_claim_is_no_obstacle() -> None:
    ledger = ledger_of(PROJECT)
    claim(ledger, B, dict.fromkeys(range(8), 1), NOW - 31)
    assert {chunk for seed in range(300) for chunk in chosen(ledger, [], 64, seed=seed)} == set(range(40))


def test_what_is_announced_is_not_chosen() -> None:
    ledger = ledger_of(PROJECT)
    for chunk in range(20):
        ledger.announce(bytes([chunk]) * 32, B, result(chunk), NOW)
    assert {chunk for seed in range(200) for chunk in chosen(ledger, [], 64, seed=seed)} == set(range(20, 40))


def test_nothing_free_is_nothing_chosen() -> None:
    ledger = ledger_of(PROJECT)
    for chunk in range(40):
        complete(ledger, chunk, result(chunk))
    assert chosen(ledger, [], 1_000) == []
    assert next_slices(work_of(ledger), look_of(), SAMPLE, random.Random(0)) is None


def test_the_start_is_random_and_then_in_order() -> None:
    ledger = ledger_of(PROJECT)
    starts: Counter[int] = Counter()
    for seed in range(2_000):
        chunks = chosen(ledger, [], 4 * 64, seed=seed)
        starts[chunks[0]] += 1
        if chunks[0] <= 36:
            assert chunks == [chunks[0] + step for step in range(4)]
    assert len(starts) == 40
    assert max(starts.values()) < 100


def test_the_next_chunk_follows_the_last() -> None:
    ledger = ledger_of(PROJECT)
    assert {tuple(chosen(ledger, [17], 64, seed=seed)) for seed in range(20)} == {(18,)}
    claim(ledger, B, {18: 1})
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
        complete(ledger, chunk, result(chunk, 0, 31))
    assert len(chosen(ledger, [], 64)) == 2


# slices


def slices(ledger: Ledger, look: Look, seed: int = 0) -> Pick | None:
    return next_slices(work_of(ledger), look, SAMPLE, random.Random(seed))


def busy(*, seconds: int = 10) -> Ledger:
    """All four chunks are claimed, chunk n by one who does a slice in `seconds`, and has delivered."""
    ledger = ledger_of(LONG.project)
    for chunk, author in enumerate((B, E, b"c" * 32, b"d" * 32)):
        claim(ledger, author, {chunk: ALL}, seconds=seconds)
        ledger.claims.progress(author, NOW + 20)
    return ledger


def test_equals_share_what_is_left_from_the_back() -> None:
    for seed in range(20):
        pick = slices(busy(), look_of(now=NOW + 20), seed)
        assert pick is not None
        assert pick.slices == 0xFF00
        assert pick.shared


def test_the_rest_is_split_by_speed() -> None:
    for seconds, taken in ((30.0, 4), (10.0, 8), (2.5, 12), (160.0, 0), (1_000.0, 0)):
        pick = slices(busy(), look_of(now=NOW + 20, seconds=seconds))
        assert (pick.slices.bit_count() if pick else 0) == taken


def test_who_has_work_left_takes_less() -> None:
    pick = slices(busy(), look_of(now=NOW + 20, rest=40.0))
    assert pick is not None
    assert pick.slices.bit_count() == 6


def test_the_slice_that_is_begun_is_left() -> None:
    ledger = ledger_of(LONG.project)
    for chunk in range(4):
        claim(ledger, B, {0: 0b11}, seconds=600)
        for index in range(16 if chunk else 14):
            offset = (index + (0 if chunk else 2)) * 64
            rows = [LONG.row(chunk, offset + item) for item in range(64)]
            complete(ledger, chunk, make_result(LONG.project, chunk, rows)[0])
    ledger.claims.progress(B, NOW + 20)
    pick = slices(ledger, look_of(now=NOW + 20, seconds=1.0))
    assert pick is not None
    assert (pick.chunk, pick.slices) == (0, 0b10)
    ledger.claims.hold(B, claim_record(LONG.project, {0: 0b01}, 2, NOW, 600), b"", NOW + 20)
    claim(ledger, E, {0: 0b10}, NOW + 20, seconds=600)
    assert slices(ledger, look_of(now=NOW + 40, seconds=1.0)) is None, "one slice each, and both are begun"


def test_what_a_claimant_with_more_to_do_is_at_is_left() -> None:
    """It has 17 slices, so eight may be taken; the last one of its first chunk is not among them."""
    ledger = ledger_of(LONG.project)
    for chunk, first in ((0, 1), (2, 0), (3, 0)):
        for index in range(first, 16):
            rows = [LONG.row(chunk, index * 64 + item) for item in range(64)]
            complete(ledger, chunk, make_result(LONG.project, chunk, rows)[0])
    claim(ledger, B, {0: 0b1, 1: ALL})
    ledger.claims.progress(B, NOW + 20)
    for seed in range(10):
        pick = slices(ledger, look_of(now=NOW + 20), seed)
        assert pick is not None
        assert (pick.chunk, pick.slices) == (1, 0xFF00)


def test_nobody_takes_from_a_young_claim() -> None:
    ledger = busy()
    for author in (B, E, b"c" * 32, b"d" * 32):
        ledger.claims.progress(author, NOW)
    assert slices(ledger, look_of(now=NOW + SETTLE - 0.1)) is None
    assert slices(ledger, look_of(now=NOW + SETTLE)) is not None


def test_what_was_taken_counts_for_the_taker() -> None:
    """Of several claims on a slice the last one has it."""
    ledger = busy()
    thieves = {chunk: bytes([chunk + 200]) * 32 for chunk in range(4)}
    for chunk, thief in thieves.items():
        claim(ledger, thief, {chunk: 0xFF00}, NOW + 20, seconds=10)
    for seed in range(20):
        pick = slices(ledger, look_of(now=NOW + 30), seed)
        assert pick is not None
        assert pick.slices in (0b11100000, 0xF000, 0xE000), "half of what the claimant or the taker has left"


def test_idle_claims_hold_nothing() -> None:
    """A claimant who never delivered is passed over soon, one who did after 2.5 times what it states."""
    for author_delivers, patience in ((False, UNPROVEN), (True, 250.0)):
        ledger = ledger_of(LONG.project)
        for chunk in range(4):
            author = bytes([chunk + 1]) * 32
            claim(ledger, author, {chunk: ALL}, seconds=100)
            if author_delivers:
                ledger.claims.progress(author, NOW)
        before = slices(ledger, look_of(now=NOW + patience - 1, seconds=100))
        after = slices(ledger, look_of(now=NOW + patience + 1, seconds=100))
        assert before is not None
        assert before.slices != ALL
        assert after is not None
        assert after.slices == ALL


def test_slices_that_nobody_claims_come_first() -> None:
    for seed in range(20):
        ledger = busy()
        for chunk, author in enumerate((B, E, b"c" * 32, b"d" * 32)):
            ledger.claims.hold(author, claim_record(LONG.project, {chunk: 0x0FFF}, 2), b"", NOW + 20)
        pick = slices(ledger, look_of(now=NOW + 21), seed)
        assert pick is not None
        assert pick.slices == 0xF000


def test_ones_own_slices_are_not_picked_again() -> None:
    ledger = ledger_of(LONG.project)
    mine = dict.fromkeys(range(4), 0x00FF)
    pick = slices(ledger, look_of(mine))
    assert pick is not None
    assert pick.slices == 0xFF00
    assert slices(ledger, look_of(dict.fromkeys(range(4), ALL))) is None


def test_chunks_to_be_left_alone_are_left_alone() -> None:
    ledger = ledger_of(LONG.project)
    look = Look(A, {}, 0.0, 10.0, NOW, avoid={0, 1, 2, 3})
    assert next_chunks(work_of(ledger), look, 64, 1, random.Random(0)) == []
    assert next_slices(work_of(ledger), look, SAMPLE, random.Random(0)) is None


def test_a_claim_has_no_room_for_a_ninth_chunk() -> None:
    ledger = ledger_of(PROJECT)
    full = dict.fromkeys(range(MAX_CLAIMED), 1)
    assert next_slices(work_of(ledger), look_of(full), 40, random.Random(0)) is None


# giving way


def both_claim(*, done: Result | None = None, by: bytes = A, later: float = 0.0) -> Ledger:
    ledger = ledger_of(PROJECT)
    claim(ledger, A, dict.fromkeys(range(8), 1))
    claim(ledger, B, dict.fromkeys(range(8), 1), NOW + later)
    if done is not None:
        complete(ledger, done.chunk, done, by)
    return ledger


def lost(
    ledger: Ledger, me: bytes, now: float = NOW, known: Mapping[bytes, float] | None = None, later: float = 0.0
) -> set[int]:
    work, claimed = work_of(ledger), NOW + later
    return {chunk for chunk in range(8) if yielded(work, me, chunk, 1, claimed, known or {}, now)}


def test_of_two_claims_that_crossed_exactly_one_loses() -> None:
    ledger = both_claim()
    ours, theirs = lost(ledger, A), lost(ledger, B)
    assert ours | theirs == set(range(8))
    assert not ours & theirs
    assert ours
    assert theirs


def test_of_three_claims_one_keeps_each_chunk() -> None:
    ledger = both_claim()
    claim(ledger, E, dict.fromkeys(range(8), 1))
    losers = [lost(ledger, author) for author in (A, B, E)]
    assert all(sum(chunk in each for each in losers) == 2 for chunk in range(8))


def test_whoever_has_published_keeps_the_chunk() -> None:
    for author, other in ((A, B), (B, A)):
        for chunk in range(8):
            ledger = both_claim(done=result(chunk, 0, 5), by=author)
            assert chunk not in lost(ledger, author)
            assert chunk in lost(ledger, other)


def test_a_header_without_its_body_wins_nothing() -> None:
    plain = lost(both_claim(), A)
    ledger = both_claim()
    for chunk in range(8):
        ledger.announce(bytes([chunk]) * 32, B, result(chunk, 0, 5), NOW)
    assert lost(ledger, A) == plain


def test_when_both_have_published_still_one_loses() -> None:
    ledger = both_claim(done=result(0, 0, 5), by=A)
    complete(ledger, 0, result(0, 6, 7), B)
    assert (0 in lost(ledger, A)) != (0 in lost(ledger, B))


def test_a_claim_that_came_knowingly_takes_over() -> None:
    """Also from one who has published there: it is not begun, or I would not ask."""
    ledger = both_claim(done=result(0, 0, 5), by=A, later=SETTLE + 1)
    assert lost(ledger, A, NOW + SETTLE + 1) == set(range(8))
    assert lost(ledger, B, NOW + SETTLE + 1, {A: NOW}, SETTLE + 1) == set()


def test_what_was_taken_from_me_may_be_taken_back() -> None:
    ledger = both_claim(later=SETTLE + 1)
    assert yielded(work_of(ledger), B, 0, 1, NOW + 6, {A: NOW}, NOW + 20) == 0
    ledger.claims.progress(A, NOW + 10)
    ledger.claims.hold(A, claim_record(PROJECT, {}, 2), b"", NOW + 11)
    ledger.claims.hold(A, claim_record(PROJECT, {0: 1}, 3), b"", NOW + 20)
    assert yielded(work_of(ledger), B, 0, 1, NOW + 6, {A: NOW}, NOW + 20) == 1


def test_only_the_slices_that_are_named_are_left() -> None:
    ledger = ledger_of(LONG.project)
    claim(ledger, B, {0: 0xF000}, NOW + 10)
    assert yielded(work_of(ledger), A, 0, ALL, NOW, {}, NOW + 10) == 0xF000


def test_nothing_is_lost_to_a_claim_that_is_over_or_idle() -> None:
    assert lost(both_claim(), A, NOW + 31) == set()
    assert lost(ledger_of(PROJECT), A) == set()
    ledger = both_claim()
    ledger.claims.hold(B, claim_record(PROJECT, dict.fromkeys(range(8), 1), 2, NOW, 600), b"", NOW)
    assert lost(ledger, A, NOW + UNPROVEN)
    assert lost(ledger, A, NOW + UNPROVEN + 1) == set(), "it is live, and its author never delivered"


# slices and items


@given(st.integers(0, 2**1_024 - 1))
def test_slices_are_those_that_items_lie_in(items: int) -> None:
    assert slices_of(items) == sum(1 << index for index in range(16) if items & items_of(index))


def test_items_of_slices_part_a_chunk() -> None:
    assert sum(items_of(index) for index in range(16)) == 2**1_024 - 1
