"""What rulings and checkpoints make of results: what the rows of each rank by.

Always holds: `Judged` is what is committed; `Judging` adds what one transaction changes, and leaves it alone until the
commit. The order in which rulings, seals and bodies come plays no part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from p2pcap.ledger.checkpoint import Seal, Seals
from p2pcap.ledger.checks import UNRULED, Ruled


@dataclass(frozen=True)
class Standing:
    """A row of the table `standing`, in its columns. `errors` are bits from the result's offset on, and so is what is
    made of it (p2pcap.ledger.checks.Ruled)."""

    no: int
    errors: int
    counted: int
    confirmed: int
    failed: int
    unsure: int
    sealed: int | None
    tier: int
    tie: bytes

    @property
    def ruled(self) -> Ruled:
        """What is made of the result."""
        return Ruled(self.counted, self.confirmed, self.failed, self.unsure)


@dataclass
class Judged:
    """Rulings by result, without those that hold of any, and the chain of checkpoints."""

    ruled: dict[bytes, Ruled] = field(default_factory=dict)
    seals: Seals = field(default_factory=Seals)


class Judging:
    """What one transaction adds: `ruled` by result, and `taken`, the next checkpoints with their ids."""

    def __init__(self, before: Judged) -> None:
        self._before = before
        self.ruled: dict[bytes, Ruled] = {}
        self.taken: list[tuple[Seal, list[bytes]]] = []
        self._sealed: dict[bytes, int] = {}

    def ruling(self, id_: bytes) -> Ruled:
        """What rulings make of a result."""
        return self.ruled.get(id_) or self._before.ruled.get(id_, UNRULED)

    def rule(self, id_: bytes, ruled: Ruled) -> bool:
        """From now on rulings make this of a result; False when they did before."""
        if self.ruling(id_) == ruled:
            return False
        self.ruled[id_] = ruled
        return True

    def take(self, seal: Seal, ids: Iterable[bytes]) -> list[bytes]:
        """The next checkpoint; returns the ids that no earlier one seals. One that was taken before changes nothing.
        Raises ValueError for one out of order."""
        if seal.number <= self._head:
            return []
        if seal.number != self._head + 1:
            raise ValueError(f"checkpoint {seal.number} does not follow number {self._head}")
        new = [id_ for id_ in dict.fromkeys(ids) if self._number(id_) is None]
        self.taken.append((seal, new))
        self._sealed.update(dict.fromkeys(new, seal.number))
        return new

    def standing(self, no: int, id_: bytes, author: bytes, errors: int) -> Standing:
        """What the rows of a result rank by."""
        ruled, number = self.ruling(id_), self._number(id_)
        if number is None:
            return Standing(no, errors, *ruled, None, self.tiers.get(author, 0), id_)
        seal = self._seal(number)
        assert seal is not None
        tier = seal.tiers.get(author, 0)
        return Standing(no, errors, *ruled, number, tier, seal.tie(id_))

    @property
    def tiers(self) -> Mapping[bytes, int]:
        """Tiers by author, by the newest checkpoint."""
        newest = self._seal(self._head)
        return newest.tiers if newest is not None else {}

    @property
    def moves_tiers(self) -> bool:
        """Whether some author has another tier by the newest checkpoint than before."""
        before = self._before.seals.chain
        return bool(self.taken) and self.taken[-1][0].tiers != (before[-1].tiers if before else {})

    def settle(self) -> None:
        """The transaction was committed."""
        for id_, ruled in self.ruled.items():
            if ruled == UNRULED:
                self._before.ruled.pop(id_, None)
            else:
                self._before.ruled[id_] = ruled
        for seal, ids in self.taken:
            self._before.seals.take(seal, ids)

    @property
    def _head(self) -> int:
        return self._before.seals.head + len(self.taken)

    def _number(self, id_: bytes) -> int | None:
        return self._before.seals.by_id.get(id_) or self._sealed.get(id_)

    def _seal(self, number: int) -> Seal | None:
        if number > self._before.seals.head:
            return self.taken[number - self._before.seals.head - 1][0]
        return self._before.seals.chain[number - 1] if number else None
