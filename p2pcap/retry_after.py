"""How long a server asks to be left alone: the `Retry-After` header of RFC 9110, 10.2.3. Pure."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST = 64
"""Characters of a header that is looked at; a date has 29."""

_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


def retry_after(value: str, now: datetime) -> float | None:
    """The seconds that `value` says, 0.0 or more: a number (with decimals too, which some send), or a date. None for
    anything else. `now` has a time zone."""
    text = value.strip()[:_LONGEST]
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())
