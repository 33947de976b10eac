"""What a whole simulated swarm shares: time, random numbers, what is to happen when, and a record of what happened.

Always holds: whatever happens is told to `trace`, so that two runs are the same when the hashes of their traces are.
"""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

from tests.makers import NOW


@dataclass(frozen=True)
class Blame:
    """What one node held against another."""

    time: float
    by: str
    peer: str
    penalty: float
    banned: bool


class World:
    """Time and chance of one run. Names are for people: `ada`, `bob`, …; `show` prints the trace as it goes."""

    def __init__(self, seed: int, show: bool = False) -> None:
        self.rng = random.Random(seed)
        self.names: dict[str, str] = {}
        self.blames: list[Blame] = []
        self.broken: list[str] = []
        self.counted: Counter[str] = Counter()
        self._show = show
        self._hash = hashlib.sha256()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._sooner = trio.Event()

    @property
    def now(self) -> float:
        """The true time, in unix seconds."""
        return NOW + trio.current_time()

    @property
    def digest(self) -> str:
        """Stands for everything that happened."""
        return self._hash.hexdigest()

    def branch(self) -> random.Random:
        """Random numbers for one part of the world, so that it does not disturb the others."""
        return random.Random(self.rng.getrandbits(64))

    def name(self, peer: str) -> str:
        """What people call a peer."""
        return self.names.get(peer, peer[-6:])

    def trace(self, what: str, *about: object) -> None:
        """Something happened."""
        line = f"{trio.current_time():10.3f} {what} {' '.join(map(str, about))}"
        self._hash.update(line.encode())
        self.counted[what] += 1
        if self._show:
            print(line)

    def break_(self, why: str) -> None:
        """Something happened that must never happen."""
        self.trace("BROKEN", why)
        self.broken.append(why)

    def blame(self, by: str, peer: str, penalty: float, banned: bool) -> None:
        """A node holds something against another."""
        self.trace("blame", self.name(by), self.name(peer), penalty, banned)
        self.blames.append(Blame(trio.current_time(), by, peer, penalty, banned))

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do this after so many seconds."""
        self._number += 1
        heapq.heappush(self._due, (trio.current_time() + seconds, self._number, what))
        if self._due[0][1] == self._number:
            self._sooner.set()

    async def run(self) -> None:
        """Let happen what is due, for ever."""
        while True:
            while self._due and self._due[0][0] <= trio.current_time():
                heapq.heappop(self._due)[2]()
            self._sooner = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else float("inf")):
                await self._sooner.wait()
