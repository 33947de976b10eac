"""How often something is tried with a peer, or done for it. Pure: times are passed in, in seconds of any one clock.

Always holds: at most MAX_PEERS peers are remembered; who came longest ago is forgotten first.
"""

MAX_PEERS = 256


class Attempts:
    """When to try again: after `again` seconds, and twice as long with each further failure."""

    def __init__(self, again: float) -> None:
        self._again = again
        self._failed: dict[str, tuple[int, float]] = {}

    def allowed(self, peer: str, now: float) -> bool:
        """Whether it is time for an attempt."""
        return now >= self._failed.get(peer, (0, now))[1]

    def failed(self, peer: str, now: float) -> None:
        """An attempt led to nothing."""
        times = self._failed.pop(peer, (0, now))[0] + 1
        self._failed[peer] = times, now + self._again * 2 ** min(times - 1, 10)
        if len(self._failed) > MAX_PEERS:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, peer: str) -> None:
        """An attempt led to something."""
        self._failed.pop(peer, None)


class Turns:
    """How often we do what a peer asks for: `count` times in `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._taken: dict[str, list[float]] = {}

    def take(self, peer: str, now: float) -> bool:
        """Whether `peer` has a turn left; if so, it is taken."""
        taken = [at for at in self._taken.pop(peer, []) if now - at < self._seconds]
        allowed = len(taken) < self._count
        self._taken[peer] = [*taken, now] if allowed else taken
        if len(self._taken) > MAX_PEERS:
            del self._taken[next(iter(self._taken))]
        return allowed
