"""The map of chunks (p2pcap.node.chunk_map), made out of the ledger when a front end asks for it.

It is made for all who ask, and made anew only when the one before has paid for itself: of a core it never takes more
than SHARE, however many chunks there are and however often somebody asks.

Always holds: the event loop is given back after every STRETCH chunks, so a large project delays nobody. A map may mix
moments of the ledger that are milliseconds apart.
"""

import heapq
import time
from collections.abc import Collection, Generator, Iterable, Iterator

import trio

from p2pcap.identity import peer_id_of
from p2pcap.ledger.claims import Held
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.node.chunk_map import (
    BEGUN,
    CHECKED,
    CLAIMED,
    DONE,
    FAILED,
    FAILED_SHARE,
    FREE,
    MAX_CLAIMS,
    ChunkClaim,
    ChunkMap,
    StageChunks,
)

SHARE = 0.008
"""Of a core's time; the rest of what a front end may cost is for snapshots."""

FRESH = 2.0
"""Seconds for which a map is not made anew, whatever it cost."""

STRETCH = 1_000
"""Chunks, or results, that are looked at without a pause: about a millisecond."""

Place = tuple[bytes, int]
"""Task id and chunk."""


class Charting:
    """Maps of one ledger, for the node whose key is `me`."""

    def __init__(self, ledger: Ledger, me: bytes) -> None:
        self.ledger = ledger
        self._me = me
        self._made: ChunkMap | None = None
        self._again = 0.0
        self._making = trio.Lock()

    async def look(self, now: float) -> ChunkMap:
        """The map, at local time `now` or somewhat earlier."""
        async with self._making:
            if self._made is None or trio.current_time() >= self._again:
                self._made, spent = await _made(chart(self.ledger, self._me, now))
                self._again = trio.current_time() + max(FRESH, spent / SHARE)
            return self._made


async def _made(steps: Generator[None, None, ChunkMap]) -> tuple[ChunkMap, float]:
    """The map, and the seconds it took, without those of the pauses."""
    spent = 0.0
    while True:
        before = time.perf_counter()
        try:
            next(steps)
        except StopIteration as end:
            return end.value, spent + time.perf_counter() - before
        spent += time.perf_counter() - before
        await trio.lowlevel.checkpoint()


def chart(ledger: Ledger, me: bytes, now: float) -> Generator[None, None, ChunkMap]:
    """The map at local time `now`, for the node whose key is `me`; it is ready for a pause where it yields."""
    live = list(ledger.claims.live(now))
    claimed = {(held.tid, chunk) for _, held in live for chunk in held.slices}
    checked = yield from _checked(ledger)
    stages = []
    for stage in ledger.project.stages:
        letters = yield from _letters(ledger.work_of(stage), claimed, checked)
        stages.append(StageChunks(stage.name, letters))
    first = heapq.nsmallest(MAX_CLAIMS, _places(ledger, live, me), key=lambda place: place[:3])
    claims = tuple(_claim(ledger, now, mine, chunk, author, held) for mine, chunk, author, held in first)
    return ChunkMap(now, tuple(stages), claims, sum(len(held.slices) for _, held in live))


def _letters(work: Work, claimed: Collection[Place], checked: Collection[Place]) -> Generator[None, None, str]:
    letters: list[str] = []
    for first in range(0, work.chunks, STRETCH):
        last = min(first + STRETCH, work.chunks)
        letters += [_letter(work, chunk, claimed, checked) for chunk in range(first, last)]
        yield
    return "".join(letters)


def _letter(work: Work, chunk: int, claimed: Collection[Place], checked: Collection[Place]) -> str:
    place, rows = (work.tid, chunk), work.rows
    if rows.lacks(chunk):
        return CLAIMED if place in claimed else BEGUN if chunk in rows.done else FREE
    done, answered = rows.done.get(chunk, 0), rows.answered(chunk)
    if done != answered and (done & ~answered).bit_count() * FAILED_SHARE >= rows.size(chunk):
        return FAILED
    return CHECKED if place in checked else DONE


def _checked(ledger: Ledger) -> Generator[None, None, set[Place]]:
    """Where a verifier found something right."""
    found: set[Place] = set()
    for number, id_ in enumerate(ledger.verdicts.passed(), start=1):
        if id_ in ledger.results:
            _, result = ledger.results[id_]
            found.add((result.tid, result.chunk))
        if number % STRETCH == 0:
            yield
    return found


def _places(ledger: Ledger, live: Iterable[tuple[bytes, Held]], me: bytes) -> Iterator[tuple[bool, int, bytes, Held]]:
    """Whether it is another's, chunk, author and claim, of stages there are: in the order in which they are named."""
    asked = {stage.task.tid for stage in ledger.project.stages}
    for author, held in live:
        if held.tid in asked:
            yield from ((author != me, chunk, author, held) for chunk in held.slices)


def _claim(ledger: Ledger, now: float, others: bool, chunk: int, author: bytes, held: Held) -> ChunkClaim:
    work = ledger.works[held.tid]
    done = work.by_author.get((author, chunk), 0)
    stage = next(stage for stage in ledger.project.stages if stage.task.tid == held.tid)
    return ChunkClaim(
        stage=stage.name,
        chunk=chunk,
        author=peer_id_of(author),
        name=ledger.name_of(author),
        mine=not others,
        expires=held.expires,
        done=done.bit_count(),
        images=work.size(chunk),
        idle=held.idle(now, proven=done != 0),
    )
