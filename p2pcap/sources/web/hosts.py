"""How many requests a host gets at one time, and how long a host that asks for quiet is left alone.

A host begins with few places and earns more with each request that goes well; when it says that it is busy it loses
half of them. One that fails again and again is given up for a while, so that a dead host costs a chunk some seconds
and not a wait for each of its images.

Always holds: no more than `limits.FETCHES` requests are on their way at once; the table of hosts has a bound.
"""

import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from p2pcap.errors import ImageError, ImageResting, ImageUnavailable
from p2pcap.sources.web.limits import FETCHES, Limits

STRANGER, MOST_STRANGER = 2, 16
"""Places that a host which nobody vouched for begins with, and may come to."""

NEAR, MOST_NEAR = 16, FETCHES
"""The same for the Hub, and for hosts that the maintainer named."""

MOST_HOSTS = 4_096

COUNTED = ("unreachable", "timeout")
"""The failures after which a host may be dead."""


class Busy(ImageUnavailable):
    """The host asks to be left alone for `after` seconds; 0.0 when it does not say for how long."""

    def __init__(self, after: float) -> None:
        super().__init__("busy", "The server says that it is asked too often.")
        self.after = after


class Resting(ImageUnavailable):
    """The host was not asked: it failed too often a moment ago, or asks to be left alone for long. Unlike ImageResting,
    it counts as a try: something else was asked, or the host has rested too often to be waited for."""


@dataclass
class Host:
    """One host. `quiet_until`: nothing is asked before; `resting`: what is said meanwhile to whoever will not wait;
    `rests`: how often it has rested since anything went well. `eager`: it was never busy, and may be trusted to say so.
    """

    places: float
    most: float
    eager: bool
    limiter: trio.CapacityLimiter = field(init=False)
    failed: int = 0
    quiet_until: float = -math.inf
    resting: tuple[str, str] | None = None
    rests: int = 0

    def __post_init__(self) -> None:
        self.limiter = trio.CapacityLimiter(self.places)

    @property
    def idle(self) -> bool:
        """Whether nobody holds or awaits a place."""
        seen = self.limiter.statistics()
        return not seen.borrowed_tokens and not seen.tasks_waiting

    def went_well(self) -> None:
        """One more place for each round of requests that went well, or for each request of an eager host."""
        if self.resting is not None:
            self.resting, self.quiet_until = None, -math.inf
        self.failed = self.rests = 0
        self._resize(self.places + (1 if self.eager else 1 / self.places))

    def went_badly(self, error: ImageUnavailable, limits: Limits, now: float) -> None:
        """Half the places for a host that is busy; none for a while for one that is dead, or asks for it."""
        if isinstance(error, Busy):
            self.eager = False
            self._resize(self.places / 2)
            self._be_quiet(error.after, error, limits, now)
        elif error.code in COUNTED:
            self.failed += 1
            if self.failed >= limits.failures:
                self._be_quiet(limits.rest, error, limits, now)

    def _be_quiet(self, seconds: float, error: ImageUnavailable, limits: Limits, now: float) -> None:
        rests = seconds > limits.patience or not isinstance(error, Busy)
        if rests and (self.resting is None or now >= self.quiet_until):
            self.rests += 1
        self.quiet_until = max(self.quiet_until, now + min(seconds, 10 * limits.rest))
        if rests:
            self.resting = (error.code, f"{error.reason} It is not asked for a while.")

    def rest(self, limits: Limits, now: float) -> ImageUnavailable:
        """What is said to whoever comes while the host rests. Images are not kept waiting for ever: the one whose host
        had `limits.tries` rests in vain fails as if it had been asked."""
        assert self.resting is not None
        code, reason = self.resting
        if self.rests > limits.tries:
            return Resting(code, reason)
        return ImageResting(code, reason, self.quiet_until - now)

    def _resize(self, places: float) -> None:
        self.places = min(max(places, 1.0), self.most)
        if int(self.places) != self.limiter.total_tokens:
            self.limiter.total_tokens = int(self.places)


class Hosts:
    """Places for requests. `near` says which hosts begin with many."""

    def __init__(self, limits: Limits, everywhere: trio.CapacityLimiter, near: Callable[[str, int], bool]) -> None:
        self._limits = limits
        self._everywhere = everywhere
        self._near = near
        self._hosts: OrderedDict[tuple[str, int], Host] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    @asynccontextmanager
    async def place(self, name: str, port: int) -> AsyncIterator[None]:
        """A place for one request to this host, waited for in turn; how the request ends is remembered.

        Raises ImageResting when the host is not to be asked now, and Resting when it has been so too often.
        """
        host, borrower = self._host(name, port), object()
        await _acquire(host.limiter, borrower)
        try:
            await self._quiet(host)
            await _acquire(self._everywhere, borrower)
            try:
                yield
            finally:
                self._everywhere.release_on_behalf_of(borrower)
        except (ImageResting, Resting):
            raise
        except ImageUnavailable as error:
            host.went_badly(error, self._limits, trio.current_time())
            raise
        except ImageError:
            host.went_well()  # it answered, and that is all that counts here
            raise
        else:
            host.went_well()
        finally:
            host.limiter.release_on_behalf_of(borrower)

    async def _quiet(self, host: Host) -> None:
        """Wait until the host may be asked; for one that rests, the first to come after that finds out how it is."""
        while (now := trio.current_time()) < host.quiet_until:
            if host.resting is not None:
                raise host.rest(self._limits, now)
            await trio.sleep_until(host.quiet_until)

    def _host(self, name: str, port: int) -> Host:
        key = (name, port)
        host = self._hosts.get(key)
        if host is None:
            near = self._near(name, port)
            host = Host(NEAR, MOST_NEAR, True) if near else Host(STRANGER, MOST_STRANGER, False)
            self._make_room()
            self._hosts[key] = host
        self._hosts.move_to_end(key)
        return host

    def _make_room(self) -> None:
        """Forget the host that was idle for longest. Those in use are as few as the tasks that ask."""
        if len(self._hosts) >= MOST_HOSTS:
            oldest = next((key for key, host in self._hosts.items() if host.idle), None)
            if oldest is not None:
                del self._hosts[oldest]


async def _acquire(limiter: trio.CapacityLimiter, borrower: object) -> None:
    """As its own method, but without letting other tasks run first where there is no need to wait: their connections
    would lie idle meanwhile, and the pool looks at each idle connection for each request."""
    try:
        limiter.acquire_on_behalf_of_nowait(borrower)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(borrower)
