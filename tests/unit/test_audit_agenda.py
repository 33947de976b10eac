"""The order of what is to be checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import p2pcap.audit.agenda as agenda_module
from p2pcap.audit.agenda import URGENCY, Agenda, Pick, Why

ADA, BOB = b"a" * 32, b"b" * 32


def pick(number: int, author: bytes = ADA, items: int = 1, why: Why = "sampled") -> Pick:
    return Pick(number.to_bytes(32, "big"), author, items, why)


def drain(agenda: Agenda, now: float = 0.0) -> list[Pick]:
    found = []
    while (one := agenda.next(now)) is not None:
        agenda.done(one)
        found.append(one)
    return found


def test_the_most_urgent_comes_first() -> None:
    agenda = Agenda()
    for number, why in enumerate(reversed(URGENCY)):
        agenda.put(pick(number, why=why))
    assert [one.why for one in drain(agenda)] == list(URGENCY)


def test_authors_take_turns_and_of_each_the_newest_comes_first() -> None:
    agenda = Agenda()
    for number in range(5):
        agenda.put(pick(number))
    agenda.put(pick(10, BOB))
    agenda.put(pick(11, BOB))
    order = [int.from_bytes(one.id, "big") for one in drain(agenda)]
    assert order == [4, 11, 3, 10, 2, 1, 0]


def test_two_picks_of_a_result_are_one_and_the_more_urgent_reason_counts() -> None:
    agenda = Agenda()
    agenda.put(pick(1, items=0b0011))
    agenda.put(pick(1, items=0b0110, why="accused"))
    agenda.put(pick(1, items=0b1000, why="first"))
    assert drain(agenda) == [pick(1, items=0b1111, why="accused")]


def test_what_rests_comes_back_in_time() -> None:
    agenda = Agenda()
    agenda.rest(pick(1), 10.0)
    assert (agenda.next(9.0), agenda.wakes(), len(agenda), agenda.due) == (None, 10.0, 1, False)
    assert drain(agenda, 10.0) == [pick(1)]
    assert (agenda.wakes(), len(agenda)) == (None, 0)


def test_what_rests_and_is_asked_for_again_does_not_wait() -> None:
    agenda = Agenda()
    agenda.rest(pick(1, items=1), 10.0)
    agenda.put(pick(1, items=2, why="accused"))
    assert drain(agenda) == [pick(1, items=3, why="accused")]
    assert drain(agenda, 10.0) == []


def test_what_is_in_hand_is_due() -> None:
    agenda = Agenda()
    agenda.put(pick(1))
    one = agenda.next(0.0)
    assert one is not None
    assert agenda.due
    agenda.done(one)
    assert not agenda.due


def test_of_too_much_the_oldest_of_whoever_has_most_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda_module, "MOST", 10)
    agenda = Agenda()
    agenda.put(pick(100, BOB))
    agenda.put(pick(101, why="accused"))
    for number in range(50):
        agenda.put(pick(number))
    kept = drain(agenda)
    assert len(kept) == 10
    assert [one.author for one in kept].count(BOB) == 1
    assert {int.from_bytes(one.id, "big") for one in kept} == {100, 101, *range(42, 50)}


picks = st.builds(pick, st.integers(0, 9), st.sampled_from([ADA, BOB]), st.integers(1, 255), st.sampled_from(URGENCY))


@given(st.lists(picks, max_size=40))
def test_every_item_that_was_asked_for_comes_once(asked: list[Pick]) -> None:
    agenda, wanted, authors = Agenda(), dict[bytes, int](), dict[bytes, bytes]()
    for one in asked:
        author = authors.setdefault(one.id, one.author)  # a result has one author
        agenda.put(Pick(one.id, author, one.items, one.why))
        wanted[one.id] = wanted.get(one.id, 0) | one.items
    found = drain(agenda)
    assert {one.id: one.items for one in found} == wanted
    assert len(found) == len(wanted)


def test_what_is_in_hand_is_not_handed_out_again() -> None:
    agenda = Agenda()
    agenda.put(pick(1, items=0b0011))
    one = agenda.next(0.0)
    assert one is not None
    agenda.put(pick(1, items=0b0110))
    assert agenda.next(0.0) == pick(1, items=0b0100)
    agenda.done(one)
    agenda.put(pick(1, items=0b0011))
    assert agenda.next(0.0) == pick(1, items=0b0011)


def test_what_is_shared_is_checked_only_once_and_not_compared_any_more() -> None:
    agenda = Agenda()
    agenda.put(Pick(bytes(32), ADA, 0, "duplicate", shared=0b0111))
    agenda.put(Pick(bytes(32), ADA, 0b0001, "first"))
    assert drain(agenda) == [Pick(bytes(32), ADA, 0b0001, "first", shared=0b0110)]


def test_nothing_of_an_author_is_left_for_a_reason_that_is_dropped() -> None:
    agenda = Agenda()
    agenda.put(pick(1, why="quarantined"))
    agenda.rest(pick(2, why="quarantined"), 10.0)
    agenda.put(pick(3, why="accused"))
    agenda.put(pick(4, BOB, why="quarantined"))
    agenda.drop(ADA, "quarantined")
    assert drain(agenda, 20.0) == [pick(3, why="accused"), pick(4, BOB, why="quarantined")]


def test_what_is_more_urgent_does_not_rest_with_another_pick_of_its_result() -> None:
    agenda = Agenda()
    agenda.put(pick(1, items=0b01, why="accused"))
    agenda.rest(pick(1, items=0b10, why="quarantined"), 10.0)
    assert drain(agenda) == [pick(1, items=0b11, why="accused")]
    agenda.put(pick(2, items=0b01))
    agenda.rest(pick(2, items=0b10, why="quarantined"), 10.0)
    assert drain(agenda) == []
    assert drain(agenda, 10.0) == [pick(2, items=0b11, why="quarantined")]


def test_what_is_only_compared_in_hand_can_be_asked_for() -> None:
    """The comparison checks none of it where both say the same."""
    agenda = Agenda()
    agenda.put(Pick(bytes(32), ADA, 0b0001, "first", shared=0b1110))
    one = agenda.next(0.0)
    assert one is not None
    agenda.put(Pick(bytes(32), ADA, 0b0111, "accused", shared=0b1000))
    assert agenda.next(0.0) == Pick(bytes(32), ADA, 0b0110, "accused")


def test_two_picks_of_a_result_may_be_in_hand() -> None:
    agenda = Agenda()
    agenda.put(pick(1, items=0b0011))
    first = agenda.next(0.0)
    agenda.put(pick(1, items=0b0100))
    second = agenda.next(0.0)
    assert first is not None
    assert second is not None
    agenda.done(second)
    assert agenda.due
    agenda.put(pick(1, items=0b0111))
    assert agenda.next(0.0) == pick(1, items=0b0100), "the first two are in hand still"
