from p2pcap.engine.restarts import LONGEST_DELAY, MOST_DEATHS, PERIOD, QUICK_DEATHS, Restarts


def test_the_wait_doubles_with_each_death() -> None:
    restarts = Restarts()
    assert [restarts.died(now) for now in (0.0, 10.0, 20.0, 30.0)] == [1.0, 2.0, 4.0, 8.0]


def test_too_many_deaths_in_a_row_are_the_end() -> None:
    restarts = Restarts()
    assert [restarts.died(float(now)) is None for now in range(MOST_DEATHS)] == [False] * (MOST_DEATHS - 1) + [True]


def test_after_a_caption_the_next_start_comes_at_once() -> None:
    restarts = Restarts()
    for now in range(20):
        restarts.captioned()
        assert restarts.died(now * PERIOD) == 0.0
        assert restarts.died(now * PERIOD + 1.0) == 2.0


def test_an_engine_that_captions_and_dies_all_the_time_waits_longer_and_is_not_given_up() -> None:
    restarts = Restarts()
    delays = []
    for now in range(20):
        restarts.captioned()
        delays.append(restarts.died(float(now)))
    assert delays[:9] == [0.0] * QUICK_DEATHS + [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_DELAY]
    assert set(delays[9:]) == {LONGEST_DELAY}
    restarts.captioned()
    assert restarts.died(20 + PERIOD) == 0.0, "that was long ago"


def test_a_caption_between_deaths_counts_for_as_long_as_it_helps() -> None:
    restarts = Restarts()
    for now in range(MOST_DEATHS - 1):
        assert restarts.died(float(now)) is not None
    restarts.captioned()
    ends = [restarts.died(10.0 + now) is None for now in range(MOST_DEATHS)]
    assert ends == [False] * (MOST_DEATHS - 1) + [True]


def test_deaths_far_apart_never_are_the_end_and_the_wait_is_bounded() -> None:
    restarts = Restarts()
    delays = [restarts.died(now * PERIOD / (MOST_DEATHS - 1.5)) for now in range(50)]
    assert None not in delays
    assert max(delay for delay in delays if delay is not None) <= LONGEST_DELAY
