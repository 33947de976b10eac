"""What is to be checked, in its order: the most urgent first, authors in turn, of each the newest result first.

Pure: time is passed in. Always holds: no author's results keep another's waiting for more than one turn, however many
they are; an item that is in hand to be checked is not handed out a second time; and what waits is bounded: of too much
the oldest of whoever has most goes, the least urgent first.
"""

import heapq
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
    """Items of a result that are to be checked, as bits from its offset on; those of `shared` only where another
    author's result says something else. `tries` were in vain so far."""

    id: bytes
    author: bytes
    items: int
    why: Why
    tries: int = 0
    shared: int = 0

    def joined(self, other: "Pick") -> "Pick":
        """This one and another one of the same result; the more urgent reason counts."""
        why = min(self.why, other.why, key=URGENCY.index)
        items, shared = self.items | other.items, self.shared | other.shared
        return replace(self, items=items, why=why, tries=max(self.tries, other.tries), shared=shared & ~items)


class Agenda:
    """The picks of one task."""

    def __init__(self) -> None:
        self._queues: dict[Why, OrderedDict[bytes, OrderedDict[bytes, Pick]]] = {why: OrderedDict() for why in URGENCY}
        self._where: dict[bytes, tuple[Why, bytes]] = {}
        self._resting: dict[bytes, tuple[float, Pick]] = {}
        self._wakes: list[tuple[float, bytes]] = []
        self._in_hand: dict[bytes, list[Pick]] = {}

    def __len__(self) -> int:
        """How many results wait."""
        return len(self._where) + len(self._resting)

    @property
    def due(self) -> bool:
        """Whether something is being checked, or could be."""
        return bool(self._where or self._in_hand)

    def put(self, pick: Pick) -> None:
        """Have these items checked too, but for those in hand. Of two picks of one result the items are joined, and the
        more urgent reason counts."""
        for held in self._in_hand.get(pick.id, ()):  # what is only compared may go unchecked
            pick = replace(pick, items=pick.items & ~held.items, shared=pick.shared & ~(held.items | held.shared))
        if not pick.items | pick.shared:
            return
        if (waiting := self._take(pick.id)) is not None:
            pick = pick.joined(waiting)
        self._queues[pick.why].setdefault(pick.author, OrderedDict())[pick.id] = pick
        self._where[pick.id] = pick.why, pick.author
        self._make_room()

    def rest(self, pick: Pick, until: float) -> None:
        """Have these items checked at `until`; at once together with others of that result that are more urgent."""
        held = self._take(pick.id)
        if held is not None:
            if URGENCY.index(held.why) < URGENCY.index(pick.why):
                self.put(held)
                self.put(pick)
                return
            pick = pick.joined(held)
        self._resting[pick.id] = until, pick
        heapq.heappush(self._wakes, (until, pick.id))
        self._make_room()

    def drop(self, author: bytes, why: Why) -> None:
        """Nothing of this author is to be checked for that reason any more."""
        for id_ in self._queues[why].pop(author, ()):
            del self._where[id_]
        for id_, (_, pick) in list(self._resting.items()):
            if (pick.author, pick.why) == (author, why):
                del self._resting[id_]

    def next(self, now: float) -> Pick | None:
        """The next result to check. It is in hand until `done` is told."""
        while (wakes := self.wakes()) is not None and wakes <= now:
            self.put(self._resting.pop(self._wakes[0][1])[1])
        for queue in self._queues.values():
            if queue:
                author, picks = queue.popitem(last=False)
                _, pick = picks.popitem()
                del self._where[pick.id]
                self._in_hand.setdefault(pick.id, []).append(pick)
                if picks:
                    queue[author] = picks
                return pick
        return None

    def done(self, pick: Pick) -> None:
        """It is in hand no more."""
        if left := [held for held in self._in_hand.get(pick.id, ()) if held is not pick]:
            self._in_hand[pick.id] = left
        else:
            self._in_hand.pop(pick.id, None)

    def wakes(self) -> float | None:
        """When the next one that rests is due."""
        while self._wakes and self._resting.get(self._wakes[0][1], (None,))[0] != self._wakes[0][0]:
            heapq.heappop(self._wakes)  # it was taken up before its time, or rests longer
        return self._wakes[0][0] if self._wakes else None

    def _take(self, id_: bytes) -> Pick | None:
        """A pick out of the agenda, wherever it is."""
        if id_ in self._resting:
            return self._resting.pop(id_)[1]
        if id_ not in self._where:
            return None
        why, author = self._where.pop(id_)
        picks = self._queues[why][author]
        pick = picks.pop(id_)
        if not picks:
            del self._queues[why][author]
        return pick

    def _make_room(self) -> None:
        while len(self) > MOST:
            waiting = next((queue for why in reversed(URGENCY) if (queue := self._queues[why])), None)
            if waiting is None:
                self._take(next(iter(self._resting)))
            else:
                self._take(next(iter(waiting[max(waiting, key=lambda author: len(waiting[author]))])))
