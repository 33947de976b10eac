"""How fast images are being captioned: over the last minute, since the start, and what the next slice will take."""

from collections import deque

from p2pcap.project.records import SLICE

WINDOW = 60.0
"""Seconds the current rate looks back: long enough to hold several slices of a slow GPU."""

PACE_OVER = 8
"""Slices from which the time of the next one is foretold."""

MIN_SECONDS = 0.01
"""No slice is foretold to take less: what the clock cannot tell apart still takes time."""


class Rate:
    """Counts images by time; the caller brings the clock (any seconds). One outlives the workers that it counts for, so
    a pause neither begins the average anew nor counts as slow work."""

    def __init__(self, now: float) -> None:
        self._start = now
        self._last = now
        self._spent = 0.0
        """Seconds worked before `_start`."""
        self._total = 0
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def total(self) -> int:
        """Images counted in all."""
        return self._total

    def restart(self, now: float) -> None:
        """Work begins, or goes on, now; the time spent waiting before is not held against the rate."""
        self._spent += max(0.0, self._last - self._start)
        self._start = self._last = now
        self._recent.clear()

    def add(self, images: int, now: float) -> None:
        """`images` were finished at `now`."""
        self._total += images
        self._last = now
        self._recent.append((now, images))

    def current(self, now: float) -> float:
        """Images per second over the last WINDOW seconds, or since the last start if that is less."""
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        span = min(WINDOW, now - self._start)
        return sum(images for _, images in self._recent) / span if span > 0 else 0.0

    def average(self) -> float:
        """Images per second from each start to the last one that was finished after it."""
        spent = self._spent + max(0.0, self._last - self._start)
        return self._total / spent if spent > 0 else 0.0


class Pace:
    """What a slice takes here, in `seconds`, from the last ones; `first` before anything was measured. Time in which
    there was nothing to do is not held against it."""

    def __init__(self, first: float) -> None:
        self._ended = 0.0
        self._recent: deque[tuple[int, float]] = deque(maxlen=PACE_OVER)
        self.seconds = first

    def add(self, images: int, begun: float, ended: float) -> None:
        """`images` that the engine began at `begun` were finished at `ended`, after those that were added before."""
        self._recent.append((images, max(0.0, ended - max(begun, self._ended))))
        self._ended = ended
        spent, count = sum(seconds for _, seconds in self._recent), sum(images for images, _ in self._recent)
        self.seconds = max(MIN_SECONDS, SLICE * spent / count)
