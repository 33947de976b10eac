"""The largest record of each kind still fits a statement, and the limits are the protocol's."""

import pytest

from p2pcap.codec import MAX_BLOB, MAX_STATEMENT, decode, encode
from p2pcap.envelope import MAX_FORK, MAX_ROOT, Envelope
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import MAX_SEGMENTS, SEGMENT_IDS, Blob, Checkpoint, Segment, Stamp
from p2pcap.ledger.fork import fork_of
from p2pcap.ledger.records import MAX_CLAIMED, MAX_RAW, Claim, ClaimedChunk, Grant, Profile, Result
from p2pcap.ledger.rulings import MAX_VOIDED, Ban, Finding, Redact, Void
from p2pcap.project.items import MAX_IMAGE
from p2pcap.project.record import Record
from p2pcap.project.records import MAX_CHUNK, MAX_CHUNKS, Manifest, Role, Roles, Root
from p2pcap.project.ticket import Invite

KEY, MOST = b"\xff" * 32, 2**53 - 1
M = b"\xff" * 8
WIDE = "\U0001f4a5"
BLOB = Blob(KEY, MAX_BLOB)
SEGMENT = Segment(KEY, SEGMENT_IDS, MOST, MOST)

LARGEST = [
    Grant(M, KEY, WIDE * 32, MOST, Invite(KEY, MOST, KEY, bytes(64)), bytes(64)),
    Claim(M, M, (ClaimedChunk(MAX_CHUNKS - 1, b"\xff" * 32),) * MAX_CLAIMED, MOST, MOST, 600),
    Result(M, M, MAX_CHUNKS - 1, MAX_CHUNK - 1, 64, M, KEY, MAX_RAW, MAX_RAW, 2**31 - 1, M, MOST, MOST, KEY),
    Manifest(M, 2**31 - 1, MOST, MOST, KEY, MOST),
    Profile(M, WIDE * 32, WIDE * 128, MOST),
    Finding(M, KEY, M, "differs", "m" * 32, bytes(256), MOST),
    Ban(M, KEY, 2**31 - 1, 2**31 - 1, "unsealed", WIDE * 128, (KEY,) * 4, MOST),
    Void(M, (KEY,) * MAX_VOIDED, WIDE * 128, (KEY,) * 4, MOST),
    Redact(M, MAX_CHUNKS - 1, MAX_CHUNK - 1, 64, M, WIDE * 128, MOST),
    Checkpoint(M, 2**31 - 1, KEY, (SEGMENT,) * MAX_SEGMENTS, BLOB, BLOB, KEY, MOST, MOST, MOST),
    Stamp(M, MOST, 2**31 - 1, 2**31 - 1, KEY, 2**31 - 1, KEY, MOST, MOST),
]


@pytest.mark.parametrize("record", LARGEST, ids=lambda record: type(record).__name__)
def test_the_largest_record_fits_a_statement(record: Record) -> None:
    assert decode(encode(record), type(record)) == record
    assert len(encode(record)) <= MAX_STATEMENT


def test_a_root_of_many_keys_fits() -> None:
    keys = tuple(Identity.from_seed(bytes([number]) * 32).public for number in range(32))
    every = Role(tuple(range(16)), 1)
    root = Root(WIDE * 32, 2**31 - 1, MOST, MOST, keys, Roles(every, every, every, every))
    assert len(encode(root)) <= MAX_ROOT


def test_a_fork_of_the_largest_statements_fits() -> None:
    one, other = (Envelope("checkpoint", bytes([n]) * MAX_STATEMENT, KEY, bytes(64)) for n in (1, 2))
    assert len(encode(fork_of(one, other, 2**31 - 1, M, MOST))) <= MAX_FORK


def test_a_result_knows_its_items() -> None:
    result = Result(M, M, 3, 128, 64, bytes([0b101, 0, 0, 0, 0, 0, 0, 0x80]), KEY, 1, 1, 0, M, 0, 0)
    assert result.items == 1 << 128 | 1 << 130 | 1 << 191


def test_the_limits() -> None:
    assert (MAX_CHUNK, MAX_CHUNKS, MAX_IMAGE, MAX_RAW, MAX_CLAIMED) == (16_384, 1_000_000, 64 << 20, 1 << 20, 8)
