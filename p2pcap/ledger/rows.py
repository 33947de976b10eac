"""Which items have rows here, which are settled, and which chunks still need work.

Sets of items are integers used as bit sets: bit i is item i of the chunk. An item *has a row* when a result that
counts there covers it. It is *settled* when nobody needs to do it again: it has an answer, or as many authors as the
policy asks (or a verifier) say that it cannot be captioned, or it is redacted. It is *waived* when this task will never
ask about it: a task whose answers stand in for it has one, or a task whose answers it needs will not have one. It is
*ready* when every task whose answers it needs has one.

A result that comes in only adds to what holds already, at a cost that does not grow with the results held: a stranger
may repeat one slice thousands of times. The sums can only grow, so a chunk is worked out anew when a result goes, or
when a ruling changes what counts.

Always holds: everything here follows from the results held and from which of them count; the order in which they came
plays no part. Nothing scans all chunks.
"""

from bisect import bisect_left
from collections.abc import Hashable, Sequence
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
    """What is made of a result, as bits from its offset on."""

    def counted(self, id_: bytes, author: bytes) -> int:
        """Items that count."""

    def may_count(self, id_: bytes, author: bytes) -> bool:
        """Whether nothing but checks keeps it from counting."""

    def confirmed(self, id_: bytes) -> int:
        """Items that verifiers found to be right."""


