"""Who is admitted: the grants that stay in the set, of which each invitation bears only so many.

Everybody who holds a ticket can sign grants with its key, as many as he likes and nobody is asked before. So that all
nodes end up with the same ones, the grants by one invitation are ordered: by the number of the checkpoint that seals
them, those that none seals last, and then by their ids. The first `uses` authors in this order are in; every other
grant is dropped, and may come back only when a checkpoint seals it.

A place that was taken stays taken when its author or the ticket is banned. If it came free, a grant that was dropped
would be wanted again, and nobody has it any more.

Always holds: what is kept does not depend on the order in which grants and checkpoints came; of an invitation at most
`uses` grants are kept, one an author.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from p2pcap.project import records
from p2pcap.project.ticket import MAX_USES

MAX_AUTHORS = MAX_USES
"""Authors that come in by one way."""

UNSEALED = 2**31
"""Stands behind every checkpoint's number."""


@dataclass(frozen=True)
class Way:
    """How an author came in. `mode` "invite": by `ticket`, a key that `signer` invited for `uses` authors until
    `expires`; "allowlist": `signer`, a coordinator, admitted it; "open": it solved the puzzle."""

    mode: records.Admission
    signer: bytes = b""
    ticket: bytes = b""
    uses: int = MAX_AUTHORS
    expires: int = 0


@dataclass(frozen=True)
class Admitted:
    """A grant: the statement's id and time (unix seconds), the author it admits, and how."""

    id: bytes
    time: int
    author: bytes
    way: Way


@dataclass(frozen=True)
class Taken:
    """What became of a grant: whether it was `kept`, and which one it displaced."""

    kept: bool
    displaced: Admitted | None = None


Place = tuple[int, bytes]
"""Number of the checkpoint that seals the grant, or UNSEALED; and its id. The lower one comes first."""


class _Door:
    """The grants by one way: `places` ascending, and each author's."""

    def __init__(self, uses: int) -> None:
        self.uses = uses
        self.places: list[Place] = []
        self.by_author: dict[bytes, Place] = {}

    def behind(self, author: bytes, place: Place) -> Place | Literal["full"] | None:
        """The place that a grant would take over: its author's own, or the last one. None: a free one. Or "full"."""
        held = self.by_author.get(author)
        if held is None and len(self.places) >= self.uses:
            held = self.places[-1]
        return "full" if held is not None and held <= place else held

    def put(self, author: bytes, place: Place) -> None:
        insort(self.places, place)
        self.by_author[author] = place

    def remove(self, author: bytes, place: Place) -> None:
        del self.places[bisect_left(self.places, place)]
        del self.by_author[author]


class Admission:
    """The grants that are kept. One owner: the ledger."""

    def __init__(self) -> None:
        self._doors: dict[Way, _Door] = {}
        self._held: dict[bytes, tuple[Admitted, int]] = {}
        self._by_author: dict[bytes, dict[bytes, None]] = {}
        self._by_ticket: dict[bytes, dict[Way, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._held

    def __iter__(self) -> Iterator[tuple[Admitted, int]]:
        """Every grant that is kept, with the number of the checkpoint that seals it, or UNSEALED."""
        return iter(self._held.values())

    def of(self, author: bytes) -> Iterator[tuple[Admitted, int]]:
        """The author's grants, each with the number of the checkpoint that seals it, or UNSEALED."""
        return (self._held[id_] for id_ in self._by_author.get(author, ()))

    def by_ticket(self, ticket: bytes) -> Iterator[tuple[Admitted, int]]:
        """The grants that a ticket's key signed."""
        places = (place for way in self._by_ticket.get(ticket, ()) for place in self._doors[way].places)
        return (self._held[id_] for _, id_ in places)

    def named(self, ids: Iterable[bytes]) -> list[tuple[Admitted, int]]:
        """Those of these statements that are grants and kept."""
        return [self._held[id_] for id_ in ids if id_ in self._held]

    def used(self, way: Way) -> int:
        """How many authors came in this way."""
        door = self._doors.get(way)
        return len(door.places) if door is not None else 0

    def would_keep(self, grant: Admitted, number: int = UNSEALED) -> bool:
        """Whether `take` would keep this grant."""
        door = self._doors.get(grant.way)
        return door is None or door.behind(grant.author, (number, grant.id)) != "full"

    def take(self, grant: Admitted, number: int = UNSEALED) -> Taken:
        """A valid grant, which checkpoint `number` seals. One that is kept already is not kept anew."""
        door = self._doors.setdefault(grant.way, _Door(grant.way.uses))
        place = (number, grant.id)
        behind = door.behind(grant.author, place)
        if grant.id in self._held or behind == "full":
            return Taken(False)
        displaced = self._drop(door, behind[1]) if behind is not None else None
        door.put(grant.author, place)
        self._held[grant.id] = (grant, number)
        self._by_author.setdefault(grant.author, {})[grant.id] = None
        if grant.way.ticket:
            self._by_ticket.setdefault(grant.way.ticket, {})[grant.way] = None
        return Taken(True, displaced)

    def seal(self, number: int, ids: Iterable[bytes]) -> set[bytes]:
        """The next checkpoint seals these statements. Returns the authors whose grants are among them."""
        authors = set()
        for id_ in ids:
            held = self._held.get(id_)
            if held is not None and held[1] == UNSEALED:
                self._move(held[0], number)
                authors.add(held[0].author)
        return authors

    def _move(self, grant: Admitted, number: int) -> None:
        door = self._doors[grant.way]
        door.remove(grant.author, (UNSEALED, grant.id))
        door.put(grant.author, (number, grant.id))
        self._held[grant.id] = (grant, number)

    def _drop(self, door: _Door, id_: bytes) -> Admitted:
        grant, number = self._held.pop(id_)
        door.remove(grant.author, (number, id_))
        ids = self._by_author[grant.author]
        del ids[id_]
        if not ids:
            del self._by_author[grant.author]
        return grant
