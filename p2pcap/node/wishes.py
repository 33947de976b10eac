"""In which order bodies are asked for: fair between authors, and ever more seldom where it was in vain.

Always holds: authors take turns, so nobody's headers, however many, delay another author's body by more than a turn;
a wish is in one line, at rest, or with whoever got it from `next`.
"""

import heapq
import math
from dataclasses import dataclass

import trio

from p2pcap.envelope import Envelope
from p2pcap.ledger.records import Result

RETRY = 2.0
"""Seconds until a body that nobody had is asked for again; they double each time."""

RETRY_AT_MOST = 300.0
"""Seconds between two requests for a body that nobody has, however often it was asked for."""


@dataclass(eq=False)
class Wanted:
    """A header whose body is not here, since when (unix seconds), and how often it was asked for."""

    envelope: Envelope
    result: Result
    since: float
    asked: int = 0


class Wishes:
    """Wanted bodies in the order of asking: authors in turn, and of one author's those asked for least often first.

    Entries of a line and of those at rest that are no longer wanted stay until it is their turn, and are then skipped.
    """

    def __init__(self) -> None:
        self._wanted: dict[bytes, Wanted] = {}
        self._lines: dict[bytes, list[tuple[int, int, Wanted]]] = {}
        self._resting: list[tuple[float, int, Wanted]] = []
        self._number = 0
        self.fresh = 0

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._wanted

    def add(self, wanted: Wanted) -> None:
        """A new wish; nothing when that body is wanted already."""
        if wanted.envelope.id not in self._wanted:
            self._wanted[wanted.envelope.id] = wanted
            self._line_up(wanted)

    def drop(self, id_: bytes) -> None:
        """This body is not wanted any more."""
        self._wanted.pop(id_, None)

    def next(self) -> Wanted | None:
        """The next to ask for; give it back with `rest`, or drop it."""
        while self._resting and self._resting[0][0] <= trio.current_time():
            self._line_up(heapq.heappop(self._resting)[-1])
        while self._lines:
            author = next(iter(self._lines))
            line = self._lines.pop(author)
            asked, _, wanted = heapq.heappop(line)
            self.fresh -= not asked
            if line:
                self._lines[author] = line  # behind all others
            if self._is_current(wanted):
                return wanted
        return None

    def rest(self, wanted: Wanted) -> None:
        """It was asked for; if it is still wanted it is again after a while."""
        if self._is_current(wanted):
            wanted.asked += 1
            # An exponent that grows for ever would overflow; at ten the longest rest is long reached.
            due = trio.current_time() + min(RETRY * 2 ** min(wanted.asked - 1, 10), RETRY_AT_MOST)
            heapq.heappush(self._resting, (due, self._count(), wanted))

    def wake(self) -> None:
        """Whatever rests is to be asked for again, behind what never was."""
        resting, self._resting = self._resting, []
        for _, _, wanted in resting:
            wanted.asked = 1
            self._line_up(wanted)

    def pause(self) -> float:
        """Seconds until one has rested, at most RETRY; infinite when none rests."""
        return min(RETRY, max(0.0, self._resting[0][0] - trio.current_time())) if self._resting else math.inf

    def _line_up(self, wanted: Wanted) -> None:
        if self._is_current(wanted):
            line = self._lines.setdefault(wanted.envelope.author, [])
            heapq.heappush(line, (wanted.asked, self._count(), wanted))
            self.fresh += not wanted.asked

    def _is_current(self, wanted: Wanted) -> bool:
        return self._wanted.get(wanted.envelope.id) is wanted

    def _count(self) -> int:
        self._number += 1
        return self._number
