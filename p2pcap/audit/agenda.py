"""What is to be checked, in its order: the most urgent first, authors in turn, of each the newest result first.

Pure: time is passed in. Always holds: no author's results keep another's waiting for more than one turn, however many
they are; and what waits is bounded: of too much the oldest of whoever has most goes, the least urgent first.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal, get_args

Why = Literal["accused", "quarantined", "suspicious", "first", "waiting", "duplicate", "sampled"]
"""accused: somebody says that these items are bad; quarantined: all of the author's results wait for it; suspicious: it
is odd (p2pcap.audit.plausibility); first: of its author, in its task; waiting: it counts only once an item was found
right; duplicate: another result covers the items too; sampled: drawn by chance."""

URGENCY: tuple[Why, ...] = get_args(Why)

MOST = 16_384
"""Results that wait, in all."""


@dataclass(frozen=True)
class Pick:
    """Items of a result that are to be checked, as bits from its offset on. `tries` were in vain so far."""

    id: bytes
    author: bytes
    items: int
    why: Why
    tries: int = 0


class Agenda:
    """The picks of one task."""

    def __init__(self) -> None:
        self._queues: dict[Why, OrderedDict[bytes, OrderedDict[bytes, Pick]]] = {why: OrderedDict() for why in URGENCY}
        self._where: dict[bytes, tuple[Why, bytes]] = {}
        self._in_hand: set[bytes] = set()
        self._resting: OrderedDict[bytes, tuple[float, Pick]] = OrderedDict()

    def __len__(self) -> int:
        """How many results wait."""
        return len(self._where) + len(self._resting)

    @property
    def due(self) -> bool:
        """Whether something is being checked, or could be."""
        return bool(self._where or self._in_hand)

    def put(self, pick: Pick) -> None:
        """Have these items checked too. Of two picks of one result the items are joined, and the more urgent reason
        counts."""
        held = self._take(pick.id) or self._resting.pop(pick.id, (0.0, None))[1]
        if held is not None:
            why = min(held.why, pick.why, key=URGENCY.index)
            pick = replace(pick, items=pick.items | held.items, why=why, tries=max(pick.tries, held.tries))
        self._queues[pick.why].setdefault(pick.author, OrderedDict())[pick.id] = pick
        self._where[pick.id] = pick.why, pick.author
        if len(self) > MOST:
            self._make_room()

    def rest(self, pick: Pick, until: float) -> None:
        """It cannot be checked now: put it back at `until`."""
        self._resting[pick.id] = (until, pick)

    def next(self, now: float) -> Pick | None:
        """The next result to check. It is in hand until `done` is told."""
        for id_ in [id_ for id_, (until, _) in self._resting.items() if until <= now]:
            self.put(self._resting.pop(id_)[1])
        for queue in self._queues.values():
            if queue:
                author, picks = queue.popitem(last=False)
                _, pick = picks.popitem()
                del self._where[pick.id]
                self._in_hand.add(pick.id)
                if picks:
                    queue[author] = picks
                return pick
        return None

    def done(self, pick: Pick) -> None:
        """It is in hand no more."""
        self._in_hand.discard(pick.id)

    def wakes(self) -> float | None:
        """When the next one that rests is due."""
        return min((until for until, _ in self._resting.values()), default=None)

    def _take(self, id_: bytes) -> Pick | None:
        if id_ not in self._where:
            return None
        why, author = self._where.pop(id_)
        picks = self._queues[why][author]
        pick = picks.pop(id_)
        if not picks:
            del self._queues[why][author]
        return pick

    def _make_room(self) -> None:
        for why in reversed(URGENCY):
            if queue := self._queues[why]:
                author = max(queue, key=lambda one: len(queue[one]))
                self._take(next(iter(queue[author])))
                return
        self._resting.popitem(last=False)
