"""How fast strangers are served: whoever asks faster is answered later, never with an error."""

import trio


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up.

    A caller that finds too few takes what it needs on credit and sleeps until the bucket has earned it back, so callers
    are served in order of arrival.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = trio.current_time()

    async def take(self, tokens: float = 1.0) -> bool:
        """Wait until `tokens` may be spent, and spend them; whether that took any waiting."""
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= tokens
        short = self._tokens < 0
        if short:
            await trio.sleep(-self._tokens / self._rate)
        else:
            await trio.lowlevel.checkpoint()
        return short
