from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from p2pcap.retry_after import retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("17", 17.0), (" 0 ", 0.0), ("1.5", 1.5), ("9" * 15, 10.0**15 - 1)])
def test_a_number_is_seconds(text: str, seconds: float) -> None:
    assert retry_after(text, NOW) == seconds


@pytest.mark.parametrize(("later", "seconds"), [(40, 40.0), (-40, 0.0)])
def test_a_date_is_seconds_from_now(later: int, seconds: float) -> None:
    assert retry_after(format_datetime(NOW + timedelta(seconds=later), usegmt=True), NOW) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "nan", "\u00b2", "Fri, 99 Foo 2026", "9" * 5_000])
def test_anything_else_says_nothing(text: str) -> None:
    assert retry_after(text, NOW) is None
