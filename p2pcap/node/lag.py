"""How late the event loop is: the one number that says whether a node still answers in time.

Everything of a node but its engine runs in one event loop, so whatever holds that up holds up every peer.
"""

from collections import deque

import trio

LOOK_EVERY = 0.5
"""Seconds between two measurements; a delay shorter than that may fall between them."""
REMEMBER = 60.0
"""Seconds for which the worst one is shown."""


class LoopLag:
    """Measures by sleeping: what it oversleeps, every other task has waited too."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=int(REMEMBER / LOOK_EVERY))

    @property
    def worst(self) -> float:
        """Seconds that the event loop was late at most in the last minute."""
        return max(self._lags, default=0.0)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due = trio.current_time() + LOOK_EVERY
            await trio.sleep_until(due)
            self._lags.append(trio.current_time() - due)
