"""Which statements the next checkpoint seals, when one is due, and what it says. Pure; the beacon is passed in.

Sealed are grants, results whose body is held here, and rulings, in the order of time and id, once they are SETTLE
seconds old; a result together with its author's grant or after it, so that no grant that is still to come can take the
author of what is sealed away. What replaces one another (profiles, stamps, forks) and checkpoints are not sealed.
"""

from dataclasses import dataclass

from p2pcap.ledger.checkpoint import (
    EVERY_CAPTIONS,
    EVERY_SECONDS,
    MAX_SEGMENTS,
    SEGMENT_IDS,
    SETTLE,
    Blob,
    Checkpoint,
    Seal,
    Segment,
    blob_of,
    coverage_blob,
    segments,
    tiers_blob,
)
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.tiers import tiers

Key = tuple[int, bytes]
"""Time and id."""


@dataclass(frozen=True)
class Sealed:
    """A checkpoint to be signed, the blobs it names, by hash, and the ids it seals."""

    record: Checkpoint
    blobs: dict[bytes, bytes]
    ids: list[bytes]


def sealable(ledger: Ledger, now: float) -> list[Key]:
    """What the next checkpoint may seal, ascending."""
    return [(time, id_) for time, id_ in ledger.unsealed() if time <= now - SETTLE and _is_whole(ledger, (time, id_))]


def _is_whole(ledger: Ledger, key: Key) -> bool:
    """A result needs its body and its author's grant, and must not wait for a check; whatever else is unsealed is
    complete as it is."""
    time, id_ = key
    author, result = ledger.results.get(id_, (b"", None))
    if result is None:
        return True
    here = ledger.held(id_) is not None and ledger.members.was_admitted(author, time)
    return here and not ledger.verdicts.is_quarantined(author) and not ledger.trust.waits(id_)


def is_due(ledger: Ledger, keys: list[Key], now: float) -> bool:
    """Whether to make a checkpoint of `keys` now: enough captions, enough time, or every image has its row."""
    captions = sum(ledger.results[id_][1].items.bit_count() for _, id_ in keys if id_ in ledger.results)
    if not captions:
        return False
    first = next(time for time, id_ in keys if id_ in ledger.results)
    last = ledger.last_checkpoint.time if ledger.last_checkpoint else first
    wait = SETTLE if ledger.finished and ledger.last_checkpoint else 0 if ledger.finished else EVERY_SECONDS
    return captions >= EVERY_CAPTIONS or now >= last + wait


def make(ledger: Ledger, keys: list[Key], beacon: bytes, now: float) -> Sealed:
    """The next checkpoint over `keys`; those that do not fit wait for the one after it."""
    keys = keys[: MAX_SEGMENTS * SEGMENT_IDS]
    parts = segments(keys)
    last = ledger.last_checkpoint
    results = [ledger.results[id_][1] for _, id_ in keys if id_ in ledger.results]
    coverage = coverage_blob(_covered(ledger, keys), ledger.project.counts)
    standing = tiers_blob(tiers(ledger, int(now)))
    record = Checkpoint(
        m=ledger.project.m,
        number=ledger.seals.head + 1,
        prev=ledger.seals.head_hash,
        segments=tuple(segment for segment, _ in parts),
        coverage=blob_of(coverage),
        tiers=blob_of(standing),
        beacon=beacon,
        statements=(last.statements if last else 0) + len(keys),
        captions=(last.captions if last else 0) + sum(result.items.bit_count() for result in results),
        time=int(now),
    )
    blobs = {record.coverage.hash: coverage, record.tiers.hash: standing} | {part.hash: data for part, data in parts}
    return Sealed(record, blobs, [id_ for _, id_ in keys])


def _covered(ledger: Ledger, keys: list[Key]) -> dict[bytes, dict[int, int]]:
    """Items of results that are sealed, or will be with `keys`, and count, by task and chunk."""
    covered: dict[bytes, dict[int, int]] = {}
    for id_ in (*ledger.seals.by_id, *(id_ for _, id_ in keys)):
        held = ledger.held(id_)
        if held is not None and (counted := ledger.counted(id_, held.author)):
            result = ledger.results[id_][1]
            chunks = covered.setdefault(result.tid, {})
            chunks[result.chunk] = chunks.get(result.chunk, 0) | held.items & ~held.errors & counted << held.offset
    return covered


def derived(ledger: Ledger, segment: Segment) -> list[bytes] | None:
    """The ids in `segment`, worked out from what is held here; None when what is held is something else."""
    keys = [key for key in ledger.unsealed() if segment.first <= key[0] <= segment.last]
    for guess in ([id_ for _, id_ in keys], [key[1] for key in keys if _is_whole(ledger, key)]):
        if len(guess) == segment.count and blob_of(b"".join(guess)).hash == segment.hash:
            return guess
    return None


def seal_of(checkpoint: Checkpoint, payload_hash: bytes, tiers: dict[bytes, int]) -> Seal:
    """A checkpoint as it bears on ranks."""
    return Seal(checkpoint.number, payload_hash, checkpoint.beacon, tiers)


NOBODY: Blob = blob_of(tiers_blob({}))
"""The table of tiers while nobody is above tier 0: not worth asking anybody for."""
