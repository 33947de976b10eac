"""What this node means to do: the slices it has claimed, in order, and when to claim more.

Pure: the caller brings the clock. The worker and the simulation of a thousand volunteers run this same code.

Always holds: the claim names exactly the slices that are on the agenda and not done; what another took over, or did
meanwhile, is dropped before its work begins and never after.
"""

import random
from collections.abc import Collection

from p2pcap.ledger.choose import SAMPLE, Look, Pick, items_of, next_chunks, next_slices, yielded
from p2pcap.ledger.claims import SETTLE
from p2pcap.ledger.records import MAX_CLAIMED, Claim, ClaimedChunk
from p2pcap.ledger.validate import slices_in
from p2pcap.ledger.work import Work
from p2pcap.project.records import SLICE
from p2pcap.worker.slices import Slice

AHEAD_SECONDS = 30.0
"""More is claimed when less than this many seconds of work remain (docs/protocol.md, Claims)."""

LOOK_EVERY, LOOK_AT_MOST = 3.0, 20.0
"""Seconds after a look that found no work until the next: twice as many each time, and varied at random, so that
volunteers with nothing to do do not all reach for the same slice at once."""

WIDER = 3
"""How often the sample of a look for slices is doubled while looks find nothing."""

SPARE = 3
"""Claims that others would still allow but that this node keeps back: they may reach others closer together than they
were made, and the one that gives everything back must not wait."""


