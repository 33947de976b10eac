"""Live claims: who is working on what, and until when it counts.

Claims are hints: they steer volunteers apart and are forgotten; results are what counts. One author has one live claim,
its newest; it names all the chunks, and of each the slices, that the author means to do.

Always holds: a claim whose author shows no progress for its lease is no longer live, whatever it says. An author who
never delivered anything gets one lease and no other until it has been silent for MAX_LEASE.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from p2pcap.ledger.records import Claim

MIN_LEASE = 30.0
LEASE_SLICES = 3
"""A lease is the longer of MIN_LEASE seconds and the stated time of LEASE_SLICES slices (docs/protocol.md, Claims)."""

MAX_LEASE = 600.0
"""Seconds without progress after which no statement keeps a claim alive."""

OVERDUE = 2.5
"""A claim is idle when its author had no progress for OVERDUE times what it says a slice takes."""

MIN_PATIENCE = 15.0
"""Seconds without progress in which no claim becomes idle: a slice of a second may wait longer for its images."""

UNPROVEN = 90.0
"""Seconds after which the claim of an author who never delivered anything is idle, whatever time it states."""

SETTLE = 5.0
"""Seconds in which two claims may have crossed: each author may have been unaware of the other's. It is more than two
gossip delays. Nobody takes from a claim that is younger, so a claim that comes later than that was made knowingly."""

BURST = 10
REFILL = 3.0
"""An author may make BURST claims at once and one more every REFILL seconds."""


@dataclass
class Held:
    """An author's newest claim: the statement and its envelope's bytes, when it came, its task, when its author last
    had progress, whether it ever had in this task, and what it has named since then. `slices` has the named slices of
    each chunk as bits; `grown` says when more of a chunk was named than before; `seconds` is what its author says a
    slice takes. Times are local."""

    claim: Claim
    data: bytes
    renewed: float
    progress: float
    tid: bytes
    seconds: float = 0.0
    slices: dict[int, int] = field(default_factory=dict)
    grown: dict[int, float] = field(default_factory=dict)
    named: dict[int, int] = field(default_factory=dict)
    delivered: bool = False
    tokens: float = float(BURST)

    @property
    def expires(self) -> float:
        """The local time at which it stops counting: renewing prolongs it, but not for ever without progress."""
        lease = max(MIN_LEASE, LEASE_SLICES * self.seconds)
        return min(max(self.renewed, self.progress) + lease, self.progress + MAX_LEASE)

    def is_over(self, now: float) -> bool:
        """Whether it expired, and its author has been silent since, so long that it plays no part any more."""
        return max(self.expires, self.renewed) + MAX_LEASE < now

    def idle(self, now: float, proven: bool) -> bool:
        """Whether its author should have delivered by now. `proven`: rows of it are known from elsewhere."""
        patience = max(MIN_PATIENCE, OVERDUE * self.seconds)
        if not (proven or self.delivered):
            patience = min(patience, UNPROVEN)
        return now > self.progress + patience

    def allowance(self, now: float) -> float:
        """How many claims its author may make now."""
        return min(float(BURST), self.tokens + max(0.0, now - self.renewed) / REFILL)


class Claims:
    """The newest claim of each author. Times are local unix seconds, given by the caller."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._on: dict[bytes, dict[int, dict[bytes, Held]]] = {}
        self._swept = 0.0

    def hold(self, author: bytes, claim: Claim, data: bytes, now: float) -> None:
        """Take in a valid claim. An empty one is kept too: it stops an older one from coming back.

        Naming a slice again is no progress, also after it was given back; a claim on nothing but other slices is a new
        start, for an author who has delivered before. So is another task, in which it has delivered nothing yet.
        """
        slices = _slices(claim)
        held = self._held.get(author)
        if held is None or held.is_over(now):
            self._drop(author)
            held = self._held[author] = Held(claim, data, now, now, claim.tid)
        elif held.delivered and slices and (claim.tid != held.tid or not _overlap(slices, held.named)):
            held.progress = now
        held.tokens = max(0.0, held.allowance(now) - 1)
        held.claim, held.data, held.renewed, held.seconds = claim, data, now, float(claim.seconds)
        self._name(author, held, claim.tid, slices, now)

    def _name(self, author: bytes, held: Held, tid: bytes, slices: dict[int, int], now: float) -> None:
        if tid != held.tid:
            self._forget(author, held)
            held.tid = tid
        for chunk in held.slices.keys() - slices.keys():
            self._off(tid, chunk, author)
        for chunk, bits in slices.items():
            if bits & ~held.slices.get(chunk, 0):
                held.grown[chunk] = now
            held.named[chunk] = held.named.get(chunk, 0) | bits
            self._on.setdefault(tid, {}).setdefault(chunk, {})[author] = held
        held.slices = slices
        held.grown = {chunk: held.grown[chunk] for chunk in slices}

    def _forget(self, author: bytes, held: Held) -> None:
        """What was named for another task says nothing about this one."""
        for chunk in held.slices:
            self._off(held.tid, chunk, author)
        held.slices, held.grown, held.named, held.delivered = {}, {}, {}, False

    def _off(self, tid: bytes, chunk: int, author: bytes) -> None:
        authors = self._on[tid][chunk]
        del authors[author]
        if not authors:
            del self._on[tid][chunk]

    def _drop(self, author: bytes) -> None:
        held = self._held.pop(author, None)
        if held is not None:
            self._forget(author, held)

    def may(self, author: bytes, now: float, spare: int = 0) -> bool:
        """Whether `author` may make a claim now and have `spare` left for later."""
        held = self._held.get(author)
        return held is None or held.allowance(now) >= 1 + spare

    def of(self, author: bytes) -> Held | None:
        """The author's newest claim, live or not."""
        return self._held.get(author)

    def progress(self, author: bytes, now: float) -> None:
        """The author delivered a result: its lease starts again."""
        held = self._held.get(author)
        if held is not None:
            held.progress = now
            held.delivered = True
            held.named = dict(held.slices)

    def on(self, tid: bytes, chunk: int) -> Mapping[bytes, Held]:
        """The newest claims that name `chunk` for the task `tid`, by author, live or not."""
        return self._on.get(tid, {}).get(chunk, {})

    def named(self, tid: bytes) -> int:
        """How many chunks claims for the task name, live or not."""
        return len(self._on.get(tid, {}))

    def chunks_of(self, tid: bytes, binds: Callable[[bytes], bool]) -> set[int]:
        """The chunks that claims for the task name, live or not, of those authors that `binds` tells."""
        authors = (held for author, held in self._held.items() if held.tid == tid and binds(author))
        return {chunk for held in authors for chunk in held.slices}

    def live(self, now: float) -> Iterator[tuple[bytes, Held]]:
        """Authors and claims that still count."""
        return ((author, held) for author, held in self._held.items() if held.expires > now)

    def chunks(self, now: float) -> dict[int, list[bytes]]:
        """Authors with a live claim, by chunk."""
        found: dict[int, list[bytes]] = {}
        for author, held in self.live(now):
            for chunk in held.slices:
                found.setdefault(chunk, []).append(author)
        return found

    def envelopes(self, now: float) -> list[bytes]:
        """The live, non-empty claims as bytes, for a node that joins."""
        return [held.data for _, held in self.live(now) if held.claim.chunks]

    def sweep(self, now: float) -> None:
        """Forget the claims that are over. It may be called often: it looks through them all once in MIN_LEASE."""
        if now < self._swept + MIN_LEASE:
            return
        self._swept = now
        for author in [a for a, held in self._held.items() if held.is_over(now)]:
            self._drop(author)


def _slices(claim: Claim) -> dict[int, int]:
    """The slices it names, as bits by chunk."""
    named: dict[int, int] = {}
    for claimed in claim.chunks:
        bits = int.from_bytes(claimed.slices, "little")
        if bits:
            named[claimed.chunk] = named.get(claimed.chunk, 0) | bits
    return named


def _overlap(one: Mapping[int, int], other: Mapping[int, int]) -> bool:
    return any(bits & other.get(chunk, 0) for chunk, bits in one.items())


def tie_break(m: bytes, chunk: int, author: bytes) -> bytes:
    """Of two claims without results on one chunk, the one whose author has the lower value wins."""
    return hashlib.sha256(m + chunk.to_bytes(4, "big") + author).digest()
