"""When to start a dead engine again, and when to give it up.

Pure: the clock comes from outside. After a caption the next start comes at once: whatever ended the engine, it takes a
while to come back, and somebody waits. Without one, waiting doubles from FIRST_DELAY to LONGEST_DELAY; the first
caption wipes the slate.
"""

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
MOST_DEATHS = 8
PERIOD = 600.0
"""Seconds; MOST_DEATHS deaths within it, and no caption between them, are the end."""


class Restarts:
    """The deaths of one engine since its last caption."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        self._works = False

    def captioned(self) -> None:
        """The engine does its work, so earlier deaths no longer count."""
        self._deaths.clear()
        self._works = True

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start, or None when it is to be given up. `now` is in seconds."""
        self._deaths = [when for when in self._deaths if now - when < PERIOD]
        self._deaths.append(now)
        worked, self._works = self._works, False
        if worked:
            return 0.0
        if len(self._deaths) >= MOST_DEATHS:
            return None
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (len(self._deaths) - 1))
