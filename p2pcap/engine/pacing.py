"""How fast one server is asked, by how it answers. Pure: the clock comes from outside.

A server begins with few requests at one time. Each answer earns one more, until the server says for the first time that
it is busy, or a request times out: then half of them go, and only every ANSWERS_A_PLACE answers earn one more (additive
increase, multiplicative decrease). A server that lets requests queue says nothing, so there are no more either once its
answers take SLOW seconds. What its headers ask for is respected: `Retry-After`, requests and tokens a minute.

A server that fails FAILURES times in a row rests: it gets no question until it was looked at anew and found well. Each
look that fails doubles the rest. The other servers get what it would have had.

Always holds: a server has 1 place at least and `most` at most, and no wait that it asks for is longer than MOST_QUIET.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from p2pcap.retry_after import retry_after

FIRST_PLACES = 4
ANSWERS_A_PLACE = 8
SLOW = 30.0
"""Seconds of an answer beyond which more requests at one time would only wait longer."""

FAILURES = 3
FIRST_REST, LONGEST_REST = 1.0, 30.0
MOST_QUIET = 300.0
"""Seconds that a server may ask to be left alone."""

BUSY_QUIET = 1.0
"""Seconds that a busy server is left alone that does not say for how long."""

Verdict = Literal["answer", "image", "busy", "away", "fault", "unfit"]
"""answer: one came; image: this question is refused; busy: ask later; away: what stands before the server does not
reach it; fault: the server fails; unfit: it will not work for us as it is."""

_VERDICTS: Mapping[int, Verdict] = {200: "answer", 400: "image", 413: "image", 415: "image", 422: "image"}
_BUSY = (425, 429, 503, 529)
_AWAY = (502, 504, 521, 522, 523, 524)
"""Of gateways: RFC 9110, 15.6, and Cloudflare's own."""

_DURATION = re.compile(
    r"(?:(?P<d>\d{1,6})d)?(?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m(?!s))?"
    r"(?:(?P<s>\d{1,9}(?:\.\d{1,9})?)s)?(?:(?P<ms>\d{1,9}(?:\.\d{1,9})?)ms)?"
)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True)
class Allowance:
    """What a server's headers say is left of a budget: so many, of `most` (infinite: not told), full in `reset` s."""

    left: float
    most: float
    reset: float


@dataclass
class Budget:
    """Requests or tokens that may still be used: `left` at the time `at`, growing by `rate` a second up to `most`; all
    is allowed from `until` on, MOST_QUIET after the last use at most."""

    left: float = math.inf
    at: float = 0.0
    rate: float = 0.0
    most: float = math.inf
    until: float = -math.inf

    def told(self, allowance: Allowance, now: float) -> None:
        """What the server says."""
        lack = allowance.most - allowance.left
        self.rate = lack / allowance.reset if math.isfinite(lack) and allowance.reset > 0 else 0.0
        self.left, self.at, self.most, self.until = allowance.left, now, allowance.most, now + allowance.reset

    def spend(self, cost: float, now: float) -> None:
        """Something of it is used now."""
        if now < self.until:
            self.left, self.at = self._left(now) - cost, now
            self.until = min(self.until + (cost / self.rate if self.rate else 0.0), now + MOST_QUIET)

    def ready(self, cost: float, now: float) -> float:
        """When `cost` can be spent, a time; `now` or earlier for at once."""
        cost = min(cost, self.most)
        if now >= self.until or self._left(now) >= cost:
            return now
        return min(now + (cost - self._left(now)) / self.rate, self.until) if self.rate else self.until

    def _left(self, now: float) -> float:
        return min(self.most, self.left + self.rate * (now - self.at))


