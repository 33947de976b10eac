"""Which work to claim next: a pure function of what a node knows.

While chunks are free, a random free chunk, then the ones after it in order; never the lowest first, which would send
every node to the same place. Each claim takes no more than a share of what is free. When a look finds none free, it
takes slices: those that nobody who still delivers has claimed, else slices from the back of the chunk whose claimant
is expected to need longest.

Always holds: what a look costs is bounded by its sample, not by the size of the project.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2pcap.ledger.claims import SETTLE, Held, tie_break
from p2pcap.ledger.work import Work
from p2pcap.project.records import SLICE

TRIES = 32
"""Chunks drawn at random until one is free. With one chunk in ten free, one look in thirty finds none."""

SAMPLE = 16
"""Chunks a first look for slices considers."""

OFFERS = 4
"""Claimants among whom it chooses the one to take from: enough to find one that will need long."""


@dataclass(frozen=True)
class Pick:
    """Slices of a chunk to claim, as bits. `known` has the claims on the chunk that were known when they were picked:
    for each author, when it last named more of the chunk.

    `shared` says that others may pick them at the same moment, so their work begins only when claims have settled.
    """

    chunk: int
    slices: int
    known: Mapping[bytes, float]
    shared: bool


@dataclass(frozen=True)
class Look:
    """Who looks for work and when: the author, its claimed chunks in order with the slices that it still means to do,
    the seconds of work that these hold, the seconds it needs for a slice, and chunks to leave alone for now."""

    me: bytes
    mine: Mapping[int, int]
    rest: float
    seconds: float
    now: float
    avoid: Collection[int] = ()


# whole chunks


def next_chunks(work: Work, look: Look, images: int, workers: int, rng: random.Random) -> list[Pick]:
    """Free chunks to add to one's claim: enough for `images` more images, at least one if one is found.

    `workers` is how many engines share the project, this one included.
    """
    free = max(0, len(work.unfinished) - work.claimed(look.me))
    most = min(work.most_claimed(look.me) - len(look.mine), max(1, free // (2 * max(1, workers))))
    last = next(reversed(look.mine), None) if look.mine else None
    chosen: list[Pick] = []
    while len(chosen) < most and images > 0:
        chunk = _after(work, look, last, chosen)
        if chunk is None:
            chunk = _anywhere(work, look, chosen, rng)
        if chunk is None:
            break
        items = work.open_items(chunk, look.now, look.me)
        chosen.append(Pick(chunk, slices_of(items), _known(work, look.me, chunk), shared=False))
        images -= items.bit_count()
        last = chunk
    return chosen


def _after(work: Work, look: Look, last: int | None, chosen: Sequence[Pick]) -> int | None:
    """The chunk after the last one, if it is free: images of one folder lie together."""
    if last is None or last + 1 >= work.chunks:
        return None
    return last + 1 if _is_free(work, look, last + 1, chosen) else None


def _anywhere(work: Work, look: Look, chosen: Sequence[Pick], rng: random.Random) -> int | None:
    unfinished = work.unfinished
    if len(unfinished) <= TRIES:
        drawn: Sequence[int] = rng.sample(unfinished, len(unfinished))
    else:
        drawn = [unfinished[rng.randrange(len(unfinished))] for _ in range(TRIES)]
    return next((chunk for chunk in drawn if _is_free(work, look, chunk, chosen)), None)


def _is_free(work: Work, look: Look, chunk: int, chosen: Sequence[Pick]) -> bool:
    """Open items, and no other author's live claim."""
    if chunk in look.mine or chunk in look.avoid or any(pick.chunk == chunk for pick in chosen):
        return False
    if any(held.expires > look.now for author, held in work.claims_on(chunk, look.me).items() if author != look.me):
        return False
    return work.open_items(chunk, look.now, look.me) != 0


# slices


def next_slices(work: Work, look: Look, sample: int, rng: random.Random) -> Pick | None:
    """Slices to take of chunks that others have claimed: what nobody who delivers means to do, else a part of what is
    expected to be done last. Considers up to `sample` random chunks, all when there are no more; None if they offer
    nothing.
    """
    unfinished = work.unfinished
    offers: list[tuple[float, Pick]] = []
    for chunk in rng.sample(unfinished, min(sample, len(unfinished))):
        if chunk in look.avoid or (chunk not in look.mine and len(look.mine) >= work.most_claimed(look.me)):
            continue
        left = _left(work, look, chunk)
        claims = _active(work, look.me, chunk, look.now) if left else {}
        nobodys = left
        for held in claims.values():
            nobodys &= ~held.slices[chunk]
        if nobodys:
            return Pick(chunk, nobodys, _known(work, look.me, chunk), shared=True)
        offers.extend(_offers(work, look, chunk, claims, left))
        if len(offers) >= OFFERS:
            break
    if not offers:
        return None
    return rng.choices([pick for _, pick in offers], weights=[rest for rest, _ in offers])[0]


