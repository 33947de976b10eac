"""The sorted set of (time, id), against a sorted list."""

import random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from p2pcap.ledger.index import BLOCK, MAX_TIME, MODULUS, Index, key


def entry(number: int) -> tuple[int, bytes]:
    """One of few entries, so that repeats come up; half of the times are shared."""
    return number % 7, bytes([number % 3]) * 31 + bytes([number])


class SortedList(RuleBasedStateMachine):
    """An index beside the plainest thing that can do the same."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.plain: list[tuple[int, bytes]] = []

    @initialize(count=st.sampled_from([0, 1, BLOCK, BLOCK + 1, 4 * BLOCK]), order=st.randoms(use_true_random=False))
    def fill(self, count: int, order: random.Random) -> None:
        for number in order.sample(range(count), count):
            self.plain.append((number // 3, number.to_bytes(2, "big") * 16))
            self.index.add(*self.plain[-1])
        self.plain.sort()

    @rule(number=st.integers(0, 255))
    def add(self, number: int) -> None:
        time, id = entry(number)
        new = all(id != held for _, held in self.plain)
        assert self.index.add(time, id) is new
        assert self.index.add(time + 1, id) is False, "an id has one time"
        if new:
            self.plain = sorted([*self.plain, (time, id)])

    @rule(place=st.floats(0, 1), count=st.integers(1, 2 * BLOCK))
    def remove(self, place: float, count: int) -> None:
        start = int(place * len(self.plain))
        for time, id in self.plain[start : start + count]:
            assert self.index.remove(time + 1, id) is False
            assert self.index.remove(time, id) is True
            assert self.index.remove(time, id) is False
        del self.plain[start : start + count]

    @rule(one=st.floats(0, 1), other=st.floats(0, 1))
    def compare_a_range(self, one: float, other: float) -> None:
        lower, upper = sorted(int(place * len(self.plain)) for place in (one, other))
        part = self.plain[lower:upper]
        assert list(self.index.keys(lower, upper)) == [key(*held) for held in part]
        total = sum(int.from_bytes(id, "little") for _, id in part)
        assert self.index.sum_below(upper) - self.index.sum_below(lower) == total

    @rule(number=st.integers(0, 255), length=st.integers(0, 40))
    def compare_a_rank(self, number: int, length: int) -> None:
        bound = key(*entry(number))[:length]
        assert self.index.rank(bound) == sum(key(*held) < bound.ljust(40, b"\0") for held in self.plain)
        if length >= 8:
            assert self.index.rank(bound.ljust(40, b"\0")) == self.index.rank(bound)

    @invariant()
    def equal(self) -> None:
        assert list(self.index) == self.plain
        assert len(self.index) == len(self.plain)
        assert self.index.digest == sum(int.from_bytes(id, "big") for _, id in self.plain) % MODULUS
        assert all(id in self.index and self.index.time_of(id) == time for time, id in self.plain[::7])
        assert self.index.newest == max((time for time, _ in self.plain), default=None)
        assert b"\xee" * 32 not in self.index
        assert self.index.time_of(b"\xee" * 32) is None


TestSortedList = SortedList.TestCase


def test_the_order_of_arrival_does_not_matter() -> None:
    entries = [(number % 50, number.to_bytes(32, "big")) for number in range(1_000)]
    orders = entries, entries[::-1], random.Random(1).sample(entries, 1_000)
    indices = [Index() for _ in orders]
    for index, order in zip(indices, orders, strict=True):
        for time, id in order:
            index.add(time, id)
    assert [list(index) for index in indices] == [sorted(entries)] * 3
    assert len({(index.digest, index.sum_below(777)) for index in indices}) == 1


def test_blocks_stay_small_and_none_is_empty() -> None:
    index = Index()
    entries = [(number * 7_919 % 10_007, number.to_bytes(32, "big")) for number in range(10_007)]
    for time, id in entries:
        index.add(time, id)
    assert max(map(len, index._blocks)) <= BLOCK
    assert len(index._blocks) < 3 * len(entries) / BLOCK
    for time, id in entries[:-1]:
        index.remove(time, id)
    assert [len(block) for block in index._blocks[1:]] in ([], [1])
    assert list(index) == entries[-1:]


@pytest.mark.parametrize("from_the_end", [True, False])
def test_sums_hold_while_blocks_go_away(from_the_end: bool) -> None:
    index = Index()
    entries = [(number, number.to_bytes(32, "little")) for number in range(4 * BLOCK)]
    for entry in entries:
        index.add(*entry)
    for removed, entry in enumerate(entries[::-1] if from_the_end else entries, start=1):
        assert index.remove(*entry)
        left = entries[:-removed] if from_the_end else entries[removed:]
        assert index.sum_below(len(left)) == sum(time for time, _ in left)
        assert index.sum_below(len(left) // 2) == sum(time for time, _ in left[: len(left) // 2])
        assert index.rank(b"\xff" * 8) == len(left)


@pytest.mark.parametrize(("time", "id"), [(-1, bytes(32)), (MAX_TIME + 1, bytes(32)), (0, bytes(31)), (0, bytes(33))])
def test_what_has_no_key_is_refused(time: int, id: bytes) -> None:
    index = Index()
    with pytest.raises(ValueError, match="32 bytes"):
        index.add(time, id)
    assert len(index) == 0


def test_the_ends_of_time() -> None:
    index = Index()
    index.add(MAX_TIME, b"\xff" * 32)
    index.add(0, bytes(32))
    assert list(index) == [(0, bytes(32)), (MAX_TIME, b"\xff" * 32)]
    assert (index.rank(b""), index.rank(b"\xff" * 8), index.rank(bytes(40))) == (0, 2, 0)
