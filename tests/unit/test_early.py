"""What comes too early waits for its cause, and no cause takes all the room."""

from p2pcap.ledger.early import ROOM, ROOM_EACH, Early
from p2pcap.ledger.judgement import Wait

ADA, BOB = Wait("author", b"a" * 32), Wait("author", b"b" * 32)


def test_a_cause_releases_what_waited_for_it_and_nothing_else() -> None:
    early = Early()
    for number in range(3):
        early.hold(b"a%d" % number, ADA)
    early.hold(b"b", BOB)
    assert early.release(ADA) == [b"a0", b"a1", b"a2"]
    assert early.release(ADA) == []
    assert len(early) == 1


def test_times_fall_due_in_their_order() -> None:
    early = Early()
    assert early.next_time() is None
    for time in (30, 10, 20):
        early.hold(b"%d" % time, Wait("time", time))
    early.hold(b"author", ADA)
    assert early.next_time() == 10
    assert early.due(9.9) == []
    assert sorted(early.due(20)) == [b"10", b"20"]
    assert early.next_time() == 30
    assert early.due(1_000) == [b"30"]
    assert len(early) == 1


def test_the_same_bytes_wait_once_for_the_newest_cause() -> None:
    early = Early()
    early.hold(b"x", Wait("time", 5))
    early.hold(b"x", ADA)
    assert len(early) == 1
    assert early.due(10) == []
    assert early.release(ADA) == [b"x"]


def test_a_newer_manifest_releases_what_waited_for_its_tasks_and_images() -> None:
    early = Early()
    waits = [
        Wait("task", b"t" * 8),
        ADA,
        Wait("chunk", 7),
        Wait("time", 5),
        Wait("task", b"u" * 8),
        Wait("batch", b"b"),
    ]
    for number, wait in enumerate(waits):
        early.hold(b"%d" % number, wait)
    assert sorted(early.known()) == [b"0", b"2", b"4"]
    assert early.known() == []
    assert (early.release(ADA), early.due(5), len(early)) == ([b"1"], [b"3"], 1)


def test_one_cause_cannot_push_out_another() -> None:
    early = Early()
    early.hold(b"b", BOB)
    for number in range(2 * ROOM_EACH):
        early.hold(b"a%d" % number, ADA)
    assert early.release(BOB) == [b"b"]
    assert early.release(ADA) == [b"a%d" % number for number in range(ROOM_EACH, 2 * ROOM_EACH)]


def test_the_room_is_bounded_and_the_oldest_go_first() -> None:
    early = Early()
    for number in range(ROOM + 10):
        early.hold(b"%d" % number, Wait("author", b"%d" % number))
    assert len(early) == ROOM
    assert early.release(Wait("author", b"9")) == []
    assert early.release(Wait("author", b"10")) == [b"10"]
