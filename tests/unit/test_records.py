"""The largest record of each kind still fits a statement, and the limits are the protocol's."""

import pytest

from p2pcap.codec import MAX_STATEMENT, decode, encode
from p2pcap.identity import Identity
from p2pcap.ledger.records import MAX_CLAIMED, MAX_RAW, Claim, ClaimedChunk, Grant, Result
from p2pcap.project.opened import MAX_ROOT
from p2pcap.project.records import MAX_CHUNK, MAX_CHUNKS, MAX_IMAGE, Manifest, Role, Roles, Root
from p2pcap.project.task import Record
from p2pcap.project.ticket import Invite

KEY, MOST = b"\xff" * 32, 2**53 - 1
M = b"\xff" * 8

LARGEST = [
    Grant(M, KEY, "\U0001f4a5" * 32, MOST, Invite(KEY, MOST, KEY, bytes(64)), bytes(64)),
    Claim(M, M, (ClaimedChunk(MAX_CHUNKS - 1, b"\xff" * 32),) * MAX_CLAIMED, MOST, MOST, 600),
    Result(M, M, MAX_CHUNKS - 1, MAX_CHUNK - 1, 64, M, KEY, MAX_RAW, MAX_RAW, 2**31 - 1, M, MOST, MOST),
    Manifest(M, 2**31 - 1, MOST, MOST, KEY, MOST),
]


@pytest.mark.parametrize("record", LARGEST, ids=lambda record: type(record).__name__)
def test_the_largest_record_fits_a_statement(record: Record) -> None:
    assert decode(encode(record), type(record)) == record
    assert len(encode(record)) <= MAX_STATEMENT


def test_a_root_of_many_keys_fits() -> None:
    keys = tuple(Identity.from_seed(bytes([number]) * 32).public for number in range(32))
    every = Role(tuple(range(16)), 1)
    root = Root("\U0001f4a5" * 32, 2**31 - 1, MOST, MOST, keys, Roles(every, every))
    assert len(encode(root)) <= MAX_ROOT


def test_a_result_knows_its_items() -> None:
    result = Result(M, M, 3, 128, 64, bytes([0b101, 0, 0, 0, 0, 0, 0, 0x80]), KEY, 1, 1, 0, M, 0, 0)
    assert result.items == 1 << 128 | 1 << 130 | 1 << 191


def test_the_limits() -> None:
    assert (MAX_CHUNK, MAX_CHUNKS, MAX_IMAGE, MAX_RAW, MAX_CLAIMED) == (16_384, 1_000_000, 64 << 20, 1 << 20, 8)
