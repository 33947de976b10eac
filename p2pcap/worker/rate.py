"""How fast images are being captioned, over the last minute and since the start."""

from collections import deque

WINDOW = 60.0
"""Seconds the current rate looks back: long enough to hold several slices of a slow GPU."""


class Rate:
    """Counts images by time; the caller brings the clock (any seconds)."""

    def __init__(self, now: float) -> None:
        self._start = now
        self._last = now
        self._total = 0
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def total(self) -> int:
        """Images counted in all."""
        return self._total

    def restart(self, now: float) -> None:
        """Work begins now; the time spent waiting before is not held against the rate."""
        if not self._total:
            self._start = now

    def add(self, images: int, now: float) -> None:
        """`images` were finished at `now`."""
        self._total += images
        self._last = now
        self._recent.append((now, images))

    def current(self, now: float) -> float:
        """Images per second over the last WINDOW seconds, or since the start if that is less."""
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        span = min(WINDOW, now - self._start)
        return sum(images for _, images in self._recent) / span if span > 0 else 0.0

    def average(self) -> float:
        """Images per second from the start to the last one that was finished."""
        return self._total / (self._last - self._start) if self._last > self._start else 0.0
