"""How many bytes a second the owner of a node lends to the swarm, and who gets them.

Content and relayed traffic pass through here, one line for each direction; gossip, statuses and claims never do. A
small part is let through at a time, and peers take turns, so one that asks much delays each other by a part and no
more.

Always holds: over any second a line lets through its rate and one part at most; peers that wait get as many bytes each;
a cancelled wait holds up nobody.
"""

import heapq
import itertools
import math

import trio

from p2pcap.swarm.frames import WRITE_SIZE
from p2pcap.swarm.peers import MAX_PEERS

PART_SECONDS = 0.1
"""What a capped line carries in this time is one part: with as many answers at once as `requests.MORE` each then moves
on every 3 seconds, before anybody takes it for stalled (`SwarmSettings.stall_after`)."""
LEAST_PART = 1_024
PLACE_RATE = 32 * 1024
LEAST_PLACES = 2
"""Transfers that share a line: as many as it gives 32 KiB a second each, but two at least."""


class Bandwidth:
    """Both lines of one node; rates in bytes a second, `math.inf` for no cap."""

    def __init__(self, upload: float = math.inf, download: float = math.inf) -> None:
        self.up = Line(upload)
        self.down = Line(download)

    async def upload(self, peer: str, size: int) -> None:
        """Wait until `size` bytes may be written for `peer`."""
        await self.up.take(peer, size)

    async def download(self, peer: str, size: int) -> None:
        """Wait until the `size` bytes that came from `peer` are paid for, before more are read."""
        await self.down.take(peer, size)


class Line:
    """One direction. `passed` is how many bytes it let through in all, `part` how many it lets through at a time.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): positions are bytes as each peer alone would count them; what
    a peer asks for starts where its last part ends, or where the line is now, and who starts first is first.

    `places` limits how many transfers share the line: with more, each would be so slow that it looks stalled.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.part = int(min(WRITE_SIZE, max(LEAST_PART, rate * PART_SECONDS)))
        self.passed = 0
        self.places = trio.CapacityLimiter(max(LEAST_PLACES, int(rate // PLACE_RATE)) if self.capped else math.inf)
        self._free_at = -math.inf
        self._busy = False
        self._position = 0
        self._ends: dict[str, int] = {}
        self._waiting: list[tuple[int, int, trio.Event]] = []
        self._numbers = itertools.count()

    @property
    def capped(self) -> bool:
        """Whether anybody ever waits."""
        return self.rate < math.inf

    async def take(self, peer: str, size: int) -> None:
        """Let `size` bytes for `peer` through, part by part, each when it is the peer's turn.

        Without a cap it only counts: no checkpoint, since whoever reads or writes has one of its own.
        """
        if not self.capped:
            self.passed += size
            return
        for start in range(0, size, self.part):
            part = min(self.part, size - start)
            await self._turn(peer, part)
            try:
                await self._let_through(part)
            finally:
                self._next()

    async def _let_through(self, size: int) -> None:
        await trio.sleep_until(max(self._free_at, trio.current_time()))
        self._free_at = trio.current_time() + size / self.rate
        self.passed += size

    async def _turn(self, peer: str, size: int) -> None:
        """Wait for the line. On return it is the caller's until it calls `_next`."""
        start = max(self._position, self._ends.get(peer, 0))
        self._ends[peer] = start + size
        if not self._busy:
            self._busy, self._position = True, start
            return
        place = start, next(self._numbers), trio.Event()
        heapq.heappush(self._waiting, place)
        try:
            await place[2].wait()
        except trio.Cancelled:
            self._leave(place)
            raise

    def _leave(self, place: tuple[int, int, trio.Event]) -> None:
        if place[2].is_set():
            self._next()
        else:
            self._waiting.remove(place)
            heapq.heapify(self._waiting)

    def _next(self) -> None:
        """Give the line to whoever is first; when nobody waits, nobody is owed anything."""
        self._busy = bool(self._waiting)
        if self._busy:
            self._position, _, turn = heapq.heappop(self._waiting)
            turn.set()
        if len(self._ends) > MAX_PEERS:
            self._ends = {peer: end for peer, end in self._ends.items() if end > self._position}
