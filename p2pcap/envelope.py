"""The signed envelope around every statement.

`[1, type, payload, author, signature]` as DAG-CBOR. The exact payload bytes are what is signed, stored and served; they
are never re-encoded. A statement's id leaves the signature out, so a second valid signature makes no second statement.

Always holds: an `Envelope` that came from `open_envelope` has the right shape and sizes. Its signature is another,
dearer question, asked by `Envelope.holds`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from p2pcap.codec import MAX_STATEMENT, decode_plain, encode
from p2pcap.errors import CodecError
from p2pcap.identity import Identity, verify

VERSION = 1
OVERHEAD = 128
"""Bytes an envelope may add to its payload: array, version, type, key, signature."""

MAX_ROOT = 1_500
"""Bytes of a root's payload: it holds the keys of every role."""

MAX_FORK = 2 * (MAX_ROOT + OVERHEAD) + 128
"""Bytes of a fork's payload: two statements, and what names them."""

LIMITS: Mapping[str, int] = {
    "root": MAX_ROOT,
    "fork": MAX_FORK,
    **dict.fromkeys(
        ("manifest", "stamp", "grant", "claim", "result", "profile", "verdict", "ban", "void", "redact", "checkpoint"),
        MAX_STATEMENT,
    ),
}
"""Every type of statement, with the bytes its payload may have."""

MAX_ENVELOPE = MAX_FORK + OVERHEAD
"""Bytes of the largest statement."""


@dataclass(frozen=True)
class Envelope:
    """One signed statement: `kind` (see LIMITS), payload bytes, the author's public key and the signature."""

    kind: str
    payload: bytes
    author: bytes
    signature: bytes

    @cached_property
    def id(self) -> bytes:
        """32 bytes that name the statement, the same for every valid signature over it."""
        head = b"p2pcap-id/1\0" + self.kind.encode() + b"\0"
        return hashlib.sha256(head + self.author + self.payload).digest()

    @cached_property
    def payload_hash(self) -> bytes:
        """SHA-256 of the payload: how roots, manifests and checkpoints are named by others."""
        return hashlib.sha256(self.payload).digest()

    @cached_property
    def data(self) -> bytes:
        """The envelope's bytes, as stored and sent."""
        return encode([VERSION, self.kind, self.payload, self.author, self.signature])

    def holds(self) -> bool:
        """Whether the signature is the author's."""
        return verify(self.author, self.kind, self.payload, self.signature)


def seal(identity: Identity, kind: str, record: Any) -> Envelope:
    """`record` signed by `identity` as a statement of `kind`."""
    payload = encode(record)
    return Envelope(kind, payload, identity.public, identity.sign(kind, payload))


def open_envelope(data: bytes) -> Envelope:
    """The envelope in `data`. Raises CodecError when it is none, or is over its type's limit; checks no signature."""
    plain = decode_plain(data, MAX_ENVELOPE)
    if not isinstance(plain, list) or len(plain) != 5 or plain[0] != VERSION or isinstance(plain[0], bool):
        raise CodecError("The bytes are no p2pcap statement of a version this program knows.")
    _, kind, payload, author, signature = plain
    if not isinstance(kind, str) or kind not in LIMITS:
        raise CodecError("The statement is of a type this program does not know.")
    if not (isinstance(payload, bytes) and isinstance(author, bytes) and isinstance(signature, bytes)):
        raise CodecError("The statement's parts are not byte strings.")
    if len(author) != 32 or len(signature) != 64 or len(payload) > LIMITS[kind]:
        raise CodecError("The statement's key, signature or payload has a wrong size.")
    return Envelope(kind, payload, author, signature)
