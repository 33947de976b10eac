"""Which items have rows here, which are settled, and which chunks still need work.

Sets of items are integers used as bit sets: bit i is item i of the chunk. An item *has a row* when a result that
counts covers it. It is *settled* when nobody needs to do it again: it has an answer, or as many authors as the policy
asks (or a verifier) say that it cannot be captioned, or it is redacted.

Always holds: everything here follows from the results held and from which of them count; the order in which they came
plays no part. Nothing scans all chunks.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Held:
    """A result whose body is held: its author, its first possible item, and as bits of the chunk the items it covers
    and those of them that are errors."""

    author: bytes
    offset: int
    items: int
    errors: int


class Standing(Protocol):
    """What the rulings say about a result."""

    def counts(self, id_: bytes, author: bytes) -> bool:
        """Whether it counts."""

    def confirmed(self, id_: bytes) -> int:
        """Items that a verifier found to be right, as bits from its offset on."""


class Rows:
    """The rows of every chunk. `sizes` are the chunks' numbers of images, `authors_for_error` makes an error final."""

    def __init__(self, sizes: Sequence[int], authors_for_error: int) -> None:
        self._sizes = sizes
        self._authors_for_error = authors_for_error
        self._batches: dict[int, dict[bytes, Held]] = {}
        self._settled: dict[int, int] = {}
        self._redacted: dict[int, int] = {}
        self._chunk_of: dict[bytes, int] = {}
        self.done: dict[int, int] = {}
        self.by_author: dict[tuple[bytes, int], int] = {}
        self._own_errors: dict[tuple[bytes, int], int] = {}
        self.unfinished: list[int] = list(range(len(sizes)))
        self._incomplete = set(self.unfinished)
        self.total = 0

    # what is known

    @property
    def complete(self) -> bool:
        """Whether every item has a row or is redacted."""
        return not self._incomplete

    def all(self, chunk: int) -> int:
        """Every item of `chunk`."""
        return (1 << self._sizes[chunk]) - 1

    def missing(self, chunk: int) -> int:
        """Items without a row, and not redacted."""
        return self.all(chunk) & ~self.done.get(chunk, 0) & ~self._redacted.get(chunk, 0)

    def unsettled(self, chunk: int, me: bytes = b"") -> int:
        """Items that still need somebody's work; with `me`, those that need the work of `me`."""
        return self.all(chunk) & ~self._settled.get(chunk, 0) & ~self._own_errors.get((me, chunk), 0)

    def redacted(self, chunk: int) -> int:
        """Items that are never to be shown."""
        return self._redacted.get(chunk, 0)

    def chunk_of(self, id_: bytes) -> int | None:
        """The chunk of a result whose body is held."""
        return self._chunk_of.get(id_)

    def batches(self, chunk: int) -> dict[bytes, Held]:
        """The results of `chunk` whose bodies are held, by id."""
        return self._batches.get(chunk, {})

    # what changes it

    def hold(self, chunk: int, id_: bytes, held: Held, standing: Standing) -> None:
        """A result's body is here and checked."""
        self._batches.setdefault(chunk, {})[id_] = held
        self._chunk_of[id_] = chunk
        self.recount(chunk, standing)

    def drop(self, id_: bytes, standing: Standing) -> None:
        """A result's body is gone."""
        chunk = self._chunk_of.pop(id_, None)
        if chunk is not None:
            author = self._batches[chunk].pop(id_).author
            self.by_author.pop((author, chunk), None)
            self._own_errors.pop((author, chunk), None)
            self.recount(chunk, standing)

    def redact(self, chunk: int, items: int, standing: Standing) -> None:
        """These items are closed for good."""
        self._redacted[chunk] = self._redacted.get(chunk, 0) | items
        self.recount(chunk, standing)

    def recount(self, chunk: int, standing: Standing) -> None:
        """Work out a chunk anew: a result came or went, or another one counts now."""
        before = self.done.get(chunk, 0)
        done = answered = confirmed = 0
        covered: dict[bytes, int] = {}
        errors: dict[bytes, int] = {}
        for id_, held in self._batches.get(chunk, {}).items():
            covered.setdefault(held.author, 0)
            if standing.counts(id_, held.author):
                done |= held.items
                answered |= held.items & ~held.errors
                confirmed |= standing.confirmed(id_) << held.offset & held.errors
                covered[held.author] |= held.items
                errors[held.author] = errors.get(held.author, 0) | held.errors
        _put(self.done, chunk, done)
        _put(self._settled, chunk, answered | confirmed | self._final(errors.values()) | self._redacted.get(chunk, 0))
        for author, items in covered.items():
            _put(self.by_author, (author, chunk), items)
            _put(self._own_errors, (author, chunk), errors.get(author, 0) & ~answered)
        self.total += done.bit_count() - before.bit_count()
        (self._incomplete.add if self.missing(chunk) else self._incomplete.discard)(chunk)
        self._mark(chunk, self.unsettled(chunk) == 0)

    def _final(self, errors: Iterable[int]) -> int:
        """Items that enough distinct authors call errors."""
        said = [0] * self._authors_for_error
        for items in errors:
            for times in range(self._authors_for_error - 1, 0, -1):
                said[times] |= said[times - 1] & items
            said[0] |= items
        return said[-1]

    def _mark(self, chunk: int, finished: bool) -> None:
        place = bisect_left(self.unfinished, chunk)
        listed = place < len(self.unfinished) and self.unfinished[place] == chunk
        if finished and listed:
            del self.unfinished[place]
        elif not finished and not listed:
            self.unfinished.insert(place, chunk)


def _put(table: dict[K, int], key: K, bits: int) -> None:
    if bits:
        table[key] = bits
    else:
        table.pop(key, None)