def _left(work: Work, look: Look, chunk: int) -> int:
    """The slices of `chunk` that miss items and are not claimed by the one who looks."""
    return slices_of(work.open_items(chunk, look.now, look.me)) & ~look.mine.get(chunk, 0)


def _offers(
    work: Work, look: Look, chunk: int, claims: Mapping[bytes, Held], left: int
) -> Iterator[tuple[float, Pick]]:
    """What could be taken from each claimant of `chunk`, with the seconds that it is expected to need for all it has.

    The rest is split so that both would end together; the slice a claimant is at stays with it.
    """
    for author, slices in _shares(chunk, claims, left).items():
        held = claims[author]
        if look.now < held.grown[chunk] + SETTLE:
            continue
        slices, count = _unstarted(work, look, held, chunk, slices)
        if not slices:
            continue
        full = _fullness(work.open_items(chunk, look.now, look.me))
        seconds = held.seconds * full
        rest = count * seconds - min(seconds, look.now - held.progress)
        taken = _back(slices, int((rest - look.rest) / (look.seconds * full + seconds)))
        if taken:
            yield rest, Pick(chunk, taken, _known(work, look.me, chunk), shared=True)


def _fullness(items: int) -> float:
    """How full the slices of these open items are: 1 when nothing of them is done, 1/64 when each misses one item."""
    return items.bit_count() / SLICE / max(1, slices_of(items).bit_count())


def _shares(chunk: int, claims: Mapping[bytes, Held], left: int) -> dict[bytes, int]:
    """The slices `left` of `chunk` by who is to do them: of several claims on one, that which came last took it."""
    shares: dict[bytes, int] = {}
    for author, held in sorted(claims.items(), key=lambda claim: (claim[1].grown[chunk], claim[0]), reverse=True):
        shares[author] = held.slices[chunk] & left
        left &= ~shares[author]
    return shares


def _unstarted(work: Work, look: Look, held: Held, chunk: int, slices: int) -> tuple[int, int]:
    """Those of `slices` that the claimant has not begun, as it works from the front of its first chunk; and how many
    slices it has in all its chunks, about: what others took of its other chunks is not taken off."""
    count = 0
    for number in held.slices:
        if number == chunk:
            count += slices.bit_count()
            if count == slices.bit_count():
                slices &= slices - 1
            if not slices:
                break
        else:
            count += (held.slices[number] & _left(work, look, number)).bit_count()
    return slices, count


def _active(work: Work, me: bytes, chunk: int, now: float) -> dict[bytes, Held]:
    """Other authors' claims on `chunk` that are live and whose authors are not overdue."""
    return {
        author: held
        for author, held in work.claims_on(chunk, me).items()
        if author != me and not _is_idle(work, author, held, chunk, now) and held.expires > now
    }


def _is_idle(work: Work, author: bytes, held: Held, chunk: int, now: float) -> bool:
    return held.idle(now, proven=(author, chunk) in work.by_author)


def _back(slices: int, count: int) -> int:
    """The last `count` of the slices, as bits."""
    taken = 0
    while slices and count > 0:
        last = 1 << (slices.bit_length() - 1)
        taken, slices, count = taken | last, slices & ~last, count - 1
    return taken


def _known(work: Work, me: bytes, chunk: int) -> dict[bytes, float]:
    return {author: held.grown[chunk] for author, held in work.claims_on(chunk, me).items()}


# giving way


def yielded(
    work: Work, me: bytes, chunk: int, slices: int, claimed: float, known: Mapping[bytes, float], now: float
) -> int:
    """Those of my slices of `chunk`, not begun, that I leave to others, as bits.

    They were claimed at `claimed`, in knowledge of the claims `known` (see Pick). A claim that came over SETTLE seconds
    later was made in knowledge of mine: its author takes the slices over. Of claims that crossed one wins: that of the
    author who has items done in the chunk, else the one with the lower tie-break.
    """
    gone = 0
    for author, held in work.claims_on(chunk, me).items():
        if author == me or not held.slices[chunk] & slices or held.grown[chunk] == known.get(author):
            continue
        if held.expires <= now or _is_idle(work, author, held, chunk, now):
            continue
        if held.grown[chunk] > claimed + SETTLE or _beats(work, chunk, author, me):
            gone |= held.slices[chunk] & slices
    return gone


def _beats(work: Work, chunk: int, other: bytes, me: bytes) -> bool:
    theirs = work.by_author.get((other, chunk), 0) != 0
    ours = work.by_author.get((me, chunk), 0) != 0
    if theirs != ours:
        return theirs
    return tie_break(work.m, chunk, other) < tie_break(work.m, chunk, me)


# slices and items


def slices_of(items: int) -> int:
    """The slices in which `items` lie, both as bits of their chunk."""
    slices, first = 0, 0
    while items:
        skipped = ((items & -items).bit_length() - 1) // SLICE
        first += skipped
        slices |= 1 << first
        items >>= (skipped + 1) * SLICE
        first += 1
    return slices


def items_of(index: int) -> int:
    """The items of slice `index`, as bits of the chunk."""
    return ((1 << SLICE) - 1) << index * SLICE
