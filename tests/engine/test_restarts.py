from p2pcap.engine.restarts import LONGEST_DELAY, MOST_DEATHS, PERIOD, Restarts


def test_the_wait_doubles_with_each_death() -> None:
    restarts = Restarts()
    assert [restarts.died(now) for now in (0.0, 10.0, 20.0, 30.0)] == [1.0, 2.0, 4.0, 8.0]


def test_too_many_deaths_in_a_row_are_the_end() -> None:
    restarts = Restarts()
    assert [restarts.died(float(now)) is None for now in range(MOST_DEATHS)] == [False] * (MOST_DEATHS - 1) + [True]


def test_a_caption_wipes_the_slate_and_the_next_start_comes_at_once() -> None:
    restarts = Restarts()
    assert restarts.died(0.0) == 1.0
    for _ in range(20):
        restarts.captioned()
        assert restarts.died(0.0) == 0.0
        assert restarts.died(0.0) == 2.0


def test_deaths_far_apart_never_are_the_end_and_the_wait_is_bounded() -> None:
    restarts = Restarts()
    delays = [restarts.died(now * PERIOD / (MOST_DEATHS - 1.5)) for now in range(50)]
    assert None not in delays
    assert max(delay for delay in delays if delay is not None) <= LONGEST_DELAY
