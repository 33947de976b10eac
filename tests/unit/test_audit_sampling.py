"""Which items are drawn: as many as the share says, the same ones each time, and none that others can foresee."""

import hashlib
import math

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.audit.sampling import TIERS, drawn, drawn_first, peer_share, share_of

ALL = 2**64 - 1
SECRET, OTHER = b"s" * 32, b"o" * 32
RESULTS = [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(4_000)]

masks = st.integers(1, ALL)
shares = st.floats(0, 1)


@given(masks, shares, shares)
def test_a_larger_share_holds_all_of_a_smaller_one(items: int, one: float, other: float) -> None:
    less, more = (drawn(SECRET, RESULTS[0], items, share) for share in sorted((one, other)))
    assert less & ~more == 0
    assert more & ~items == 0


@given(masks, st.integers(0, 70))
def test_the_first_so_many_are_those_of_the_smallest_share(items: int, count: int) -> None:
    first = drawn_first(SECRET, RESULTS[0], items, count)
    assert first.bit_count() == min(count, items.bit_count())
    assert first & ~items == 0
    assert first & ~drawn_first(SECRET, RESULTS[0], items, count + 1) == 0


def test_as_many_are_drawn_as_the_share_says() -> None:
    for tier, one_in in enumerate(TIERS):
        share = share_of(tier, verifiers=1)
        assert share == 1 / one_in
        expected = len(RESULTS) * 64 * share
        found = sum(drawn(SECRET, result, ALL, share).bit_count() for result in RESULTS)
        assert abs(found - expected) < 5 * math.sqrt(expected)


def test_every_place_is_drawn_alike() -> None:
    counts = [sum(drawn(SECRET, result, ALL, 1 / 4) >> place & 1 for result in RESULTS) for place in range(64)]
    assert max(abs(count - len(RESULTS) / 4) for count in counts) < 5 * math.sqrt(len(RESULTS) * 3 / 16)


def test_two_secrets_draw_independently() -> None:
    mine, theirs = ([drawn(secret, result, ALL, 1 / 4) for result in RESULTS] for secret in (SECRET, OTHER))
    both = sum((one & other).bit_count() for one, other in zip(mine, theirs, strict=True))
    expected = len(RESULTS) * 64 / 16
    assert abs(both - expected) < 5 * math.sqrt(expected)


def test_verifiers_share_what_is_to_be_checked_and_volunteers_check_by_what_they_make() -> None:
    assert share_of(0, verifiers=4) == share_of(0, verifiers=1) / 4
    assert share_of(0, verifiers=0) == share_of(0, verifiers=1)
    assert share_of(7, verifiers=1) == 1 / TIERS[-1]
    assert peer_share(512, engines=10) == 1 / 5_120
    assert peer_share(0, engines=10) == 0.0
