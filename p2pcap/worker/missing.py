"""Images that could not be had: how often each was tried here, and when its chunk is to be looked at again.

A failure that may pass is tried again later, here or by another volunteer, since the slice is given back meanwhile.
Pure: the caller brings the clock.

Always holds: what is remembered is bounded, and every image runs out of tries: after as many as the project allows, and
at once while more are missing than can be remembered.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

PAUSE, LONGER, LONGEST = 60.0, 4.0, 3_600.0
"""Seconds for which a chunk is left alone after some of its images could not be had; each further time it is so many
times as long, up to the longest."""

MAX_IMAGES = 100_000
"""Images whose tries are remembered; some ten megabytes."""

MAX_CHUNKS = 100_000
"""Chunks whose rests are remembered; of more, the one that was met longest ago starts anew."""


@dataclass
class _Chunk:
    tries: dict[int, int] = field(default_factory=dict)
    until: float = 0.0
    visits: int = 0


class Missing:
    """`attempts` is how many tries an image has."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()
        self._images = 0

    def tried(self, chunk: int, items: Iterable[int]) -> set[int]:
        """Each of `items` was tried once more, in vain; returns those of them that have no try left."""
        return {item for item in items if self._count(chunk, item) >= self._attempts}

    def spent(self, chunk: int, item: int) -> bool:
        """Whether the image has no try left."""
        met = self._chunks.get(chunk)
        return met is not None and met.tries.get(item, 0) >= self._attempts

    def had(self, chunk: int, items: Iterable[int]) -> None:
        """These have their rows: their tries are forgotten."""
        tries = self._chunks[chunk].tries if chunk in self._chunks else {}
        for item in items:
            self._images -= tries.pop(item, None) is not None

    def until(self, chunk: int, now: float) -> float:
        """When the chunk, some of whose images are missing now, is to be looked at again."""
        met = self._of(chunk)
        if now >= met.until:  # its slices come one by one: they are one visit
            met.until = now + min(LONGEST, PAUSE * LONGER ** min(met.visits, 10))
            met.visits += 1
        return met.until

    def _count(self, chunk: int, item: int) -> int:
        tries = self._of(chunk).tries
        if item not in tries and self._images >= MAX_IMAGES:
            return self._attempts
        self._images += item not in tries
        tries[item] = tries.get(item, 0) + 1
        return tries[item]

    def _of(self, chunk: int) -> _Chunk:
        met = self._chunks.setdefault(chunk, _Chunk())
        self._chunks.move_to_end(chunk)
        if len(self._chunks) > MAX_CHUNKS:
            _, forgotten = self._chunks.popitem(last=False)
            self._images -= len(forgotten.tries)
        return met
