"""What one node knows: the statements it has seen, and what they add up to.

A `Ledger` is filled by `Ledger.apply`, from the database at start and from the network after that, in any order.
Sets of items are integers used as bit sets: bit i is item i of the chunk.

Always holds: `done` covers only items whose rows are held, checked and committed here; `announced` may be a lie.
"""

from dataclasses import dataclass, field

from p2pcap.ledger.claims import Claims
from p2pcap.ledger.records import Grant, Result
from p2pcap.project.opened import Project

ANNOUNCED_FOR = 600.0
"""Seconds for which a header without its body keeps others from doing the same items."""


@dataclass
class Ledger:
    """The state that validation and the choice of work read. One owner: the node's main task."""

    project: Project
    seen: set[bytes] = field(default_factory=set)
    grants: dict[bytes, Grant] = field(default_factory=dict)
    claims: Claims = field(default_factory=Claims)
    done: dict[int, int] = field(default_factory=dict)
    by_author: dict[tuple[bytes, int], int] = field(default_factory=dict)
    announced: dict[int, dict[bytes, tuple[int, float]]] = field(default_factory=dict)
    digest: int = 0
    stored: int = 0

    def add_id(self, id_: bytes) -> None:
        """Remember a stored statement. The digest is the sum of all ids, so equal sets have equal digests."""
        if id_ not in self.seen:
            self.seen.add(id_)
            self.stored += 1
            self.digest = (self.digest + int.from_bytes(id_, "big")) % 2**256

    def grant(self, grant: Grant) -> None:
        """Admit an author. Of several grants the newest gives the public name."""
        held = self.grants.get(grant.key)
        if held is None or (grant.time, grant.name) > (held.time, held.name):
            self.grants[grant.key] = grant

    def announce(self, id_: bytes, author: bytes, result: Result, now: float) -> None:
        """A valid header came in; its body is not here yet."""
        self.announced.setdefault(result.chunk, {})[id_] = (result.items, now)
        self._own(author, result)
        self.claims.progress(author, now)

    def complete(self, id_: bytes, author: bytes, result: Result) -> None:
        """The body of a header is held and checked: its items are done."""
        self.done[result.chunk] = self.done.get(result.chunk, 0) | result.items
        self._own(author, result)
        self.forget(id_, result)

    def forget(self, id_: bytes, result: Result) -> None:
        """A header's body came, or proved false: it holds nobody off any more."""
        waiting = self.announced.get(result.chunk, {})
        waiting.pop(id_, None)
        if not waiting:
            self.announced.pop(result.chunk, None)

    def _own(self, author: bytes, result: Result) -> None:
        key = (author, result.chunk)
        self.by_author[key] = self.by_author.get(key, 0) | result.items

    def all_items(self, chunk: int) -> int:
        """Every item of `chunk`, as bits."""
        return (1 << self.project.chunks[chunk].count) - 1

    def missing(self, chunk: int) -> int:
        """The items of `chunk` without a row here, as bits."""
        return self.all_items(chunk) & ~self.done.get(chunk, 0)

    def open_items(self, chunk: int, now: float) -> int:
        """The items nobody has done or lately announced, as bits."""
        bits = self.missing(chunk)
        for items, since in self.announced.get(chunk, {}).values():
            if now - since < ANNOUNCED_FOR:
                bits &= ~items
        return bits

    @property
    def finished(self) -> bool:
        """Whether every item has a row here."""
        return all(self.missing(chunk) == 0 for chunk in range(len(self.project.chunks)))

    @property
    def items_done(self) -> int:
        """Number of items with a row here."""
        return sum(bits.bit_count() for bits in self.done.values())
