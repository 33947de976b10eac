"""Images that could not be had: each has its tries, and its chunk longer and longer rests."""

from p2pcap.worker.missing import LONGEST, MAX_IMAGES, PAUSE, Missing


def test_an_image_has_as_many_tries_as_the_project_allows() -> None:
    missing = Missing(3)
    assert missing.tried(7, [1, 2]) == set()
    assert missing.tried(7, [1]) == set()
    assert missing.tried(7, [1, 2]) == {1}
    assert missing.tried(7, [2]) == {2}
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


def test_every_image_of_many_chunks_runs_out_of_tries() -> None:
    missing, left = Missing(3), set(range(5_000))
    for _ in range(3):
        left -= {chunk for chunk in left if missing.tried(chunk, [1])}
    assert not left


def test_an_image_that_has_its_row_is_forgotten() -> None:
    missing = Missing(2)
    missing.tried(0, [1, 2])
    missing.had(0, [1])
    assert missing.tried(0, [1]) == set()
    assert missing.tried(0, [2]) == {2}
    assert [missing.spent(0, item) for item in (1, 2, 3)] == [False, True, False]


def test_what_is_remembered_is_bounded_and_what_is_more_has_no_second_try() -> None:
    missing = Missing(2)
    for chunk in range(MAX_IMAGES // 100):
        assert missing.tried(chunk, range(100)) == set()
    assert missing.tried(99_999, [1]) == {1}
    missing.had(0, range(100))
    assert missing.tried(99_999, [2]) == set()
