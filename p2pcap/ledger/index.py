"""The sorted set of (time, id) over which two nodes compare what they hold (`p2pcap.ledger.negentropy`).

A key is 40 bytes, `time (8, big endian) ‖ id (32)`, so that the order of the bytes is the order of the set. Keys stand
in blocks of at most BLOCK; each block keeps the sum of its ids. Ranks and sums before each block are remembered up to
the first block that changed: statements mostly come in with the newest time, at the end, so little is added up again.

Always holds: keys ascend, no id stands twice, no block but the first is empty.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from operator import itemgetter
from typing import Literal

BLOCK = 64
"""Keys of a full block; one more splits it. The sum of a range adds up at most half a block at each of its ends: with
larger blocks that takes longer, with smaller ones the list of blocks gets long."""

ID_BYTES = 32
TIME_BYTES = 8
MAX_TIME = 2**64 - 2
"""Highest time of an entry; one more stands for the end of everything."""
MODULUS = 2**256

_id_of = itemgetter(slice(TIME_BYTES, None))


def key(time: int, id: bytes) -> bytes:
    """The 40 bytes that stand for an entry. Raises ValueError when `time` is not 0..MAX_TIME or `id` not 32 bytes."""
    if not 0 <= time <= MAX_TIME or len(id) != ID_BYTES:
        raise ValueError("an entry of the index is a time of 0..2**64-2 seconds and an id of 32 bytes")
    return time.to_bytes(TIME_BYTES, "big") + id


class Index:
    """Statement ids in the order of time, then id. One owner: the thread of the event loop.

    Finding, adding and removing an entry cost the logarithm of the size, and so does the sum of a range once the ranks
    and sums behind the last change have been added up again, one addition a block.
    """

    def __init__(self) -> None:
        self._times: dict[bytes, int] = {}
        self._blocks: list[list[bytes]] = [[]]
        self._starts = [b""]
        """Where each block begins: its keys are not below this, those of the block before are."""
        self._sums = [0]
        self._ranks = [0]
        self._totals = [0]
        self._digest = 0

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, id: bytes) -> bool:
        return id in self._times

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Every entry as (time, id), in order."""
        for block in self._blocks:
            for entry in block:
                yield int.from_bytes(entry[:TIME_BYTES], "big"), entry[TIME_BYTES:]

    @property
    def digest(self) -> int:
        """The sum of all ids, as big-endian numbers, mod 2**256: equal sets have equal digests."""
        return self._digest

    @property
    def newest(self) -> int | None:
        """The largest time in the set; None when it is empty."""
        return int.from_bytes(self._blocks[-1][-1][:TIME_BYTES], "big") if self._times else None

    def time_of(self, id: bytes) -> int | None:
        """The time of the entry with this id, in seconds; None when it is not held."""
        return self._times.get(id)

    def add(self, time: int, id: bytes) -> bool:
        """Take in an entry; False when its id is held already, at whatever time. Raises ValueError as `key` does."""
        entry = key(time, id)
        if id in self._times:
            return False
        self._times[id] = time
        self._digest = (self._digest + int.from_bytes(id, "big")) % MODULUS
        at = self._block_of(entry)
        insort(self._blocks[at], entry)
        self._sums[at] += int.from_bytes(id, "little")
        self._changed(at)
        if len(self._blocks[at]) > BLOCK:
            self._split(at)
        return True

    def remove(self, time: int, id: bytes) -> bool:
        """Let go of an entry; False when it is not held at this time."""
        if self._times.get(id) != time:
            return False
        del self._times[id]
        self._digest = (self._digest - int.from_bytes(id, "big")) % MODULUS
        entry = key(time, id)
        at = self._block_of(entry)
        block = self._blocks[at]
        del block[bisect_left(block, entry)]
        self._sums[at] -= int.from_bytes(id, "little")
        self._changed(at)
        if not block and at > 0:
            del self._blocks[at], self._starts[at], self._sums[at]
            self._changed(at - 1)
        return True

    def rank(self, bound: bytes) -> int:
        """The number of entries below `bound`: a key, or the beginning of one, with zeros for the missing bytes."""
        at = self._block_of(bound)
        self._add_up(at)
        return self._ranks[at] + bisect_left(self._blocks[at], bound)

    def keys(self, lower: int, upper: int) -> Iterator[bytes]:
        """The keys with the ranks `lower` up to but without `upper`, in order. Nothing may change meanwhile."""
        at, offset = self._place(lower)
        wanted = min(upper, len(self)) - lower
        while wanted > 0:
            block = self._blocks[at]
            yield from islice(block, offset, offset + wanted)
            wanted -= len(block) - offset
            at, offset = at + 1, 0

    def sum_below(self, rank: int) -> int:
        """The sum of the ids with ranks below `rank`, as little-endian numbers. The sum of a range is a difference."""
        at, offset = self._place(rank)
        block = self._blocks[at]
        if offset <= len(block) // 2:
            return self._totals[at] + _sum(block[:offset])
        return self._totals[at] + self._sums[at] - _sum(block[offset:])

    def _place(self, rank: int) -> tuple[int, int]:
        """The block of the entry with this rank, and its place in it; the end of the last block for what is beyond."""
        if len(self._ranks) < len(self._blocks):
            self._add_up(len(self._blocks) - 1)
        at = bisect_right(self._ranks, rank) - 1
        return at, rank - self._ranks[at]

    def _block_of(self, bound: bytes) -> int:
        return bisect_right(self._starts, bound) - 1

    def _changed(self, at: int) -> None:
        """What was added up for the blocks after `at` holds no more."""
        del self._ranks[at + 1 :], self._totals[at + 1 :]

    def _add_up(self, at: int) -> None:
        """Know rank and sum of everything before each block until `at`."""
        for before in range(len(self._ranks) - 1, at):
            self._ranks.append(self._ranks[before] + len(self._blocks[before]))
            self._totals.append(self._totals[before] + self._sums[before])

    def _split(self, at: int) -> None:
        block = self._blocks[at]
        lower, upper = block[: len(block) // 2], block[len(block) // 2 :]
        self._blocks[at : at + 1] = lower, upper
        self._starts.insert(at + 1, upper[0])
        moved = _sum(upper)
        self._sums[at : at + 1] = self._sums[at] - moved, moved


def _sum(keys: Iterable[bytes]) -> int:
    """The sum of the keys' ids; without a Python function for each, which would take twice as long."""
    order: repeat[Literal["little"]] = repeat("little")
    return sum(map(int.from_bytes, map(_id_of, keys), order))
