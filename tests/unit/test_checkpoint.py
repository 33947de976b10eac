"""Checkpoints: what they seal, in which order they are taken, and that their blobs are what their hashes say."""

import hashlib
import random
from dataclasses import replace

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger import checkpoint as module
from p2pcap.ledger.checkpoint import (
    EVERY_SECONDS,
    SETTLE,
    Seal,
    Seals,
    coverage_blob,
    open_coverage,
    open_segment,
    open_tiers,
    segments,
    tiers_blob,
)
from p2pcap.ledger.records import Profile
from p2pcap.ledger.rulings import Void
from p2pcap.ledger.sealing import derived, is_due, make, seal_of, sealable
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Verdict, validate
from tests.makers import ADA, BOB, COORDINATOR, NOW, ledger_of, make_project, make_result

MADE = make_project((128, 100))
PROJECT = MADE.project
LATER = NOW + SETTLE
BEACON = b"b" * 32


def held(ledger: Ledger, chunk: int, first: int, author: Identity = ADA, nonce: int = 1, time: int = NOW) -> Envelope:
    """A result of ten rows, held here with its body."""
    rows = [MADE.row(chunk, first + index) for index in range(10)]
    result, _ = make_result(PROJECT, chunk, rows, nonce=nonce, time=time)
    envelope = seal(author, "result", result)
    ledger.add(envelope, result)
    ledger.complete(envelope.id, author.public, result, 0)
    return envelope


def taken(ledger: Ledger, now: float = LATER) -> list[bytes]:
    """Make the next checkpoint over everything that can be sealed, and take it; returns the ids it seals."""
    made = make(ledger, sealable(ledger, now), BEACON, now)
    envelope = seal(COORDINATOR, "checkpoint", made.record)
    assert validate(ledger, envelope.data, now).verdict is Verdict.ACCEPT
    ledger.add(envelope, made.record)
    ledger.seal(made.record, seal_of(made.record, envelope.payload_hash, {}), made.ids)
    return made.ids


def test_what_is_sealed() -> None:
    ledger = ledger_of(PROJECT, ADA)
    sealed = held(ledger, 0, 0)
    void = Void(PROJECT.m, (b"x" * 32,), "", (), NOW)
    ruling = seal(COORDINATOR, "void", void)
    ledger.add(ruling, void)
    profile = Profile(PROJECT.m, "Ada", "", NOW)
    ledger.add(seal(ADA, "profile", profile), profile)
    bare, _ = make_result(PROJECT, 0, [MADE.row(0, 50)])
    ledger.add(seal(ADA, "result", bare), bare)
    fresh = held(ledger, 0, 64, time=NOW + 1)
    assert {id_ for _, id_ in sealable(ledger, LATER)} == {sealed.id, ruling.id}
    assert set(taken(ledger)) == {sealed.id, ruling.id}
    assert [id_ for _, id_ in sealable(ledger, LATER + 1)] == [fresh.id]


def test_a_chain_counts_and_links() -> None:
    ledger = ledger_of(PROJECT, ADA)
    held(ledger, 0, 0)
    taken(ledger)
    first = ledger.checkpoints[1]
    held(ledger, 0, 64)
    held(ledger, 1, 0)
    taken(ledger)
    last = ledger.last_checkpoint
    assert last is not None
    assert (last.number, last.prev, last.statements, last.captions) == (2, first.payload_hash, 3, 30)
    assert ledger.seals.head_hash == ledger.checkpoints[2].payload_hash
    assert {ledger.seals.by_id[id_] for id_ in ledger.results} == {1, 2}


def test_another_node_derives_the_segment_from_what_it_holds() -> None:
    one, other, less, more = (ledger_of(PROJECT, ADA, BOB) for _ in range(4))
    for ledger in (one, other, more):
        held(ledger, 0, 0)
        held(ledger, 0, 64, BOB)
    held(less, 0, 0)
    held(more, 1, 0)
    made = make(one, sealable(one, LATER), BEACON, LATER)
    (segment,) = made.record.segments
    assert derived(other, segment) == made.ids
    assert derived(less, segment) is None
    assert derived(more, segment) is None
    waiting, _ = make_result(PROJECT, 1, [MADE.row(1, 0)])
    other.add(seal(ADA, "result", waiting), waiting)
    assert derived(other, segment) == made.ids, "a header whose body nobody has yet is in no segment"


