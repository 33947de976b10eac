"""Who keeps what: enough copies whoever sees whom, and little moves when nodes come and go."""

import hashlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.node.shares import (
    COPIES,
    DOUBTED_AFTER,
    DOUBTED_FOR,
    MAX_SEEN,
    SEEN_FOR,
    SURE,
    Place,
    Ranks,
    Seen,
    may_drop,
    role_in_force,
    takes_back,
)

NODES = [f"12D3KooW{number:04}" for number in range(40)]
RESULTS = [hashlib.sha256(b"%d" % number).digest() for number in range(300)]

GIB = 1024**3

nodes = st.lists(st.sampled_from(NODES), min_size=1, max_size=14, unique=True)


def place(me: str, others: list[str], result: bytes, connected: bool = True) -> Place:
    return Ranks(me, dict.fromkeys(others, connected)).place(result)


def keepers(all_: list[str], result: bytes, crowded: bool = False) -> list[str]:
    return [node for node in all_ if not may_drop(place(node, all_, result), crowded)]


@given(nodes, st.sampled_from(RESULTS), st.booleans())
def test_as_many_keep_a_body_as_should(all_: list[str], result: bytes, crowded: bool) -> None:
    assert len(keepers(all_, result, crowded)) == min(len(all_), SURE if crowded else COPIES)


@given(nodes, st.sampled_from(RESULTS), st.data())
def test_whoever_sees_whom_enough_keep_a_body(all_: list[str], result: bytes, data: st.DataObject) -> None:
    """Each node sees a part of the others, not all of it connected, and may or may not have room."""
    kept = 0
    for node in all_:
        seen = data.draw(st.dictionaries(st.sampled_from(all_), st.booleans()))
        kept += not may_drop(Ranks(node, seen).place(result), data.draw(st.booleans()))
    assert kept >= min(len(all_), SURE)


@given(nodes, st.sampled_from(RESULTS), st.data())
def test_a_node_that_goes_moves_only_what_it_kept(all_: list[str], result: bytes, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(all_))
    left = [node for node in all_ if node != gone]
    before, after = set(keepers(all_, result)), set(keepers(left, result))
    assert before - {gone} <= after
    assert len(after - before) <= (gone in before)


@given(nodes, st.sampled_from(RESULTS), st.booleans())
def test_what_was_dropped_comes_back_only_to_those_that_keep_it(all_: list[str], result: bytes, roomy: bool) -> None:
    """So that nothing goes round in circles."""
    for node in all_:
        there = place(node, all_, result)
        assert not (takes_back(there, roomy) and may_drop(there, not roomy))


@settings(max_examples=20)
@given(st.sampled_from(NODES), st.sampled_from(RESULTS))
def test_without_connected_keepers_nothing_is_dropped(me: str, result: bytes) -> None:
    assert not may_drop(place(me, NODES, result, connected=False), crowded=True)
    assert not may_drop(place(me, [], result), crowded=True)


@given(nodes, st.lists(st.sampled_from(NODES), max_size=20, unique=True), st.sampled_from(RESULTS), st.data())
def test_whatever_liars_say_the_best_that_hold_a_body_keep_it(
    honest: list[str], liars: list[str], result: bytes, data: st.DataObject
) -> None:
    """Honest nodes drop in any order, those without room too, but only what SURE better ones have at that moment."""
    others = [node for node in liars if node not in honest]
    holders = set(honest)
    for node in data.draw(st.lists(st.sampled_from(honest), max_size=40)):
        ranks = Ranks(node, dict.fromkeys(honest + others, True))
        shown = [peer for peer in ranks.better(result) if peer in holders]
        if may_drop(ranks.place(result), True) and len(shown) >= SURE:
            holders.discard(node)
    assert len(holders) >= min(len(honest), SURE)


@given(nodes, st.sampled_from(RESULTS), st.data())
def test_the_better_ones_are_the_connected_ones_before_this_node(
    all_: list[str], result: bytes, data: st.DataObject
) -> None:
    me = all_[0]
    seen = {node: data.draw(st.booleans()) for node in all_}
    ordered = sorted(all_, key=lambda node: hashlib.sha256(node.encode() + result).digest())
    before = [node for node in ordered[: ordered.index(me)] if seen[node]]
    assert Ranks(me, seen).better(result) == before[:COPIES]


def test_the_shares_are_even() -> None:
    shares = Counter(node for result in RESULTS for node in keepers(NODES[:20], result))
    assert sum(shares.values()) == COPIES * len(RESULTS)
    assert max(shares.values()) < 1.5 * COPIES * len(RESULTS) / 20


def test_the_weight_is_the_documented_hash() -> None:
    weights = {node: hashlib.sha256(node.encode() + RESULTS[0]).digest() for node in NODES[:9]}
    assert set(keepers(NODES[:9], RESULTS[0])) == set(sorted(weights, key=weights.__getitem__)[:COPIES])


def test_a_node_that_left_counts_for_a_while() -> None:
    seen = Seen()
    seen.note({"one": "full", "two": "share", "three": "none", "four": "archive"}, 0.0)
    assert seen.nodes() == {"one": True, "two": True, "four": True}
    seen.note({"one": "full", "two": "none"}, SEEN_FOR)
    assert seen.nodes() == {"one": True, "four": False}
    seen.note({}, SEEN_FOR + 1)
    assert seen.nodes() == {"one": False}
    seen.note({}, 2 * SEEN_FOR + 1)
    assert seen.nodes() == {}


def test_few_nodes_are_remembered() -> None:
    seen = Seen()
    for number in range(MAX_SEEN + 50):
        seen.note({"friend": "full", str(number): "full"}, float(number) / 10)
    assert len(seen.nodes()) == MAX_SEEN
    assert {"friend", str(MAX_SEEN + 49)} <= seen.nodes().keys()


def test_who_hands_over_nothing_is_not_counted_for_a_while() -> None:
    seen, all_ = Seen(), {"one": "full", "two": "share"}
    seen.note(all_, 0.0)
    seen.asked("one", DOUBTED_AFTER - 1, 0, 0.0)
    assert seen.nodes() == {"one": True, "two": True}
    seen.asked("one", 1, 0, 0.0)
    assert seen.nodes() == {"two": True}
    seen.note(all_, DOUBTED_FOR - 1)
    assert seen.nodes() == {"two": True}
    seen.note(all_, DOUBTED_FOR)
    assert seen.nodes() == {"one": True, "two": True}


def test_who_hands_over_something_now_and_then_is_counted() -> None:
    seen = Seen()
    seen.note({"one": "full"}, 0.0)
    for _ in range(5):
        seen.asked("one", DOUBTED_AFTER - 1, 0, 0.0)
        seen.asked("one", 64, 1, 0.0)
    assert seen.nodes() == {"one": True}


def test_few_are_doubted_at_one_time() -> None:
    seen = Seen()
    for number in range(MAX_SEEN + 1):
        seen.note({str(number): "full"}, 0.0)
        seen.asked(str(number), DOUBTED_AFTER, 0, 0.0)
    seen.note({"0": "full", "1": "full"}, 1.0)
    assert seen.nodes() == {"0": True}


def test_a_full_node_keeps_a_share_when_what_counts_is_more_than_its_quota() -> None:
    assert [role_in_force("full", needed, 8 * GIB) for needed in (0, 8 * GIB, 8 * GIB + 1)] == ["full", "full", "share"]
    assert role_in_force("share", 0, GIB) == "share"
    assert role_in_force("archive", 2 * GIB, GIB) == "archive"
