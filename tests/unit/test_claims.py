"""Claims live by progress: what is promised and not done is free again, whatever is said about it."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.claims import (
    BURST,
    MAX_LEASE,
    MIN_LEASE,
    MIN_PATIENCE,
    OVERDUE,
    REFILL,
    UNPROVEN,
    Claims,
    tie_break,
)
from tests.makers import ADA, BOB, NOW, claim_record, make_project, task_of

PROJECT = make_project((128, 100, 64)).project
TID, OTHER = task_of(PROJECT).tid, b"another1"
A, B = ADA.public, BOB.public


def held(claims: Claims, now: float) -> dict[int, list[bytes]]:
    return claims.chunks(now)


def claim(claims: Claims, author: bytes, chunks: dict[int, int], now: float, seconds: int = 5, nonce: int = 1) -> None:
    claims.hold(author, claim_record(PROJECT, chunks, nonce, int(now), seconds), b"%d" % nonce, now)


def test_a_claim_lives_for_its_lease() -> None:
    claims = Claims()
    claim(claims, A, {0: 1, 2: 1}, NOW, seconds=5)
    assert held(claims, NOW + MIN_LEASE - 0.1) == {0: [A], 2: [A]}
    assert held(claims, NOW + MIN_LEASE) == {}


def test_the_lease_follows_the_stated_time() -> None:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW, seconds=60)
    assert held(claims, NOW + 179) == {0: [A]}
    assert held(claims, NOW + 180) == {}


def test_no_stated_time_outlives_the_longest_lease() -> None:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW, seconds=600)
    assert held(claims, NOW + MAX_LEASE - 1) == {0: [A]}
    assert held(claims, NOW + MAX_LEASE) == {}


def test_progress_starts_the_lease_again() -> None:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW)
    for passed in range(20, 2_000, 20):
        claims.progress(A, NOW + passed)
        assert held(claims, NOW + passed + MIN_LEASE - 1) == {0: [A]}
    assert held(claims, NOW + passed + MIN_LEASE) == {}


def test_renewing_without_progress_ends() -> None:
    claims = Claims()
    for passed in range(0, 1_200, 15):
        claim(claims, A, {0: 1}, NOW + passed, nonce=passed + 1)
        assert held(claims, NOW + passed) == ({0: [A]} if passed < MAX_LEASE else {})


def test_a_chunk_kept_among_others_is_no_new_start() -> None:
    claims = Claims()
    for passed in range(0, 1_200, 15):
        claim(claims, A, {0: 1, 1 + passed % 2: 1}, NOW + passed, nonce=passed + 1)
    assert held(claims, NOW + passed) == {}


def test_giving_back_and_claiming_again_is_no_new_start() -> None:
    claims = Claims()
    for passed in range(0, 1_200, 10):
        claim(claims, A, {} if passed % 20 else {0: 1}, NOW + passed, nonce=passed + 1)
    assert held(claims, NOW + passed - 10) == held(claims, NOW + passed) == {}


def test_taking_turns_between_chunks_ends() -> None:
    claims = Claims()
    for passed in range(0, 1_500, 10):
        claim(claims, A, {passed // 10 % 3: 1}, NOW + passed, nonce=passed + 1)
    assert held(claims, NOW + passed) == {}


def test_after_progress_slices_named_before_are_a_new_start() -> None:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW, nonce=1)
    claim(claims, A, {1: 1}, NOW + 5, nonce=2)
    claims.progress(A, NOW + 10)
    claim(claims, A, {0: 1}, NOW + 700, nonce=3)
    assert held(claims, NOW + 700) == {0: [A]}


def test_renewing_after_progress_goes_on() -> None:
    claims = Claims()
    for passed in range(0, 3_000, 15):
        claim(claims, A, {0: 1}, NOW + passed, nonce=passed + 1)
        if passed % 300 == 0:
            claims.progress(A, NOW + passed)
        assert held(claims, NOW + passed) == {0: [A]}


def test_for_one_who_delivered_other_slices_are_a_new_start() -> None:
    claims = Claims()
    claim(claims, A, {0: 0b11}, NOW)
    claims.progress(A, NOW + 10)
    claim(claims, A, {0: 0b1100}, NOW + 1_200, nonce=2)
    assert held(claims, NOW + 1_200) == {0: [A]}
    claim(claims, A, {0: 0b0100}, NOW + 1_800, nonce=3)
    assert held(claims, NOW + 1_800) == {}


def test_for_one_who_never_delivered_they_are_none() -> None:
    """However it hops: one lease, and then silence until it is forgotten."""
    claims = Claims()
    for passed in range(0, 5_000, 15):
        claim(claims, A, {passed: 1}, NOW + passed, nonce=passed + 1)
        assert held(claims, NOW + passed) == ({passed: [A]} if passed < MAX_LEASE else {})


def test_who_was_silent_for_long_begins_anew() -> None:
    for silence, alive in ((MIN_LEASE + MAX_LEASE, False), (MIN_LEASE + MAX_LEASE + 1, True)):
        claims = Claims()
        claim(claims, A, {0: 1}, NOW)
        claim(claims, A, {0: 1}, NOW + silence, nonce=2)
        assert held(claims, NOW + silence) == ({0: [A]} if alive else {})


def idle_after(seconds: int, *, delivers: bool, proven: bool = False) -> float:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW, seconds=seconds)
    if delivers:
        claims.progress(A, NOW)
    newest = claims.of(A)
    assert newest is not None
    return next(passed for passed in range(10_000) if newest.idle(NOW + passed + 0.5, proven))


def test_a_claim_is_idle_when_its_author_should_have_delivered() -> None:
    assert idle_after(40, delivers=True) == idle_after(40, delivers=False, proven=True) == OVERDUE * 40
    assert idle_after(1, delivers=True) == idle_after(1, delivers=False) == MIN_PATIENCE
    assert idle_after(600, delivers=True) == OVERDUE * 600
    assert idle_after(600, delivers=False) == UNPROVEN


def test_it_says_when_more_of_a_chunk_was_named() -> None:
    claims = Claims()
    claim(claims, A, {0: 0b011, 1: 1}, NOW)
    claim(claims, A, {0: 0b001, 1: 1}, NOW + 10, nonce=2)
    newest = claims.of(A)
    assert newest is not None
    assert newest.grown == {0: NOW, 1: NOW}
    claim(claims, A, {0: 0b101}, NOW + 20, nonce=3)
    assert newest.grown == {0: NOW + 20}


def test_claims_are_found_by_chunk() -> None:
    claims = Claims()
    claim(claims, A, {0: 1, 1: 1}, NOW)
    claim(claims, B, {1: 1}, NOW)
    assert [list(claims.on(TID, chunk)) for chunk in range(3)] == [[A], [A, B], []]
    assert claims.named(TID) == 2
    claim(claims, A, {2: 1, 1: 0}, NOW + 1, nonce=2)
    assert [list(claims.on(TID, chunk)) for chunk in range(3)] == [[], [B], [A]]
    claims.sweep(NOW + 2_000)
    assert claims.named(TID) == 0


# several tasks


def claim_in(claims: Claims, tid: bytes, author: bytes, chunks: dict[int, int], now: float, nonce: int = 1) -> None:
    record = msgspec.structs.replace(claim_record(PROJECT, chunks, nonce, int(now), 5), tid=tid)
    claims.hold(author, record, b"%d" % nonce, now)


def test_an_author_claims_in_one_task_at_a_time() -> None:
    claims = Claims()
    claim_in(claims, TID, A, {0: 1, 1: 1}, NOW)
    claim_in(claims, TID, B, {1: 1}, NOW)
    claim_in(claims, OTHER, A, {1: 1}, NOW + 5, nonce=2)
    assert [list(claims.on(TID, chunk)) for chunk in range(2)] == [[], [B]]
    assert [list(claims.on(OTHER, chunk)) for chunk in range(2)] == [[], [A]]
    assert (claims.named(TID), claims.named(OTHER), claims.named(bytes(8))) == (1, 1, 0)
    newest = claims.of(A)
    assert newest is not None
    assert (newest.tid, newest.slices, newest.grown) == (OTHER, {1: 1}, {1: NOW + 5})
    claims.sweep(NOW + 2_000)
    assert claims.named(TID) == claims.named(OTHER) == 0


def test_the_same_slices_of_another_task_are_a_new_start_once() -> None:
    """For one who delivered. Until it delivers there too, hopping back and forth keeps nothing alive."""
    claims = Claims()
    claim_in(claims, TID, A, {0: 1}, NOW)
    claims.progress(A, NOW + 10)
    for passed in range(0, 2_000, 15):
        tid = OTHER if passed // 15 % 2 == 0 else TID
        claim_in(claims, tid, A, {0: 1}, NOW + 300 + passed, nonce=passed + 2)
        assert held(claims, NOW + 300 + passed) == ({0: [A]} if passed < MAX_LEASE else {})


def test_what_was_delivered_in_one_task_proves_nothing_in_another() -> None:
    claims = Claims()
    claim_in(claims, TID, A, {0: 1}, NOW)
    claims.progress(A, NOW)
    claims.hold(A, msgspec.structs.replace(claim_record(PROJECT, {0: 1}, 2, NOW, 600), tid=OTHER), b"", NOW)
    newest = claims.of(A)
    assert newest is not None
    assert not newest.idle(NOW + UNPROVEN, proven=False)
    assert newest.idle(NOW + UNPROVEN + 1, proven=False)
    claims.progress(A, NOW)
    assert not newest.idle(NOW + UNPROVEN + 1, proven=False)


# how often


def test_a_burst_and_then_one_now_and_then() -> None:
    claims = Claims()
    for nonce in range(BURST):
        assert claims.may(A, NOW)
        assert claims.may(A, NOW, spare=BURST - nonce - 1)
        assert nonce == 0 or not claims.may(A, NOW, spare=BURST - nonce)
        claim(claims, A, {0: 1}, NOW, nonce=nonce)
    assert not claims.may(A, NOW + REFILL - 0.1)
    assert claims.may(A, NOW + REFILL)
    assert claims.may(B, NOW)


@given(st.lists(st.floats(0, 20), max_size=200))
def test_nobody_gets_more_claims_than_that(pauses: list[float]) -> None:
    claims, now, made = Claims(), float(NOW), 0
    for nonce, pause in enumerate(pauses):
        now += pause
        if claims.may(A, now):
            claim(claims, A, {0: 1}, now, nonce=nonce)
            made += 1
    assert made <= BURST + sum(pauses) / REFILL + 1e-6


def test_giving_back_frees_at_once_and_is_remembered() -> None:
    claims = Claims()
    claim(claims, A, {0: 1, 1: 1}, NOW, nonce=1)
    claim(claims, A, {}, NOW + 1, nonce=2)
    assert held(claims, NOW + 1) == {}
    assert claims.envelopes(NOW + 1) == []
    newest = claims.of(A)
    assert newest is not None
    assert newest.claim.nonce == 2


def test_a_claim_replaces_the_former_one() -> None:
    claims = Claims()
    claim(claims, A, {0: 1, 1: 1}, NOW, nonce=1)
    claim(claims, B, {1: 1}, NOW, nonce=1)
    claim(claims, A, {2: 1}, NOW, nonce=2)
    assert held(claims, NOW) == {1: [B], 2: [A]}
    assert sorted(claims.envelopes(NOW)) == [b"1", b"2"]
    assert dict(claims.live(NOW)).keys() == {A, B}


def test_the_progress_of_one_does_not_help_another() -> None:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW)
    claims.progress(B, NOW + 25)
    assert held(claims, NOW + 31) == {}
    assert claims.of(B) is None


def test_a_held_claim_names_its_slices() -> None:
    claims = Claims()
    claim(claims, A, {0: 0b11, 2: 0b1}, NOW)
    newest = claims.of(A)
    assert newest is not None
    assert newest.slices == {0: 0b11, 2: 0b1}


def test_sweeping_forgets_only_what_no_longer_matters() -> None:
    claims = Claims()
    claim(claims, A, {0: 1}, NOW)
    claim(claims, B, {1: 1}, NOW + 600)
    claims.sweep(NOW + MIN_LEASE + MAX_LEASE)
    assert claims.of(A) is not None
    claims.sweep(NOW + 2 * MIN_LEASE + MAX_LEASE)
    assert claims.of(A) is None
    assert claims.of(B) is not None


@given(st.binary(min_size=8, max_size=8), st.integers(0, 999_999), st.binary(min_size=32, max_size=32))
def test_ties_are_broken_by_a_hash_of_all_three(m: bytes, chunk: int, author: bytes) -> None:
    value = tie_break(m, chunk, author)
    assert len(value) == 32
    assert value != tie_break(m, chunk + 1, author)
    assert value != tie_break(m[::-1] + b"x", chunk, author)


def test_no_author_wins_every_chunk() -> None:
    won = sum(tie_break(PROJECT.m, chunk, A) < tie_break(PROJECT.m, chunk, B) for chunk in range(1_000))
    assert 400 < won < 600
