"""The agenda: what is claimed is what is meant, and what others took or did is dropped before it begins."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.claims import BURST, SETTLE
from p2pcap.ledger.records import MAX_CLAIMED, Claim
from p2pcap.ledger.state import Ledger
from p2pcap.worker.agenda import LOOK_AT_MOST, LOOK_EVERY, SPARE, Agenda
from p2pcap.worker.rate import MIN_SECONDS, PACE_OVER, Pace
from tests.makers import ADA, BOB, NOW, Made, claim_record, ledger_of, make_project, make_result, work_of

A, B = ADA.public, BOB.public
MADE = make_project([1_024, 100, 1_024])
LONG = make_project([1_024])


def agenda_of(made: Made = MADE) -> tuple[Agenda, Ledger]:
    ledger = ledger_of(made.project)
    return Agenda(work_of(ledger), A, random.Random(0)), ledger


def named(claim: Claim) -> dict[int, int]:
    return {claimed.chunk: int.from_bytes(claimed.slices, "little") for claimed in claim.chunks}


def complete(ledger: Ledger, made: Made, chunk: int, slice_: int, author: bytes = B) -> None:
    last = min(made.project.counts[chunk], slice_ * 64 + 64)
    result, _ = make_result(made.project, chunk, [made.row(chunk, index) for index in range(slice_ * 64, last)])
    ledger.complete(bytes([chunk, slice_]) * 16, author, result, 0)


def test_what_is_on_it_is_claimed_until_it_is_done() -> None:
    agenda, _ = agenda_of()
    while agenda.look(NOW, 3_000 - agenda.ahead, 1, 10.0):
        pass
    assert sorted(agenda.mine) == [0, 1, 2]
    assert agenda.ahead == MADE.project.images
    assert named(agenda.claim(NOW, 10.0, 1)) == {0: 2**16 - 1, 1: 0b11, 2: 2**16 - 1}
    seen = 0
    while piece := agenda.begin(NOW):
        assert named(agenda.claim(NOW, 10.0, 1))[piece.chunk] & piece.bit, "what is begun is still meant"
        seen += piece.items.bit_count()
        agenda.done(piece)
        assert not named(agenda.claim(NOW, 10.0, 1)).get(piece.chunk, 0) & piece.bit
    assert seen == MADE.project.images
    assert agenda.mine == []


def test_the_claim_states_the_time_within_bounds() -> None:
    agenda, _ = agenda_of()
    assert [agenda.claim(NOW, seconds, 1).seconds for seconds in (0.01, 12.6, 5_000.0)] == [1, 13, 600]


def test_it_works_from_the_front() -> None:
    agenda, _ = agenda_of(LONG)
    agenda.look(NOW, 1, 1, 10.0)
    begun = []
    while piece := agenda.begin(NOW):
        begun.append(piece.offset // 64)
    assert begun == list(range(16))


def test_what_others_did_is_dropped() -> None:
    agenda, ledger = agenda_of(LONG)
    agenda.look(NOW, 1, 1, 10.0)
    for slice_ in (0, 3):
        complete(ledger, LONG, 0, slice_)
    first = agenda.begin(NOW)
    assert first is not None
    assert first.offset == 64
    agenda.drop_taken(NOW)
    assert named(agenda.claim(NOW, 10.0, 1)) == {0: 0b1111111111110110}
    assert agenda.ahead == 14 * 64


def test_what_others_took_over_is_dropped_and_what_is_begun_is_kept() -> None:
    agenda, ledger = agenda_of(LONG)
    agenda.look(NOW, 1, 1, 10.0)
    begun = agenda.begin(NOW)
    assert begun is not None
    ledger.claims.hold(B, claim_record(LONG.project, {0: 0xFF01}), b"", NOW + SETTLE + 1)
    agenda.drop_taken(NOW + SETTLE + 1)
    assert named(agenda.claim(NOW, 10.0, 1)) == {0: 0x00FF}
    assert begun.items.bit_count() == 64
    assert agenda.ahead == 8 * 64


def test_a_fetched_slice_can_still_be_dropped() -> None:
    agenda, ledger = agenda_of(LONG)
    agenda.look(NOW, 1, 1, 10.0)
    fetched, other = agenda.begin(NOW), agenda.begin(NOW)
    assert fetched is not None
    assert other is not None
    ledger.claims.hold(B, claim_record(LONG.project, {0: 0b1}), b"", NOW + SETTLE + 1)
    assert not agenda.trim(fetched, NOW + SETTLE + 1)
    assert agenda.trim(other, NOW + SETTLE + 1)
    assert (fetched.items, agenda.ahead) == (0, 15 * 64)


def test_what_is_taken_from_others_waits_until_claims_have_settled() -> None:
    agenda, ledger = agenda_of(LONG)
    ledger.claims.hold(B, claim_record(LONG.project, {0: 0xFFFF}), b"", NOW - 20)
    ledger.claims.progress(B, NOW)
    assert agenda.look(NOW, 1, 2, 10.0) == [0]
    assert named(agenda.claim(NOW, 10.0, 1)) == {0: 0xFF00}
    assert agenda.begin(NOW + SETTLE - 0.1) is None
    assert agenda.ready_at() == NOW + SETTLE
    assert agenda.begin(NOW + SETTLE) is not None


def test_of_two_who_take_the_same_one_begins() -> None:
    """Neither knew of the other's claim; when both are known, the same one gives way for both."""
    thief = b"x" * 32
    sides = []
    for me, other in ((A, thief), (thief, A)):
        ledger = ledger_of(LONG.project)
        agenda = Agenda(work_of(ledger), me, random.Random(0))
        ledger.claims.hold(B, claim_record(LONG.project, {0: 0xFFFF}), b"", NOW - 20)
        ledger.claims.progress(B, NOW)
        agenda.look(NOW, 1, 3, 10.0)
        ledger.claims.hold(other, claim_record(LONG.project, {0: 0xFF00}), b"", NOW + 1)
        sides.append(agenda.begin(NOW + SETTLE) is not None)
    assert sorted(sides) == [False, True]


