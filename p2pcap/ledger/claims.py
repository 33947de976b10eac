"""Live claims: who is working on what, and until when it counts.

Claims are hints: they steer volunteers apart and are forgotten; results are what counts. One author has one live claim,
its newest; it names all the chunks the author means to do.

Always holds: a claim whose author shows no progress for its lease is no longer live, whatever it says.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from p2pcap.ledger.records import Claim

MIN_LEASE = 30.0
LEASE_SLICES = 3
"""A lease is the longer of MIN_LEASE seconds and the stated time of LEASE_SLICES slices (docs/protocol.md, Claims)."""

MAX_LEASE = 600.0
"""Seconds without progress after which no statement keeps a claim alive."""


@dataclass
class Held:
    """A live claim: the statement and its envelope's bytes, when it came, when its author last had progress, and the
    chunks the author has named since then."""

    claim: Claim
    data: bytes
    renewed: float
    progress: float
    named: frozenset[int]

    @property
    def expires(self) -> float:
        """The local time at which it stops counting: renewing prolongs it, but not for ever without progress."""
        lease = max(MIN_LEASE, LEASE_SLICES * float(self.claim.seconds))
        return min(max(self.renewed, self.progress) + lease, self.progress + MAX_LEASE)

    def slices(self, chunk: int) -> int:
        """The slices of `chunk` it names, as bits."""
        for claimed in self.claim.chunks:
            if claimed.chunk == chunk:
                return int.from_bytes(claimed.slices, "little")
        return 0


class Claims:
    """The newest claim of each author. Times are local unix seconds, given by the caller."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}

    def hold(self, author: bytes, claim: Claim, data: bytes, now: float) -> None:
        """Take in a valid claim. An empty one is kept too: it stops an older one from coming back.

        Naming a chunk again is no progress, also after it was given back; a claim on other chunks is a new start.
        """
        chunks = frozenset(claimed.chunk for claimed in claim.chunks)
        held = self._held.get(author)
        if held is None or (chunks and not chunks & held.named):
            self._held[author] = Held(claim, data, now, now, chunks | (held.named if held else chunks))
        else:
            self._held[author] = Held(claim, data, now, held.progress, chunks | held.named)

    def of(self, author: bytes) -> Held | None:
        """The author's newest claim, live or not."""
        return self._held.get(author)

    def progress(self, author: bytes, now: float) -> None:
        """The author published a result: its lease starts again."""
        held = self._held.get(author)
        if held is not None:
            held.progress = now
            held.named = frozenset(claimed.chunk for claimed in held.claim.chunks)

    def live(self, now: float) -> Iterator[tuple[bytes, Held]]:
        """Authors and claims that still count."""
        return ((author, held) for author, held in self._held.items() if held.expires > now)

    def chunks(self, now: float) -> dict[int, list[bytes]]:
        """Authors with a live claim, by chunk."""
        found: dict[int, list[bytes]] = {}
        for author, held in self.live(now):
            for claimed in held.claim.chunks:
                found.setdefault(claimed.chunk, []).append(author)
        return found

    def envelopes(self, now: float) -> list[bytes]:
        """The live, non-empty claims as bytes, for a node that joins."""
        return [held.data for _, held in self.live(now) if held.claim.chunks]

    def sweep(self, now: float) -> None:
        """Forget claims that expired more than MAX_LEASE ago."""
        for author in [a for a, held in self._held.items() if held.expires + MAX_LEASE < now]:
            del self._held[author]


def tie_break(m: bytes, chunk: int, author: bytes) -> bytes:
    """Of two claims without results on one chunk, the one whose author has the lower value wins."""
    return hashlib.sha256(m + chunk.to_bytes(4, "big") + author).digest()
