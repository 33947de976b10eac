"""How long servers are waited for, and how often they are asked again.

Always holds: whatever is asked of a server ends, in a time that these numbers bound.
"""

import math
import random
from dataclasses import dataclass
from types import TracebackType

import trio

from p2pcap.errors import ImageUnavailable

FETCHES = 64
"""Requests on their way at one time, to all hosts together."""


@dataclass(frozen=True)
class Limits:
    """Seconds, bytes per second and counts. The defaults are meant for the web; tests take shorter ones.

    `connect` and `read` bound one wait each. A whole request may take `grace`, and one more second for every `floor`
    bytes that came, and an image no more than `image` in all: so a server that keeps dripping does not hold a place
    for ever. `tries`: how often in all is asked for what may pass. `pause`: before the second try, then twice as long
    each time. `patience`: the longest `Retry-After` that is waited for. A host that failed `failures` times in a row
    is left alone for `rest`.
    """

    connect: float = 5.0
    read: float = 10.0
    grace: float = 30.0
    floor: float = 16 * 1024
    image: float = 300.0
    redirects: int = 5
    tries: int = 3
    pause: float = 1.0
    patience: float = 60.0
    failures: int = 5
    rest: float = 60.0

    def back_off(self, tried: int) -> float:
        """Seconds before the next try, after `tried` of them. The chance in it keeps many clients from asking at the
        same moment."""
        return self.pause * float(2 ** (tried - 1)) * random.uniform(0.5, 1.0)

    @property
    def timeouts(self) -> dict[str, float]:
        """As httpx2 takes them with a request."""
        return {"connect": self.connect, "read": self.read, "write": self.read, "pool": self.grace}


class Deadline:
    """The time one server has left. Only what it lets us wait counts, not what we do between two reads.

    Used as a context manager around each wait for the server, `with deadline:`, which raises ImageUnavailable when the
    time is up. What comes in the meantime is told to `came`.
    """

    def __init__(self, limits: Limits, longest: float = math.inf) -> None:
        self._limits = limits
        self._longest = longest
        self._spent = 0.0
        self._began = 0.0
        self._scope = trio.CancelScope()
        self.received = 0

    def __enter__(self) -> None:
        self._began = trio.current_time()
        self._scope = trio.CancelScope(deadline=self._end)
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spent += trio.current_time() - self._began
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise ImageUnavailable("timeout", "The server was too slow.")

    def came(self, size: int) -> None:
        """So many bytes have come; they have earned the server more time."""
        self.received += size
        self._scope.deadline = self._end

    @property
    def _end(self) -> float:
        allowed = self._limits.grace + self.received / self._limits.floor
        return self._began + min(allowed, self._longest) - self._spent
