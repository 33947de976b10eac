"""How fast strangers are served: whoever asks faster is answered later, never with an error.

Always holds: callers are served in order of arrival; one that is cancelled while it waits has spent nothing, and those
behind it move up.
"""

import trio


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up.

    Whoever is first in line and finds too few takes what it needs on credit and sleeps until the bucket has earned it
    back; the others wait in line behind it.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = trio.current_time()
        self._first = trio.Lock()

    def full(self) -> bool:
        """Whether as much as possible is saved up: a new bucket would be as good."""
        self._earn()
        return self._tokens >= self._burst

    async def take(self, tokens: float = 1.0) -> bool:
        """Wait until `tokens` may be spent, and spend them; whether that took any waiting."""
        queued = self._first.locked()
        async with self._first:
            self._earn()
            self._tokens -= tokens
            if self._tokens >= 0:
                return queued
            try:
                await trio.sleep(-self._tokens / self._rate)
            except trio.Cancelled:
                self._tokens += tokens
                raise
        return True

    def _earn(self) -> None:
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
