"""How fast one engine is lately, from counts that are read now and then."""

from collections import deque

WINDOW = 30.0
"""Seconds looked back."""


class Meter:
    """Reads two counts that only grow, images answered and tokens made; the caller brings the clock (any seconds).

    A count that is smaller than before has begun anew: its engine was started again.
    """

    def __init__(self) -> None:
        self._read: deque[tuple[float, int, int]] = deque()
        self._last = 0, 0
        self._total = 0, 0

    def read(self, now: float, images: int, tokens: int) -> None:
        """The counts as they are at `now`."""
        grown = [new - old if new >= old else new for new, old in zip((images, tokens), self._last, strict=True)]
        self._last = images, tokens
        self._total = self._total[0] + grown[0], self._total[1] + grown[1]
        self._read.append((now, *self._total))
        while self._read[0][0] < now - WINDOW:
            self._read.popleft()

    @property
    def images(self) -> float:
        """Images a second."""
        return self._rate(1)

    @property
    def tokens(self) -> float:
        """Tokens made a second."""
        return self._rate(2)

    def _rate(self, column: int) -> float:
        if len(self._read) < 2:
            return 0.0
        first, last = self._read[0], self._read[-1]
        return (last[column] - first[column]) / (last[0] - first[0]) if last[0] > first[0] else 0.0
