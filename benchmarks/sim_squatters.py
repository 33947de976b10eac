"""Those who claim and never deliver."""

import random

from benchmarks.sim_project import work_of
from p2pcap.ledger.records import MAX_CLAIMED, Claim, ClaimedChunk
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import slices_in


class Squat:
    """The author `me` holds as many chunks as a claim may name, as long as claims let it, and states the longest time.

    It takes chunks that nobody holds and replaces those that get done. When its claim no longer counts it keeps silent
    until that is forgotten, which is the soonest that another may count.
    """

    def __init__(self, ledger: Ledger, me: bytes, rng: random.Random) -> None:
        self._work = work_of(ledger)
        self._me = me
        self._rng = rng
        self._chunks: list[int] = []
        self._nonce = 0

    def claim(self, now: float) -> Claim | None:
        """What it says now, if it says anything."""
        held = self._work.claims.of(self._me)
        if held is not None and held.expires <= now and not held.is_over(now):
            self._chunks.clear()
            return None
        self._choose()
        self._nonce += 1
        return Claim(self._work.m, self._work.tid, tuple(map(self._whole, self._chunks)), self._nonce, int(now), 600)

    def _choose(self) -> None:
        work = self._work
        self._chunks = [chunk for chunk in self._chunks if work.missing(chunk)]
        for _ in range(4 * MAX_CLAIMED if work.unfinished else 0):
            chunk = self._rng.choice(work.unfinished)
            if len(self._chunks) < MAX_CLAIMED and chunk not in self._chunks and not work.claims_on(chunk):
                self._chunks.append(chunk)

    def _whole(self, chunk: int) -> ClaimedChunk:
        slices = slices_in(self._work.size(chunk))
        return ClaimedChunk(chunk, ((1 << slices) - 1).to_bytes(-(-slices // 8), "little"))
