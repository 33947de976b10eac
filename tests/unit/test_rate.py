"""Images per second, now and on average."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.node.member import Member
from p2pcap.node.view import engine_info
from p2pcap.worker.rate import WINDOW, Rate


def test_nothing_done_is_no_rate() -> None:
    rate = Rate(100.0)
    assert (rate.total, rate.current(100.0), rate.average()) == (0, 0.0, 0.0)
    assert rate.current(50.0) == 0.0, "a clock that was set back"


def test_the_first_minute_counts_from_the_start() -> None:
    rate = Rate(0.0)
    rate.add(64, 8.0)
    assert rate.current(16.0) == 4.0
    assert rate.average() == 8.0, "to the last image, not to now: idling at the end is not held against it"


def test_the_current_rate_forgets_and_the_average_does_not() -> None:
    rate = Rate(0.0)
    rate.add(600, 10.0)
    assert rate.current(70.0) == 10.0
    assert rate.current(70.1) == 0.0
    assert rate.average() == 60.0
    assert rate.total == 600


def test_waiting_before_the_work_does_not_count() -> None:
    rate = Rate(0.0)
    rate.restart(1_000.0)
    rate.add(10, 1_005.0)
    assert rate.average() == 2.0
    rate.restart(2_000.0)
    assert rate.average() == 2.0


def test_a_pause_is_neither_slow_work_nor_a_new_beginning() -> None:
    rate = Rate(0.0)
    rate.restart(100.0)
    rate.add(100, 150.0)
    rate.restart(1_000.0)
    assert (rate.current(1_000.0), rate.average()) == (0.0, 2.0)
    rate.add(60, 1_010.0)
    assert rate.current(1_010.0) == 6.0, "what was done before the pause is not of the time after it"
    assert rate.average() == pytest.approx(160 / 60)
    rate.restart(2_000.0)
    rate.restart(3_000.0)
    assert rate.average() == pytest.approx(160 / 60), "two pauses in a row"
    assert rate.total == 160


@pytest.mark.parametrize("engines", [None, SimpleNamespace(pool=None, preparing="loading")])
def test_the_average_is_shown_while_engines_are_away_or_load_again(engines: object) -> None:
    """A long pause gives their memory back; when it ends there is no worker yet."""
    rate = Rate(0.0)
    rate.add(100, 50.0)
    member = cast("Member", SimpleNamespace(engines=engines, worker=None, volunteering=SimpleNamespace(rate=rate)))
    shown = engine_info(member, 9_000.0)
    assert (shown.rate, shown.average) == (0.0, 2.0)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.integers(0, 100)), min_size=1, max_size=60))
def test_the_current_rate_is_that_of_the_last_minute(steps: list[tuple[float, int]]) -> None:
    rate, now = Rate(0.0), 0.0
    added: list[tuple[float, int]] = []
    for pause, images in steps:
        now += pause
        rate.add(images, now)
        added.append((now, images))
        recent = sum(images for time, images in added if time >= now - WINDOW)
        assert rate.current(now) == pytest.approx(recent / min(WINDOW, now))
    assert rate.total == sum(images for _, images in added)
