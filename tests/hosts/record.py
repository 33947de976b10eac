"""What arrived where and when, and what that says: pure values, with times in seconds of the machine's monotonic clock.

A statement's text begins with its author and the time it was published at (`tests.swarm.child`).
"""

import math
from collections.abc import Collection, Mapping, Sequence

import trio


class Record:
    """The first arrival of each statement at each host, the author's own included."""

    def __init__(self) -> None:
        self.arrivals: dict[str, dict[str, float]] = {}
        self._pairs = 0
        self._news = trio.Event()

    def note(self, host: str, got: str) -> None:
        """Take in the rest of a child's line "got"."""
        text, _, at = got.rpartition("|")
        there = self.arrivals.setdefault(text, {})
        if host not in there:
            there[host] = float(at)
            self._pairs += 1
            self._news.set()
            self._news = trio.Event()

    async def everywhere(self, hosts: int) -> None:
        """Wait until every statement is at so many hosts."""
        while self._pairs < len(self.arrivals) * hosts:
            await self._news.wait()

    def missing(self, hosts: Collection[str]) -> dict[str, int]:
        """How many statements each of these hosts lacks."""
        return {host: sum(host not in there for there in self.arrivals.values()) for host in hosts}

    def deliveries(self, authors: Collection[str], hosts: Collection[str]) -> list[float]:
        """Seconds from publication by one of these authors to arrival at each other one of these hosts."""
        return [
            at - published(text)
            for text, there in self.arrivals.items()
            for host, at in there.items()
            if author(text) in authors and host in hosts and host != author(text)
        ]

    def last_deliveries(self) -> list[float]:
        """For each statement: seconds from publication to its arrival at the last host."""
        return [max(there.values()) - published(text) for text, there in self.arrivals.items()]

    def caught_up(self, hosts: Collection[str], sources: Collection[str], moment: float) -> float:
        """Seconds from `moment` until these hosts held all that was at one of `sources` by then."""
        held = [there for there in self.arrivals.values() if _by(there, sources) <= moment]
        arrivals = [there.get(host, math.inf) for host in hosts for there in held]
        return max(0.0, max(arrivals, default=moment) - moment)

    def heard(self, by: str, hosts: Collection[str], moment: float) -> float:
        """Seconds from `moment` until one of these hosts held something that `by` published after it."""
        later = [there for text, there in self.arrivals.items() if author(text) == by and published(text) > moment]
        return min((_by(there, hosts) for there in later), default=math.inf) - moment


def _by(there: Mapping[str, float], hosts: Collection[str]) -> float:
    return min((there.get(host, math.inf) for host in hosts), default=math.inf)


def author(text: str) -> str:
    """The host that published a statement."""
    return text.split(" ", 1)[0]


def published(text: str) -> float:
    """When a statement was published."""
    return float(text.split(" ", 2)[1])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in seconds."""
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) for name, share in at.items()}
