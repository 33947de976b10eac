"""The puzzle that admits strangers to an open project: a second of one core and 16 MiB, paid once a key.

Memory bounds how many can be worked on side by side, so a graphics card helps little (Argon2id, RFC 9106). Two steps:
nonces are tried until Argon2id over project, key and nonce ends in ZEROS zero bits, and then SHA-256 over that answer
and a second number is made to end in STAMP_ZEROS. Whoever checks looks at the hash first: who sends bad answers in
masses has to find a new hash for each, at the cost of about what Argon2id costs here.

Always holds: a check takes one Argon2id at most, and none when the hash is wrong.
"""

import hashlib
from itertools import count
from typing import Annotated

import msgspec
from nacl.pwhash import argon2id

from p2pcap.project.record import Record

OPERATIONS, MEMORY = 2, 16 * 1024 * 1024
"""Argon2id's passes and bytes: 15 ms on one core of 2020. Part of the protocol, as are the numbers of zero bits."""

ZEROS, STAMP_ZEROS = 6, 17
"""64 runs of Argon2id and 131,072 hashes on average: about a second, and a sixth of one."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Tag = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Solution(Record, frozen=True):
    """The nonce, Argon2id's answer for it, and the number that makes the hash end in zeros."""

    nonce: Number
    tag: Tag
    stamp: Number


def solve(m: bytes, key: bytes) -> Solution:
    """A solution for the author `key` in the project with prefix `m`."""
    for nonce in count():
        tag = _tag(m, key, nonce)
        if _ends_in_zeros(tag, ZEROS):
            break
    stamp = next(number for number in count() if _ends_in_zeros(_hash(m, key, tag, number), STAMP_ZEROS))
    return Solution(nonce, tag, stamp)


def is_stamped(solution: Solution, m: bytes, key: bytes) -> bool:
    """The cheap half of the check: whether the hash over the answer ends in zeros, and so does the answer."""
    stamped = _hash(m, key, solution.tag, solution.stamp)
    return _ends_in_zeros(stamped, STAMP_ZEROS) and _ends_in_zeros(solution.tag, ZEROS)


def is_solved(solution: Solution, m: bytes, key: bytes) -> bool:
    """The dear half: whether the answer is Argon2id's."""
    return _tag(m, key, solution.nonce) == solution.tag


def _tag(m: bytes, key: bytes, nonce: int) -> bytes:
    salt = hashlib.sha256(b"p2pcap-puzzle/1\0" + m + key).digest()[: argon2id.SALTBYTES]
    return argon2id.kdf(16, m + key + nonce.to_bytes(8, "big"), salt, opslimit=OPERATIONS, memlimit=MEMORY)


def _hash(m: bytes, key: bytes, tag: bytes, number: int) -> bytes:
    return hashlib.sha256(b"p2pcap-puzzle-stamp/1\0" + m + key + tag + number.to_bytes(8, "big")).digest()


def _ends_in_zeros(data: bytes, bits: int) -> bool:
    return int.from_bytes(data[-8:], "big") & ((1 << bits) - 1) == 0
