"""When to start a dead engine again, and when to give it up.

Pure: the clock comes from outside. After a caption the next start comes at once: whatever ended the engine, it takes a
while to come back, and somebody waits. Without one, waiting doubles from FIRST_DELAY to LONGEST_DELAY, and in the end
the engine is given up. One that captions and dies all the time is never given up, but it waits as well.
"""

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
MOST_DEATHS = 8
PERIOD = 600.0
"""Seconds; MOST_DEATHS deaths within it, and no caption between them, are the end."""
QUICK_DEATHS = 3
"""So many deaths within PERIOD have a start at once after them, if captions came between."""


class Restarts:
    """The deaths of one engine within PERIOD, and how many of the last ones came without a caption between them."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        self._barren: list[float] = []
        self._works = False

    def captioned(self) -> None:
        """The engine does its work, so earlier deaths are no reason to give it up."""
        self._barren.clear()
        self._works = True

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start, or None when it is to be given up. `now` is in seconds."""
        self._deaths = [*_within_period(self._deaths, now), now]
        self._barren = [*_within_period(self._barren, now), now]
        worked, self._works = self._works, False
        in_all = _delay(len(self._deaths) - QUICK_DEATHS)
        if worked:
            return in_all
        if len(self._barren) >= MOST_DEATHS:
            return None
        return max(in_all, _delay(len(self._barren)))


def _within_period(deaths: list[float], now: float) -> list[float]:
    return [when for when in deaths if now - when < PERIOD]


def _delay(deaths: int) -> float:
    """Seconds after so many deaths that count."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (deaths - 1)) if deaths > 0 else 0.0