def test_when_one_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_of(PROJECT, ADA)
    assert not is_due(ledger, [], LATER)
    held(ledger, 0, 0)
    keys = sealable(ledger, LATER)
    assert not is_due(ledger, keys, LATER)
    assert not is_due(ledger, keys, NOW + EVERY_SECONDS - 1)
    assert is_due(ledger, keys, NOW + EVERY_SECONDS)
    monkeypatch.setattr("p2pcap.ledger.sealing.EVERY_CAPTIONS", 10)
    assert is_due(ledger, keys, LATER)


def test_one_is_due_when_every_image_has_its_row_and_then_once_a_minute() -> None:
    made = make_project((64,))
    ledger = ledger_of(made.project, ADA, BOB)
    for author, first in ((ADA, 0), (ADA, 32), (BOB, 0)):
        if author is BOB:
            assert is_due(ledger, sealable(ledger, LATER), LATER)
            record = make(ledger, sealable(ledger, LATER), BEACON, LATER).record
            ledger.seal(record, seal_of(record, b"h" * 32, {}), [id_ for _, id_ in sealable(ledger, LATER)])
        rows = [made.error(0, first + index) for index in range(32)]
        result, _ = make_result(made.project, 0, rows)
        envelope = seal(author, "result", result)
        ledger.add(envelope, result)
        ledger.complete(envelope.id, author.public, result, result.items)
        if first == 0 and author is ADA:
            assert not is_due(ledger, sealable(ledger, LATER), LATER)
    assert not is_due(ledger, sealable(ledger, LATER), LATER + SETTLE - 1)
    assert is_due(ledger, sealable(ledger, LATER), LATER + SETTLE)


def test_seals_come_one_after_the_other_and_never_change() -> None:
    seals = Seals()
    with pytest.raises(ValueError, match="does not follow"):
        seals.take(Seal(2, b"h" * 32, BEACON, {}), [])
    seals.take(Seal(1, b"h" * 32, BEACON, {ADA.public: 2}), [b"1" * 32])
    seals.take(Seal(2, b"i" * 32, BEACON, {}), [b"1" * 32, b"2" * 32])
    assert [seals.by_id[id_ * 32] for id_ in (b"1", b"2")] == [1, 2]
    assert seals.tier(ADA.public) == 0
    first = seals.of(b"1" * 32)
    assert first is not None
    assert first.tiers == {ADA.public: 2}
    assert first.tie(b"1" * 32) == hashlib.sha256(BEACON + b"1" * 32).digest()


