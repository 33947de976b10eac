"""Who is asked to show a body, and when that is enough; when a body that was asked about in vain has its turn again."""

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.node.proofs import DOUBLINGS, REST, Inquiry, Rests
from p2pcap.node.shares import SURE

ROOT, OTHER = b"r" * 32, b"o" * 32
PEERS = ("ann", "ben", "cleo", "dan", "eve")


def test_the_best_are_asked_and_the_next_only_for_what_these_lack() -> None:
    inquiry = Inquiry({ROOT: PEERS, OTHER: PEERS[:3]})
    assert inquiry.next() == {"ann": [ROOT, OTHER], "ben": [ROOT, OTHER]}
    for peer, root in (("ann", ROOT), ("ann", OTHER), ("ben", ROOT)):
        inquiry.handed_over(peer, root)
    assert inquiry.next() == {"cleo": [OTHER]}
    assert inquiry.next() == {}
    assert inquiry.shown(PEERS) == {ROOT}


def test_who_cannot_be_enough_is_not_asked() -> None:
    assert Inquiry({ROOT: PEERS[:1], OTHER: ()}).next() == {}
    inquiry = Inquiry({ROOT: PEERS[:3]})
    inquiry.next()
    assert inquiry.next() == {}  # one is left, and two are needed


def test_holders_that_have_left_do_not_count() -> None:
    inquiry = Inquiry({ROOT: PEERS})
    inquiry.next()
    inquiry.handed_over("ann", ROOT)
    inquiry.handed_over("ben", ROOT)
    assert inquiry.shown({"ben", "cleo"}) == set()
    assert inquiry.shown({"ben", "ann"}) == {ROOT}


def test_one_holder_is_one_however_often_it_says_so() -> None:
    inquiry = Inquiry({ROOT: PEERS})
    for _ in range(5):
        inquiry.handed_over("ann", ROOT)
    assert inquiry.shown(PEERS) == set()


def test_only_the_best_that_answered_are_judged() -> None:
    inquiry = Inquiry({ROOT: PEERS, OTHER: ("ben", "cleo")})
    inquiry.next()
    inquiry.handed_over("ben", OTHER)
    for peer in ("ann", "ben"):
        inquiry.ended(peer)
    assert inquiry.next() == {"cleo": [ROOT], "dan": [ROOT]}
    inquiry.ended("dan")
    assert sorted(inquiry.tallies()) == [("ann", 1, 0), ("ben", 2, 1)]


@given(st.dictionaries(st.binary(min_size=1, max_size=1), st.lists(st.sampled_from(PEERS), unique=True)), st.data())
def test_nobody_is_asked_twice_and_no_more_is_fetched_than_needed(
    better: dict[bytes, list[str]], data: st.DataObject
) -> None:
    held = {root: data.draw(st.sets(st.sampled_from(PEERS))) for root in better}
    inquiry, asked, came = Inquiry(better), [], []
    while questions := inquiry.next():
        for peer, roots in questions.items():
            asked += [(peer, root) for root in roots]
            for root in roots:
                if peer in held[root]:
                    inquiry.handed_over(peer, root)
                    came.append(root)
    assert len(asked) == len(set(asked))
    assert all(came.count(root) <= SURE for root in better)
    assert inquiry.shown(PEERS) == {root for root in better if len(held[root].intersection(better[root])) >= SURE}


def test_rests_grow_up_to_some_hours_and_end_when_the_body_is_gone() -> None:
    rests, now = Rests(), 0.0
    assert rests.over(ROOT, now)
    for times in range(DOUBLINGS + 3):
        rests.in_vain(ROOT, now)
        rest = REST * 2 ** min(times, DOUBLINGS)
        assert not rests.over(ROOT, now + rest - 1)
        now += rest
        assert rests.over(ROOT, now)
    rests.in_vain(ROOT, now)
    assert rests.over(OTHER, now)
    rests.forget(ROOT)
    assert rests.over(ROOT, now)