class Rows:
    """The rows of every chunk in one task. `sizes` are the chunks' numbers of images, `authors_for_error` makes an
    error final. Rows of several tasks that depend on each other are joined by `link`."""

    def __init__(self, sizes: Sequence[int], authors_for_error: int) -> None:
        self._sizes = list(sizes)
        self._authors_for_error = authors_for_error
        self._rank = 0
        self._needs: Sequence[Rows] = ()
        self._keeps: Sequence[Rows] = ()
        self._dependents: list[Rows] = []
        self._waived: dict[int, int] = {}
        self._stuck: dict[int, int] = {}
        """Items for which a needed task has no answer, but an error that is not final."""
        self._batches: dict[int, dict[bytes, Held]] = {}
        self._redacted: dict[int, int] = {}
        self._chunk_of: dict[bytes, int] = {}
        self.done: dict[int, int] = {}
        self.by_author: dict[tuple[bytes, int], int] = {}
        self._answered: dict[int, int] = {}
        self._confirmed: dict[int, int] = {}
        """Items whose error a verifier found to be right."""
        self._errors: dict[tuple[bytes, int], int] = {}
        """Items that an author says cannot be captioned."""
        self._tried: dict[tuple[bytes, int], int] = {}
        """Items for which an author has rows that checks keep from counting: he is not to make them again."""
        self._said: dict[int, list[int]] = {}
        """Items that at least one author, two, and so on up to `authors_for_error` say cannot be captioned."""
        self.unfinished: list[int] = []
        self._lacking: list[int] = []
        """How many items of each chunk are missing."""
        self.lacking = 0
        self.total = 0
        self._open_from(0)

    # what is known

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return len(self._sizes)

    def size(self, chunk: int) -> int:
        """How many images `chunk` has."""
        return self._sizes[chunk]

    @property
    def complete(self) -> bool:
        """Whether every item has a row, or is redacted or waived."""
        return self.lacking == 0

    def all(self, chunk: int) -> int:
        """Every item of `chunk`."""
        return (1 << self._sizes[chunk]) - 1

    def answered(self, chunk: int) -> int:
        """Items that have an answer."""
        return self._answered.get(chunk, 0)

    def waived(self, chunk: int) -> int:
        """Items that this task will not be asked about."""
        return self._waived.get(chunk, 0)

    def missing(self, chunk: int) -> int:
        """Items without a row that are to have one. Those that a needed task has only errors for are not waited for."""
        had = self.done.get(chunk, 0) | self._redacted.get(chunk, 0) | self._stuck.get(chunk, 0)
        return self.all(chunk) & ~had & ~self.waived(chunk)

    def lacks(self, chunk: int) -> int:
        """How many items are missing. It costs nothing, unlike `missing`."""
        return self._lacking[chunk]

    def unsettled(self, chunk: int, me: bytes = b"") -> int:
        """Ready items that still need somebody's work; with `me`, those that need the work of `me`."""
        settled = self._settled(chunk) | self._redacted.get(chunk, 0) | self.waived(chunk)
        bits = self.all(chunk) & ~settled & ~self._errors.get((me, chunk), 0) & ~self._tried.get((me, chunk), 0)
        for rows in self._needs:
            bits &= rows.answered(chunk)
        return bits

    def _settled(self, chunk: int) -> int:
        return self.answered(chunk) | self._confirmed.get(chunk, 0) | self._final(chunk)

    def _hopeless(self, chunk: int) -> int:
        """Items that will have no answer here."""
        return (self._settled(chunk) | self._redacted.get(chunk, 0) | self.waived(chunk)) & ~self.answered(chunk)

    def redacted(self, chunk: int) -> int:
        """Items that are never to be shown."""
        return self._redacted.get(chunk, 0)

    def held(self, chunk: int, id_: bytes) -> Held | None:
        """A result of `chunk` whose body is held."""
        return self._batches.get(chunk, {}).get(id_)

    def batches(self, chunk: int) -> dict[bytes, Held]:
        """The results of `chunk` whose bodies are held, by id."""
        return self._batches.get(chunk, {})

    # what changes it

    def link(self, rank: int, needs: Sequence["Rows"], keeps: Sequence["Rows"]) -> None:
        """This task needs the answers of some tasks, and those of others stand in for its own. They have lower ranks;
        `unlink` was called for all of them before."""
        self._rank, self._needs, self._keeps = rank, needs, keeps
        for rows in (*needs, *keeps):
            rows._dependents.append(self)

    def unlink(self) -> list["Rows"]:
        """It depends on no others and none on it, until they are linked anew; those on which it depended."""
        depended = [*self._needs, *self._keeps]
        self._needs, self._keeps, self._dependents = (), (), []
        return depended

    def judge(self) -> None:
        """Look at every chunk anew: other tasks are linked. To be called in the order of ranks."""
        for chunk in range(len(self._sizes)):
            self._judge(chunk)

    def grow(self, sizes: Sequence[int]) -> None:
        """There are more chunks: those known before, and others after them."""
        known = len(self._sizes)
        self._sizes += sizes[known:]
        self._open_from(known)

    def _open_from(self, first: int) -> None:
        """The chunks from `first` on are new."""
        new = range(first, len(self._sizes))
        self._lacking += self._sizes[first:]
        self.lacking += sum(self._sizes[first:])
        self.unfinished += new
        for chunk in new if self._needs or self._keeps else ():
            self._judge(chunk)

    def hold(self, chunk: int, id_: bytes, held: Held, standing: Standing) -> None:
        """A result's body is here and checked."""
        self.drop(id_, standing)
        self._batches.setdefault(chunk, {})[id_] = held
        self._chunk_of[id_] = chunk
        if self._add(chunk, id_, held, standing):
            self._conclude(chunk)

    def drop(self, id_: bytes, standing: Standing) -> None:
        """A result's body is gone. Nothing happens when it was not here."""
        chunk = self._chunk_of.pop(id_, None)
        if chunk is not None:
            self._clear(chunk)
            del self._batches[chunk][id_]
            self.recount(chunk, standing)

    def redact(self, chunk: int, items: int, standing: Standing) -> None:
        """These items are closed for good."""
        self._redacted[chunk] = self._redacted.get(chunk, 0) | items
        self.recount(chunk, standing)

    def ask_authors(self, authors_for_error: int, standing: Standing) -> None:
        """From now on it takes so many authors to make an error final."""
        if authors_for_error != self._authors_for_error:
            self._authors_for_error = authors_for_error
            for chunk in list(self._batches):
                self.recount(chunk, standing)

    def recount(self, chunk: int, standing: Standing) -> None:
        """Work out a chunk anew: a result went, or another one counts now."""
        self._clear(chunk)
        for id_, held in self._batches.get(chunk, {}).items():
            self._add(chunk, id_, held, standing)
        self._conclude(chunk)

    def _clear(self, chunk: int) -> None:
        self.total -= self.done.pop(chunk, 0).bit_count()
        self._answered.pop(chunk, None)
        self._confirmed.pop(chunk, None)
        self._said.pop(chunk, None)
        for author in {held.author for held in self._batches.get(chunk, {}).values()}:
            self.by_author.pop((author, chunk), None)
            self._errors.pop((author, chunk), None)
            self._tried.pop((author, chunk), None)

    def _add(self, chunk: int, id_: bytes, held: Held, standing: Standing) -> bool:
        """Add what one result says, as far as it counts; whether anything does."""
        items = held.items & standing.counted(id_, held.author) << held.offset
        if items != held.items and standing.may_count(id_, held.author):
            _join(self._tried, (held.author, chunk), held.items)
        if not items:
            return False
        errors = held.errors & items
        self.total += (items & ~self.done.get(chunk, 0)).bit_count()
        _join(self.done, chunk, items)
        _join(self.by_author, (held.author, chunk), items)
        _join(self._answered, chunk, items & ~errors)
        _join(self._confirmed, chunk, standing.confirmed(id_) << held.offset & errors)
        self._say(chunk, errors & ~self._errors.get((held.author, chunk), 0))
        _join(self._errors, (held.author, chunk), errors)
        return True

    def _say(self, chunk: int, items: int) -> None:
        """One more author calls these items errors."""
        if items:
            said = self._said.setdefault(chunk, [0] * self._authors_for_error)
            for times in range(self._authors_for_error - 1, 0, -1):
                said[times] |= said[times - 1] & items
            said[0] |= items

    def _final(self, chunk: int) -> int:
        """Items that enough distinct authors call errors."""
        said = self._said.get(chunk)
        return said[-1] if said else 0

    def _conclude(self, chunk: int) -> None:
        """Something in a chunk has changed: each task that depends on this one looks at it, once."""
        waiting = {id(self): self}
        while waiting:
            rows = waiting.pop(min(waiting, key=lambda one: waiting[one]._rank))
            rows._judge(chunk)
            waiting |= {id(one): one for one in rows._dependents if chunk < len(one._sizes)}

    def _judge(self, chunk: int) -> None:
        waived = stuck = 0
        for rows in self._needs:
            waived |= rows._hopeless(chunk)
            stuck |= (rows.done.get(chunk, 0) | rows._stuck.get(chunk, 0)) & ~rows.answered(chunk)
        for rows in self._keeps:
            waived |= rows.answered(chunk)
        _put(self._waived, chunk, waived)
        _put(self._stuck, chunk, stuck)
        missing = self.missing(chunk).bit_count()
        self.lacking += missing - self._lacking[chunk]
        self._lacking[chunk] = missing
        self._mark(chunk, self.unsettled(chunk) == 0)

    def _mark(self, chunk: int, finished: bool) -> None:
        place = bisect_left(self.unfinished, chunk)
        listed = place < len(self.unfinished) and self.unfinished[place] == chunk
        if finished and listed:
            del self.unfinished[place]
        elif not finished and not listed:
            self.unfinished.insert(place, chunk)


def _put(table: dict[int, int], chunk: int, bits: int) -> None:
    if bits:
        table[chunk] = bits
    else:
        table.pop(chunk, None)


def _join(table: dict[K, int], key: K, bits: int) -> None:
    if bits:
        table[key] = table.get(key, 0) | bits