@given(st.integers(0, 40), st.integers(1, 9))
def test_segments_cut_what_is_sealed_in_runs(count: int, size: int) -> None:
    keys = [(NOW + number, hashlib.sha256(b"%d" % number).digest()) for number in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_IDS", size)
        parts = segments(keys)
    assert len(parts) == min(module.MAX_SEGMENTS, -(-count // size))
    ids = [id_ for segment, data in parts for id_ in open_segment(data, segment)]
    assert ids == [id_ for _, id_ in keys[: module.MAX_SEGMENTS * size]]


def test_a_changed_segment_is_refused() -> None:
    ((segment, data),) = segments([(NOW, b"1" * 32), (NOW, b"2" * 32)])
    for wrong in (data[:-1], data + b"\0", data[::-1] + b"", bytes(64), b""):
        if wrong != data:
            with pytest.raises(UntrustedError):
                open_segment(wrong, segment)


# coverage

TASKS = [bytes([number]) * 8 for number in range(3)]
SLICES = [(0, (1 << 64) - 1), (0, ((1 << 64) - 1) << 64), (1, (1 << 64) - 1), (1, ((1 << 36) - 1) << 64)]
MORE = (*PROJECT.counts, *PROJECT.counts[:1] * 3)


def some_slices(rng: random.Random) -> dict[int, int]:
    covered: dict[int, int] = {}
    for chunk, items in rng.sample(SLICES, rng.randint(0, 4)):
        covered[chunk] = covered.get(chunk, 0) | items
    return covered


def compressed(maps: object) -> bytes:
    return zstandard.ZstdCompressor().compress(encode(maps))


@given(st.integers(), st.lists(st.sampled_from(TASKS), unique=True))
def test_coverage_holds_whole_slices_of_each_task(seed: int, tasks: list[bytes]) -> None:
    rng = random.Random(seed)
    covered = {tid: some_slices(rng) for tid in tasks}
    partly = {tid: {at: bits | 1 << rng.randrange(100) for at, bits in of.items()} for tid, of in covered.items()}
    assert open_coverage(coverage_blob(covered, PROJECT.counts), PROJECT.counts) == covered
    again = open_coverage(coverage_blob(partly, PROJECT.counts), PROJECT.counts)
    assert again.keys() == covered.keys()
    assert all(again[tid][at] & bits == bits for tid, of in covered.items() for at, bits in of.items())
    assert coverage_blob(dict(reversed(covered.items())), PROJECT.counts) == coverage_blob(covered, PROJECT.counts)


@given(st.integers())
def test_a_map_made_before_there_were_more_chunks_covers_nothing_of_them(seed: int) -> None:
    covered = {TASKS[0]: some_slices(random.Random(seed))}
    assert open_coverage(coverage_blob(covered, PROJECT.counts), MORE) == covered


def test_a_map_of_more_chunks_than_are_known_is_refused() -> None:
    covered = {TASKS[0]: {len(MORE) - 1: (1 << 128) - 1}}
    assert open_coverage(coverage_blob(covered, MORE), MORE) == covered
    with pytest.raises(UntrustedError, match="more slices than the project"):
        open_coverage(coverage_blob(covered, MORE), PROJECT.counts)


def test_the_maps_of_as_many_tasks_as_there_may_be_are_read() -> None:
    tids = [number.to_bytes(8, "big") for number in range(module.MAX_TASKS)]
    covered = {tid: dict(SLICES) for tid in tids}
    assert open_coverage(coverage_blob(covered, PROJECT.counts), PROJECT.counts) == covered


HOSTILE_MAPS = {
    "noise": b"noise",
    "nothing": b"",
    "a megabyte of nothing": zstandard.ZstdCompressor().compress(bytes(1_000_000)),
    "bare bits": zstandard.ZstdCompressor().compress(b"\xff"),
    "a map of no task": compressed([[b"", b"\xff"]]),
    "a task without a map": compressed([[TASKS[0]]]),
    "numbers": compressed([[TASKS[0], 1]]),
    "a map that is too long": compressed([[TASKS[0], b"\xff" * 2]]),
    "too many tasks": compressed([[number.to_bytes(8, "big"), b""] for number in range(module.MAX_TASKS + 1)]),
    "a size that is not said": zstandard.ZstdCompressor(write_content_size=False).compress(encode([])),
    "something behind it": compressed([]) + b"\0",
}


@pytest.mark.parametrize("data", HOSTILE_MAPS.values(), ids=HOSTILE_MAPS.keys())
def test_what_is_no_coverage_of_this_project_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError):
        open_coverage(data, PROJECT.counts)


def test_bits_behind_the_last_slice_cover_nothing() -> None:
    data = compressed([[TASKS[0], b"\xff"]])
    assert open_coverage(data, PROJECT.counts) == {TASKS[0]: {0: 2**128 - 1, 1: 2**100 - 1}}


def test_tiers_are_in_order_and_above_zero() -> None:
    tiers = {BOB.public: 1, ADA.public: 2}
    assert open_tiers(tiers_blob({**tiers, COORDINATOR.public: 0})) == tiers
    twice = sorted(tiers.items())[:1] * 2
    for wrong in (sorted(tiers.items(), reverse=True), twice, [(ADA.public, 0)], [(ADA.public, 3)], [(b"", 1)]):
        with pytest.raises(UntrustedError):
            open_tiers(encode(wrong))


def test_a_checkpoint_fits_a_statement() -> None:
    ledger = ledger_of(PROJECT, ADA)
    held(ledger, 0, 0)
    record = make(ledger, sealable(ledger, LATER), BEACON, LATER).record
    full = msgspec.structs.replace(record, segments=record.segments * module.MAX_SEGMENTS, number=2**31 - 1)
    envelope = seal(COORDINATOR, "checkpoint", full)
    assert len(envelope.payload) <= 1_024
    assert replace(envelope, signature=bytes(64)).id == envelope.id
