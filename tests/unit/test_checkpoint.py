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


@given(st.integers())
def test_coverage_holds_whole_slices(seed: int) -> None:
    rng = random.Random(seed)
    slices = [(0, (1 << 64) - 1), (0, ((1 << 64) - 1) << 64), (1, (1 << 64) - 1), (1, ((1 << 36) - 1) << 64)]
    chosen = rng.sample(slices, rng.randint(0, 4))
    covered: dict[int, int] = {}
    for chunk, items in chosen:
        covered[chunk] = covered.get(chunk, 0) | items
    partly = {chunk: items | 1 << rng.randrange(100) for chunk, items in covered.items()}
    assert open_coverage(coverage_blob(covered, PROJECT.chunks), PROJECT.chunks) == covered
    again = open_coverage(coverage_blob(partly, PROJECT.chunks), PROJECT.chunks)
    assert all(again[chunk] | items == again[chunk] for chunk, items in covered.items())


@pytest.mark.parametrize("length", [0, 2, 1_000_000])
def test_a_coverage_map_of_another_size_is_refused(length: int) -> None:
    with pytest.raises(UntrustedError):
        open_coverage(zstandard.ZstdCompressor().compress(bytes(length)), PROJECT.chunks)


def test_noise_is_no_coverage_map() -> None:
    with pytest.raises(UntrustedError):
        open_coverage(b"noise", PROJECT.chunks)


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