def test_a_vain_look_is_followed_by_a_pause_that_grows() -> None:
    agenda, ledger = agenda_of(LONG)
    for slice_ in range(16):
        complete(ledger, LONG, 0, slice_)
    now, pauses = float(NOW), []
    for _ in range(12):
        assert agenda.look(now, 64, 1, 10.0) == []
        assert agenda.look_at > now
        pauses.append(agenda.look_at - now)
        now = agenda.look_at
    assert LOOK_EVERY / 2 <= pauses[0] <= LOOK_EVERY * 1.5
    assert LOOK_AT_MOST / 2 <= pauses[-1] <= LOOK_AT_MOST * 1.5


def test_it_keeps_claims_back() -> None:
    made = make_project([64] * 40)
    agenda, ledger = agenda_of(made)
    looks = 0
    while agenda.look(NOW, 64, 1, 10.0):
        looks += 1
        ledger.claims.hold(A, agenda.claim(NOW, 10.0, looks), b"", NOW)
        agenda.clear()
    assert looks == BURST - SPARE


def test_no_more_chunks_than_a_claim_has_room_for() -> None:
    made = make_project([64] * 40)
    agenda, _ = agenda_of(made)
    while agenda.look(NOW, 10_000, 1, 10.0):
        pass
    assert len(agenda.mine) == MAX_CLAIMED


def test_what_is_being_loaded_is_ahead_until_it_has_come() -> None:
    agenda, _ = agenda_of(make_project([192]))
    agenda.look(NOW, 192, 1, 10.0)
    first, second = agenda.begin(NOW), agenda.begin(NOW)
    assert first is not None
    assert second is not None
    assert agenda.ahead_in(0) == set(range(192)), "so one read serves what two loaders wait for"
    agenda.loaded(first)
    assert agenda.ahead_in(0) == set(range(192)) - set(first.places)
    assert agenda.ahead_in(1) == set()


def test_a_chunk_is_set_aside_for_a_while() -> None:
    agenda, _ = agenda_of(make_project([64]))
    agenda.look(NOW, 64, 1, 10.0)
    piece = agenda.begin(NOW)
    assert piece is not None
    agenda.set_aside(piece, {3, 5}, NOW + 60)
    assert (piece.items, agenda.ahead) == (0b101000, 2)
    agenda.done(piece)
    assert agenda.look(NOW + 1, 64, 1, 10.0) == []
    assert agenda.look(NOW + 61, 64, 1, 10.0) == [0]


@given(
    st.integers(0, 2**32), st.lists(st.sampled_from(["look", "begin", "done", "trim", "theirs", "claim"]), max_size=60)
)
def test_the_images_ahead_are_always_counted_right(seed: int, steps: list[str]) -> None:
    rng = random.Random(seed)
    agenda, ledger = agenda_of()
    hand, now, nonce = [], float(NOW), 0
    for step in steps:
        now += rng.choice([0.1, 3.0, 20.0])
        if step == "look":
            agenda.look(now, rng.randrange(1_000), 2, 10.0)
        elif step == "begin" and (piece := agenda.begin(now)):
            hand.append(piece)
        elif step == "trim" and hand:
            agenda.trim(rng.choice(hand), now)
        elif step == "done" and hand:
            piece = hand.pop()
            agenda.ahead -= piece.items.bit_count()
            agenda.done(piece)
        elif step == "theirs":
            chunk = rng.choice([0, 2])
            complete(ledger, MADE, chunk, rng.randrange(16))
        elif step == "claim":
            nonce += 1
            theirs = claim_record(MADE.project, {rng.choice([0, 2]): rng.randrange(2**16)}, nonce)
            ledger.claims.hold(B, theirs, b"", now)
    while agenda.ready_at() is not None:
        if piece := agenda.begin(now + SETTLE):
            hand.append(piece)
    assert agenda.ahead == sum(piece.items.bit_count() for piece in hand)
    claimed = sum(bits.bit_count() for bits in named(agenda.claim(now, 10.0, 1)).values())
    assert claimed == len(hand)


# pace


def test_the_first_slice_is_foretold_as_told() -> None:
    assert Pace(30.0).seconds == 30.0


def test_pauses_are_not_held_against_the_pace() -> None:
    pace = Pace(30.0)
    pace.add(64, 0.0, 10.0)
    pace.add(64, 500.0, 510.0)
    assert pace.seconds == 10.0


def test_slices_that_overlap_share_the_time() -> None:
    pace = Pace(30.0)
    for ended in (20.0, 30.0, 40.0):
        pace.add(64, ended - 20.0, ended)
    assert pace.seconds == pytest.approx(40.0 / 3)


def test_part_of_a_slice_counts_for_its_part() -> None:
    pace = Pace(30.0)
    pace.add(16, 0.0, 5.0)
    assert pace.seconds == 20.0


def test_old_slices_are_forgotten() -> None:
    pace, now = Pace(30.0), 0.0
    for seconds in [100.0] * 5 + [10.0] * PACE_OVER:
        pace.add(64, now, now + seconds)
        now += seconds
    assert pace.seconds == pytest.approx(10.0)
    pace.add(64, now, now)
    assert pace.seconds > MIN_SECONDS