class Pace:
    """One server: how many requests it has, and when it gets another. It rests until it was found well once."""

    def __init__(self, most: int) -> None:
        """`most`: requests at one time, at most."""
        self.busy = 0
        self.resting = True
        """It gets no questions."""
        self.unwell_since: float | None = None
        """When it first failed or was busy, and has answered nothing since; None: it is well."""
        self._places = float(min(FIRST_PLACES, most))
        self._most = most
        self._eager = True
        self._halved = self._rested = -math.inf
        self._failures = 0
        self._rest = FIRST_REST
        self._quiet_until = -math.inf
        self._requests, self._tokens = Budget(), Budget()
        self._cost = 0.0

    @property
    def places(self) -> int:
        """Requests it may have at one time."""
        return int(self._places)

    @property
    def room(self) -> int:
        """Requests it could take beside those it has, were it asked now."""
        return 0 if self.resting else self.places - self.busy

    def ready(self, now: float) -> float:
        """When it may be asked again if it has room, a time; `now` or earlier for at once."""
        return max(self._quiet_until, self._requests.ready(1, now), self._tokens.ready(self._cost, now))

    def begin(self, now: float) -> None:
        """A request is sent."""
        self.busy += 1
        self._requests.spend(1, now)
        self._tokens.spend(self._cost, now)

    def ended(self) -> None:
        """A request is over, however it ended; beside one of the four below, or none when it was given up."""
        self.busy -= 1

    def answered(self, seconds: float = math.inf) -> None:
        """An answer came, after so many seconds; infinite: to something that was no question."""
        self.resting, self.unwell_since = False, None
        self._failures, self._rest = 0, FIRST_REST
        if seconds < SLOW:
            self._places = min(self._places + (1 if self._eager else 1 / ANSWERS_A_PLACE), float(self._most))

    def refused(self, begun: float, now: float, after: float | None) -> None:
        """It is too busy for the request that was sent at `begun`, and asks for `after` seconds of quiet."""
        self._unwell(now)
        self._halve(begun, now)
        self._be_quiet(now, BUSY_QUIET if after is None else after)

    def failed(self, begun: float, now: float, slow: bool = False) -> None:
        """It did not answer the request that was sent at `begun`, or not as a server does; `slow`: it took too long."""
        self._unwell(now)
        if slow:
            self._halve(begun, now)
        if begun < self._rested:
            return  # sent before it was known to be down, so this says nothing new
        self._failures += 1
        if self._failures >= FAILURES or self.resting:
            self._take_rest(now, self._rest)
            self._rest = min(2 * self._rest, LONGEST_REST)

    def unfit(self, now: float) -> None:
        """It refuses to work for us. It is looked at again, in case its owner mends that."""
        self._unwell(now)
        self._take_rest(now, LONGEST_REST)

    def told(self, headers: Mapping[str, str], tokens: int, now: float) -> None:
        """The headers of an answer, and the tokens it cost in all (0: not told)."""
        if tokens:
            self._cost = tokens if not self._cost else self._cost + (tokens - self._cost) / 8
        for kind, budget, cost in (("requests", self._requests, 1.0), ("tokens", self._tokens, self._cost)):
            if allowance := allowance_of(headers, kind):
                budget.told(allowance, now)
                budget.spend(cost * max(0, self.busy - 1), now)  # those on their way may not be counted yet

    def _unwell(self, now: float) -> None:
        self.unwell_since = now if self.unwell_since is None else self.unwell_since

    def _halve(self, begun: float, now: float) -> None:
        """Once for all the requests that were on their way when it got too many."""
        if begun >= self._halved:
            self._places, self._halved, self._eager = max(1.0, self._places / 2), now, False

    def _take_rest(self, now: float, seconds: float) -> None:
        self.resting, self._rested = True, now
        self._be_quiet(now, seconds)

    def _be_quiet(self, now: float, seconds: float) -> None:
        self._quiet_until = max(self._quiet_until, now + min(seconds, MOST_QUIET))


def choose(paces: Sequence[Pace], now: float, without: frozenset[int] = frozenset()) -> int | None:
    """The number of the server to ask now: the one with the largest share of its places free, so that one which has few
    yet earns more; None: wait."""
    free = [n for n, pace in enumerate(paces) if n not in without and pace.room > 0 and pace.ready(now) <= now]
    return max(free, key=lambda n: (paces[n].room / paces[n].places, paces[n].room), default=None)


def next_time(paces: Sequence[Pace], now: float) -> float:
    """When a server that has room may be asked again, a time; infinite: only an answer makes room."""
    return min((ready for pace in paces if pace.room > 0 and (ready := pace.ready(now)) > now), default=math.inf)


def verdict(status: int) -> Verdict:
    """What an HTTP status says of a server."""
    if status in _BUSY:
        return "busy"
    if status in _AWAY:
        return "away"
    return _VERDICTS.get(status, "fault" if status >= 500 or status in (201, 202, 204, 206, 408) else "unfit")


def quiet_asked(headers: Mapping[str, str], today: datetime) -> float | None:
    """Seconds that a server asks to wait: by `retry-after-ms` of OpenAI's and Azure's servers, or by `Retry-After`.
    None: it does not say, or nothing that can be understood."""
    exact = _number(headers.get("retry-after-ms", ""))
    return exact / 1_000 if exact is not None else retry_after(headers.get("retry-after", ""), today)


def allowance_of(headers: Mapping[str, str], kind: str) -> Allowance | None:
    """What the `x-ratelimit-*` headers say of "requests" or "tokens"; None where they do not say when it is full."""
    left = _number(headers.get(f"x-ratelimit-remaining-{kind}", ""))
    reset = duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if left is None or reset is None:
        return None
    most = _number(headers.get(f"x-ratelimit-limit-{kind}", ""))
    return Allowance(left, max(most, left, 1.0) if most is not None else math.inf, min(reset, MOST_QUIET))


def duration(text: str) -> float | None:
    """Seconds of "6m0s", "1.5s", "20ms" or "12"; None for anything else."""
    text = text.strip().lower()
    if (plain := _number(text)) is not None:
        return plain
    found = _DURATION.fullmatch(text) if text else None
    return sum(float(value) * _SECONDS[unit] for unit, value in found.groupdict("0").items()) if found else None


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text) else None