class Agenda:
    """The claimed slices of the author `me`. Images are counted as `ahead` until they are captioned or dropped;
    `look_at` is when the next look for work is due after one that found none; `fullest` is how many images the fullest
    slice of the last pick has."""

    def __init__(self, work: Work, me: bytes, rng: random.Random) -> None:
        self._work = work
        self._me = me
        self._rng = rng
        self._waiting: list[Slice] = []
        self._loading: list[Slice] = []
        self._mine: dict[int, int] = {}
        self._aside: dict[int, float] = {}
        self._fruitless = 0
        self.look_at = 0.0
        self.ahead = 0
        self.fullest = SLICE

    @property
    def mine(self) -> list[int]:
        """The chunks of which slices are claimed and not done, in the order in which they were claimed."""
        return list(self._mine)

    # claiming

    def look(self, now: float, images: int, workers: int, seconds: float) -> list[int]:
        """Put work for `images` more images on the agenda, if some is found; returns the chunks it is from.

        `workers` is how many engines share the project, `seconds` what a slice takes here. The claim is to be said
        after that. Nothing is looked for while others would not allow a claim, nor too soon after a vain look.
        """
        self.drop_taken(now)
        if images <= 0 or now < self.look_at or not self._work.claims.may(self._me, now, SPARE):
            return []
        self._work.claims.sweep(now)
        self._aside = {chunk: until for chunk, until in self._aside.items() if until > now}
        look = Look(self._me, self._mine, self.ahead / SLICE * seconds, seconds, now, self._aside)
        picks = next_chunks(self._work, look, images, workers, self._rng)
        if not picks:
            found = next_slices(self._work, look, SAMPLE << min(self._fruitless, WIDER), self._rng)
            picks = [found] if found is not None else []
        self._pause(now, bool(picks))
        for pick in picks:
            self._add(pick, now)
        return [pick.chunk for pick in picks]

    def _pause(self, now: float, found: bool) -> None:
        if found:
            self._fruitless = 0
            return
        pause = min(LOOK_AT_MOST, LOOK_EVERY * 2.0 ** min(self._fruitless, 10))
        self.look_at = now + pause * self._rng.uniform(0.5, 1.5)
        self._fruitless += 1

    def _add(self, pick: Pick, now: float) -> None:
        count = self._work.size(pick.chunk)
        open_ = self._work.open_items(pick.chunk, now, self._me)
        ready = now + SETTLE if pick.shared else now
        self.fullest = 1
        for index in range(slices_in(count)):
            items = items_of(index) & open_ if pick.slices >> index & 1 else 0
            if items:
                span = min(SLICE, count - index * SLICE)
                self._put(Slice(pick.chunk, index * SLICE, span, items, now, pick.known, ready))

    def _put(self, piece: Slice) -> None:
        self._waiting.append(piece)
        self._mine[piece.chunk] = self._mine.get(piece.chunk, 0) | piece.bit
        self.ahead += piece.items.bit_count()
        self.fullest = max(self.fullest, piece.items.bit_count())

    def claim(self, now: float, seconds: float, nonce: int) -> Claim:
        """The statement of all that is on the agenda."""
        chunks = tuple(
            ClaimedChunk(chunk, bits.to_bytes(-(-slices_in(self._work.size(chunk)) // 8), "little"))
            for chunk, bits in list(self._mine.items())[:MAX_CLAIMED]
        )
        return Claim(self._work.m, self._work.tid, chunks, nonce, int(now), min(600, max(1, round(seconds))))

    # working

    def begin(self, now: float) -> Slice | None:
        """The next slice to work on, trimmed to what is still to be done; None when none may begin now."""
        for piece in [piece for piece in self._waiting if piece.ready <= now]:
            self._waiting.remove(piece)
            if self.trim(piece, now):
                self._loading.append(piece)
                return piece
            self.done(piece)
        return None

    def ready_at(self) -> float | None:
        """When the next slice may begin, if any waits."""
        return min((piece.ready for piece in self._waiting), default=None)

    def drop_taken(self, now: float) -> None:
        """Leave to others what they took over, and forget what they have done."""
        for chunk in {piece.chunk: None for piece in self._waiting}:
            self._drop_taken(chunk, now)

    def _drop_taken(self, chunk: int, now: float) -> None:
        pieces = [piece for piece in self._waiting if piece.chunk == chunk]
        open_ = self._work.open_items(chunk, now, self._me)
        alone = all(author == self._me for author in self._work.claims_on(chunk, self._me))
        if alone and not any(piece.items & ~open_ for piece in pieces):
            return  # nearly always
        gone: dict[float, int] = {}
        for piece in pieces:
            if piece.claimed not in gone:  # what was claimed together was claimed in the same knowledge
                gone[piece.claimed] = self._yielded(piece, self._mine[chunk], now)
            if not self._keep(piece, open_, gone[piece.claimed]):
                self._waiting.remove(piece)
                self.done(piece)

    def trim(self, piece: Slice, now: float) -> bool:
        """Drop of a slice that has not begun what others did or took over; whether anything is left."""
        open_ = self._work.open_items(piece.chunk, now, self._me)
        return self._keep(piece, open_, self._yielded(piece, piece.bit, now))

    def _yielded(self, piece: Slice, slices: int, now: float) -> int:
        return yielded(self._work, self._me, piece.chunk, slices, piece.claimed, piece.known, now)

    def _keep(self, piece: Slice, open_: int, gone: int) -> bool:
        keep = 0 if gone & piece.bit else piece.items & open_
        self.ahead -= (piece.items & ~keep).bit_count()
        piece.items = keep
        return keep != 0

    def captioned(self) -> None:
        """One of the images ahead has its row."""
        self.ahead -= 1

    def ahead_in(self, chunk: int) -> set[int]:
        """The items of the chunk that are on the agenda and whose images have not come yet."""
        pieces = (*self._loading, *self._waiting)
        return {index for piece in pieces if piece.chunk == chunk for index in piece.places}

    def loaded(self, piece: Slice) -> None:
        """The images of a slice have come, or are not to be had."""
        if piece in self._loading:
            self._loading.remove(piece)

    def leave(self, chunk: int, until: float) -> None:
        """Leave a chunk alone until then."""
        self._aside[chunk] = until

    def set_aside(self, piece: Slice, had: Collection[int], until: float) -> None:
        """Of a slice only the images `had` are to be had: the others, and the chunk, are left alone until then."""
        items = sum(1 << index for index in had)
        self.ahead -= (piece.items & ~items).bit_count()
        piece.items = items
        self.leave(piece.chunk, until)

    def done(self, piece: Slice) -> None:
        """The slice was published, or nothing of it is left."""
        bits = self._mine[piece.chunk] & ~piece.bit
        if bits:
            self._mine[piece.chunk] = bits
        else:
            del self._mine[piece.chunk]

    def clear(self) -> None:
        """Drop everything."""
        self._waiting.clear()
        self._loading.clear()
        self._mine.clear()
        self.ahead = 0
