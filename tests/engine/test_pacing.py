"""How fast a server is asked, by how it answers: values in, decisions out."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.engine.pacing import (
    ANSWERS_A_PLACE,
    FAILURES,
    FIRST_PLACES,
    FIRST_REST,
    LONGEST_REST,
    MOST_QUIET,
    SLOW,
    Allowance,
    Budget,
    Pace,
    allowance_of,
    choose,
    duration,
    next_time,
    quiet_asked,
    verdict,
)

TODAY = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def well(most: int = 64) -> Pace:
    pace = Pace(most)
    pace.answered()
    return pace


def test_a_server_rests_until_it_was_found_well() -> None:
    pace = Pace(64)
    assert (pace.room, choose([pace], 0.0)) == (0, None)
    pace.answered()
    assert (pace.room, choose([pace], 0.0)) == (FIRST_PLACES, 0)


def test_each_answer_earns_a_place_until_the_server_is_busy_for_the_first_time() -> None:
    pace = well()
    for _ in range(12):
        pace.answered(1.0)
    assert pace.places == FIRST_PLACES + 12
    pace.refused(begun=5.0, now=6.0, after=None)
    assert pace.places == (FIRST_PLACES + 12) // 2
    for _ in range(ANSWERS_A_PLACE):
        pace.answered(1.0)
    assert pace.places == (FIRST_PLACES + 12) // 2 + 1


def test_requests_that_were_on_their_way_together_halve_the_places_once() -> None:
    pace = well()
    for _ in range(28):
        pace.answered(1.0)
    for late in range(20):
        pace.refused(begun=1.0 + late / 100, now=2.0 + late / 100, after=None)
    assert pace.places == 16
    pace.refused(begun=3.0, now=4.0, after=None)
    assert pace.places == 8


def test_places_stay_within_their_bounds() -> None:
    pace = well(most=6)
    for _ in range(100):
        pace.answered(1.0)
    assert pace.places == 6
    for now in range(10):
        pace.failed(float(now), now + 0.5, slow=True)
    assert pace.places == 1
    assert well(most=1).places == 1


def test_a_server_that_lets_requests_queue_gets_no_more_of_them() -> None:
    pace = well()
    for _ in range(100):
        pace.answered(SLOW)
    assert pace.places == FIRST_PLACES


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks_but_not_for_ever() -> None:
    pace = well()
    pace.refused(0.0, 10.0, after=20.0)
    assert choose([pace], 29.9) is None
    assert next_time([pace], 10.0) == 30.0
    assert choose([pace], 30.0) == 0
    pace.refused(30.0, 31.0, after=1e9)
    assert pace.ready(31.0) == 31.0 + MOST_QUIET


def test_a_server_that_fails_again_and_again_rests_ever_longer_and_is_looked_at_anew() -> None:
    pace = well()
    for number in range(FAILURES):
        assert not pace.resting
        pace.failed(float(number), number + 0.5)
    assert pace.resting
    now, rests = FAILURES - 0.5, []
    for _ in range(8):
        rests.append(pace.ready(now) - now)
        now = pace.ready(now)
        pace.failed(now, now)
    assert rests[:3] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
    assert rests[-1] == LONGEST_REST
    pace.answered()
    assert (pace.resting, pace.unwell_since) == (False, None)


def test_requests_that_break_together_are_one_failure_of_a_server_that_rests() -> None:
    pace = well()
    for _ in range(40):
        pace.failed(begun=1.0, now=2.0)
    assert pace.ready(2.0) == 2.0 + FIRST_REST


def test_a_failure_now_and_then_is_no_reason_to_rest() -> None:
    pace = well()
    for now in range(50):
        pace.failed(float(now), float(now))
        pace.answered(1.0)
    assert not pace.resting


def test_how_long_a_server_is_unwell() -> None:
    pace = well()
    pace.failed(3.0, 4.0)
    pace.refused(5.0, 6.0, after=1.0)
    assert pace.unwell_since == 4.0
    pace.answered(1.0)
    assert pace.unwell_since is None


def test_one_that_refuses_to_work_rests_at_once() -> None:
    pace = well()
    pace.unfit(5.0)
    assert (pace.resting, pace.ready(5.0)) == (True, 5.0 + LONGEST_REST)


def test_the_server_that_is_least_busy_is_asked_and_a_dead_one_costs_nothing() -> None:
    paces = [well(), well(), Pace(64)]
    taken = []
    for _ in range(2 * FIRST_PLACES):
        number = choose(paces, 0.0)
        assert number is not None
        paces[number].begin(0.0)
        taken.append(number)
    assert (taken.count(0), taken.count(1)) == (FIRST_PLACES, FIRST_PLACES)
    assert choose(paces, 0.0) is None
    assert next_time(paces, 0.0) == math.inf
    paces[1].ended()
    assert choose(paces, 0.0) == 1
    assert choose(paces, 0.0, without=frozenset({1})) is None


def test_requests_a_minute() -> None:
    pace = well()
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "58s",
    }
    pace.begin(100.0)
    pace.told(headers, 0, 100.0)
    pace.ended()
    for _ in range(2):
        assert pace.ready(100.0) == 100.0
        pace.begin(100.0)
    assert pace.ready(100.0) == pytest.approx(101.0), "one more each second"


def test_tokens_a_minute_are_counted_with_what_an_answer_costs() -> None:
    pace = well()
    headers = {
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "1500",
        "x-ratelimit-reset-tokens": "58.5s",
    }
    pace.begin(0.0)
    pace.told(headers, 1_000, 0.0)
    pace.ended()
    assert pace.ready(0.0) == 0.0
    pace.begin(0.0)
    assert pace.ready(0.0) == pytest.approx(0.5), "1,000 a second"


def test_no_number_of_requests_on_their_way_makes_a_server_wait_for_longer_than_it_may_ask_to() -> None:
    pace = well()
    pace.told(
        {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "300s",
        },
        1_000_000, 10.0,
    )  # fmt: skip
    pace.begin(10.0)
    assert pace.ready(10.0) == 10.0 + MOST_QUIET
    pace.begin(20.0)
    assert pace.ready(20.0) == pace.ready(100.0) == 20.0 + MOST_QUIET
    assert pace.ready(20.0 + MOST_QUIET) == 20.0 + MOST_QUIET, "all is allowed then"


def test_those_on_their_way_are_taken_off_what_is_left() -> None:
    pace = well()
    for _ in range(3):
        pace.begin(0.0)
    pace.told({"x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "10"}, 0, 0.0)
    assert pace.ready(0.0) == 10.0


@given(
    left=st.floats(0, 1e9), most=st.one_of(st.just(math.inf), st.floats(1, 1e9)), reset=st.floats(0, MOST_QUIET),
    costs=st.lists(st.floats(0, 1e9), max_size=20), spent=st.lists(st.floats(0, 1e9), max_size=20),
)  # fmt: skip
def test_a_budget_always_allows_something_within_its_reset_time(
    left: float, most: float, reset: float, costs: list[float], spent: list[float]
) -> None:
    budget = Budget()
    budget.told(Allowance(min(left, most), most, reset), 50.0)
    assert 50.0 <= budget.ready(1e9, 50.0) <= 50.0 + reset
    for cost in spent:
        budget.spend(cost, 50.0)
    assert 50.0 <= budget.ready(1e9, 50.0) <= 50.0 + MOST_QUIET
    for cost in costs:
        now = budget.ready(cost, 50.0)
        assert now >= 50.0
        assert budget.ready(cost, now) <= now + 1e-6 * max(1.0, abs(now))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0), ({"retry-after": " 1.5 "}, 1.5), ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": format_datetime(TODAY + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(TODAY - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({}, None), ({"retry-after": "soon"}, None), ({"retry-after": "-5"}, None), ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None), ({"retry-after": "Mon, 23 Nov 2026 12:00:00 +99999999"}, None),
        ({"retry-after": "²"}, None),
    ],
)  # fmt: skip
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert quiet_asked(headers, TODAY) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0), ("1.5s", 1.5), ("20ms", 0.02), ("1h2m3s", 3_723.0), ("2d", 172_800.0), ("12", 12.0), ("0", 0),
        ("", None), ("soon", None), ("1x", None), ("-1s", None), ("1s2m", None), ("s", None), ("nan", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_what_headers_say_of_a_budget() -> None:
    given = {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-limit-tokens": "9", "x-ratelimit-reset-tokens": "1h"}
    assert allowance_of(given, "tokens") == Allowance(5, 9, MOST_QUIET)
    assert allowance_of(given, "requests") is None
    assert allowance_of({"x-ratelimit-remaining-requests": "5"}, "requests") is None
    assert allowance_of(given | {"x-ratelimit-limit-tokens": "many"}, "tokens") == Allowance(5, math.inf, MOST_QUIET)


@given(st.dictionaries(
    st.sampled_from([f"x-ratelimit-{a}-{b}" for a in ("limit", "remaining", "reset") for b in ("requests", "tokens")]),
    st.one_of(st.text(max_size=30), st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,3})?(s|m|ms)?", fullmatch=True)),
), st.text(max_size=80))  # fmt: skip
def test_whatever_headers_say_a_server_is_asked_again(headers: dict[str, str], after: str) -> None:
    pace = well()
    pace.begin(0.0)
    pace.told(headers, 10, 0.0)
    pace.refused(0.0, 0.0, quiet_asked({"retry-after": after}, TODAY))
    assert 0.0 <= pace.ready(0.0) <= MOST_QUIET


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, "answer"), (400, "image"), (413, "image"), (422, "image"), (429, "busy"), (503, "busy"), (529, "busy"),
        (500, "fault"), (502, "away"), (504, "away"), (401, "unfit"), (403, "unfit"), (404, "unfit"), (307, "unfit"),
        (402, "unfit"), (204, "fault"), (505, "fault"), (599, "fault"), (408, "fault"),
    ],
)  # fmt: skip
def test_what_a_status_says(status: int, said: str) -> None:
    assert verdict(status) == said
