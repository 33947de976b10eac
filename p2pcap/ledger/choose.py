"""Which chunks to claim next: a pure function of what a node knows.

A random free chunk, then the ones after it in order; never the lowest first, which would send every node to the same
place. A chunk is free when it has open items and no other author's live claim. Each claim takes no more than a share of
what is free, so the last chunks are split among all.
"""

import random
from collections.abc import Collection, Sequence

from p2pcap.ledger.claims import tie_break
from p2pcap.ledger.records import MAX_CLAIMED, ClaimedChunk
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import slices_in
from p2pcap.project.records import SLICE


def next_chunks(
    ledger: Ledger,
    me: bytes,
    mine: Sequence[int],
    images: int,
    workers: int,
    now: float,
    rng: random.Random,
    avoid: Collection[int] = (),
) -> list[int]:
    """Chunks to add to one's claim: enough for `images` more images, at least one if any is free.

    `mine` are the chunks claimed and not finished; `workers` is how many engines share the project, this one included;
    `avoid` are chunks to leave alone for now.
    """
    taken = {chunk for chunk, authors in ledger.claims.chunks(now).items() if set(authors) - {me}}
    closed = taken.union(mine, avoid)
    free = [c for c in range(len(ledger.project.chunks)) if c not in closed and ledger.open_items(c, now)]
    if not free:
        return []
    room = MAX_CLAIMED - len(mine)
    share = max(1, len(free) // (2 * max(1, workers)))
    chosen: list[int] = []
    for chunk in _in_order(free, mine, rng):
        if len(chosen) >= min(room, share) or images <= 0:
            break
        chosen.append(chunk)
        images -= ledger.open_items(chunk, now).bit_count()
    return chosen


def _in_order(free: Sequence[int], mine: Sequence[int], rng: random.Random) -> list[int]:
    start = mine[-1] + 1 if mine and mine[-1] + 1 in set(free) else rng.choice(free)
    place = free.index(start)
    return [*free[place:], *free[:place]]


def lost(ledger: Ledger, me: bytes, mine: Sequence[int], now: float) -> set[int]:
    """Those of `mine` that another author's live claim wins: who has items done there, else the lower tie-break."""
    claimed = ledger.claims.chunks(now)
    return {
        chunk
        for chunk in mine
        if any(_beats(ledger, chunk, other, me) for other in claimed.get(chunk, []) if other != me)
    }


def _beats(ledger: Ledger, chunk: int, other: bytes, me: bytes) -> bool:
    theirs = ledger.by_author.get((other, chunk), 0) != 0
    ours = ledger.by_author.get((me, chunk), 0) != 0
    if theirs != ours:
        return theirs
    return tie_break(ledger.project.m, chunk, other) < tie_break(ledger.project.m, chunk, me)


def claimed_chunk(ledger: Ledger, chunk: int) -> ClaimedChunk:
    """The statement's entry for `chunk`: its slices that still miss items here."""
    bits = sum(1 << index for index, items in enumerate(slice_items(ledger, chunk)) if items)
    length = max(1, -(-slices_in(ledger.project.chunks[chunk].count) // 8))
    return ClaimedChunk(chunk, bits.to_bytes(length, "little"))


def slice_items(ledger: Ledger, chunk: int) -> list[int]:
    """For each slice of `chunk`, the items still missing here, as bits of the chunk."""
    missing = ledger.missing(chunk)
    whole = (1 << SLICE) - 1
    return [missing & whole << index * SLICE for index in range(slices_in(ledger.project.chunks[chunk].count))]
