"""What a simulated job is measured by: the truth about which items are done, and a central queue beside it.

Always holds: the truth hears of a result when it is made; only the volunteers hear of it later.
"""

import heapq
import random
from dataclasses import dataclass, field

DELAY = 1.0
"""Seconds until a statement is with everybody but its author, who knows it at once."""

SLICE_SECONDS = 37.5
"""What a slice takes at median speed: ten minutes for a chunk of 16 slices, 1,024 images."""

SPREAD, NOISE = 0.5, 0.1
"""Standard deviations, of the logarithm, of the volunteers' speeds and of the times of one volunteer's slices."""


@dataclass
class Outcome:
    """What came of a run. `left` items are to be done; `makespan` is in seconds; `repeated` has the items that were
    made again, with the time at which they were published."""

    left: int
    makespan: float = 0.0
    made: int = 0
    repeated: list[tuple[float, int]] = field(default_factory=list)
    _done: dict[int, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether every item is done."""
        return self.left == 0

    def publish(self, chunk: int, items: int, now: float) -> None:
        """Somebody made these items, as bits of the chunk."""
        done = self._done.get(chunk, 0)
        again = (items & done).bit_count()
        self._done[chunk] = done | items
        self.made += items.bit_count()
        self.left -= items.bit_count() - again
        if again:
            self.repeated.append((now, again))
        if self.over and not self.makespan:
            self.makespan = now

    def duplicates(self, until: float = 1.0) -> float:
        """Items made again, for each item that had to be made; with `until`, those of the first part of the run."""
        needed = self.made - sum(items for _, items in self.repeated)
        return sum(items for time, items in self.repeated if until >= 1.0 or time <= until * self.makespan) / needed


def speeds_of(volunteers: int, seed: int) -> list[float]:
    """Seconds a slice takes each volunteer."""
    rng = random.Random(f"speeds {seed}")
    return [SLICE_SECONDS * rng.lognormvariate(0.0, SPREAD) for _ in range(volunteers)]


def central_queue(speeds: list[float], slices: int, seed: int) -> float:
    """The makespan in seconds when each volunteer takes the next slice from one queue, without any delay."""
    rng = random.Random(f"queue {seed}")
    free = [(0.0, number) for number in range(len(speeds))]
    last = 0.0
    for _ in range(slices):
        time, number = heapq.heappop(free)
        time += speeds[number] * rng.lognormvariate(0.0, NOISE)
        last = max(last, time)
        heapq.heappush(free, (time, number))
    return last
