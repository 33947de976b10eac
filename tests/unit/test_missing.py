"""Images that could not be had: each has its tries, and its chunk longer and longer rests."""

from p2pcap.worker.missing import LONGEST, MAX_CHUNKS, PAUSE, Missing


def test_an_image_has_as_many_tries_as_the_project_allows() -> None:
    missing = Missing(3)
    assert missing.tried(7, [1, 2]) == set()
    assert missing.tried(7, [1]) == set()
    assert missing.tried(7, [1, 2]) == {1}
    assert missing.tried(7, [2]) == {1, 2}
    assert missing.tried(8, [1]) == set(), "another chunk's image"


def test_a_chunk_rests_longer_each_time_up_to_the_longest() -> None:
    missing, now, rests = Missing(3), 0.0, []
    for _ in range(6):
        rests.append(missing.until(0, now) - now)
        now += rests[-1]
    assert rests == [PAUSE, PAUSE * 4, PAUSE * 16, LONGEST, LONGEST, LONGEST]


def test_the_slices_of_one_visit_make_one_rest() -> None:
    missing = Missing(3)
    assert [missing.until(0, now) for now in (0.0, 5.0, 30.0)] == [PAUSE] * 3
    assert missing.until(0, PAUSE) == PAUSE + PAUSE * 4


def test_what_is_remembered_is_bounded() -> None:
    missing = Missing(2)
    missing.tried(0, [1])
    for chunk in range(1, MAX_CHUNKS + 1):
        missing.tried(chunk, [1])
    assert missing.tried(1, [1]) == {1}
    assert missing.tried(0, [1]) == set(), "the chunk met longest ago starts anew"
