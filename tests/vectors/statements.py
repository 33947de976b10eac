"""The statements that the cases are made of, sound and spoilt. Keys and times are fixed, so all bytes are too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import Blob, Checkpoint, Segment, Stamp
from p2pcap.ledger.grants import grant_for
from p2pcap.ledger.records import Grant, Profile
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.project.ticket import invite
from tests.makers import (
    ADA,
    COORDINATOR,
    FOREVER,
    NOW,
    TICKET_KEY,
    claim_record,
    make_grant,
    make_project,
    make_result,
)

MADE = make_project((128, 100))
PROJECT = MADE.project
OTHER = make_project((128, 100), "Another").project
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's group."""

GRANT = make_grant(PROJECT, ADA, "Ada")
CLAIM = claim_record(PROJECT, {0: 0b11, 1: 0b10})
RESULT, _ = make_result(PROJECT, 1, [MADE.row(1, index) for index in range(64, 100)])
ADMITTED = (GRANT,)


@dataclass(frozen=True)
class Case:
    """`before` was accepted at NOW; `message` comes in at NOW + `later`."""

    name: str
    message: bytes
    verdict: str
    reason: str = "valid"
    before: Sequence[Envelope] = ()
    later: int = 0

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "now": NOW + self.later,
            "before": [envelope.data.hex() for envelope in self.before],
            "message": self.message.hex(),
            "verdict": self.verdict,
            "reason": self.reason,
        }


def grant(signer: Identity = TICKET_KEY, **fields: Any) -> Envelope:
    record = grant_for(ADA, PROJECT.m, "Ada", NOW, invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, FOREVER))
    changed = msgspec.structs.replace(record, **fields)
    if changed.invite is UNSET:
        return seal(signer, "grant", changed)
    again = grant_for(ADA, changed.m, changed.name, changed.time, changed.invite)
    return seal(signer, "grant", changed if {"wish", "key"} & set(fields) else again)


def grant_wish() -> bytes:
    """What Ada signed to be admitted as "Ada"."""
    wish = decode(grant().payload, Grant).wish
    assert wish is not UNSET
    return wish


def once(number: int) -> Envelope:
    """The grant with this number by a ticket for one author, for an author of its own."""
    author = Identity.from_seed(bytes([200 + number]) * 32)
    invitation = invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, FOREVER, 1)
    return seal(TICKET_KEY, "grant", grant_for(author, PROJECT.m, "", NOW, invitation))


BY_ID = sorted((once(number) for number in range(3)), key=lambda one: one.id)
"""Grants of which one may stay, the first before the others."""

RENAMED = sorted((grant(name=f"Ada {number}") for number in range(8)), key=lambda one: one.id)
EARLIER, LATER = RENAMED[0], RENAMED[-1]


def claim(author: Identity = ADA, **fields: Any) -> Envelope:
    return seal(author, "claim", msgspec.structs.replace(CLAIM, **fields))


def result(author: Identity = ADA, **fields: Any) -> Envelope:
    return seal(author, "result", msgspec.structs.replace(RESULT, **fields))


PROFILE = Profile(PROJECT.m, "Ada L.", "https://example.org/ada", NOW)
BAN = Ban(PROJECT.m, ADA.public, 1, 0, "unsealed", "wrong model", (), NOW)
VOID = Void(PROJECT.m, (b"b" * 32,), "", (), NOW)
REDACT = Redact(PROJECT.m, 1, 64, 36, b"\1" + bytes(7), "", NOW)
FINDING = Finding(PROJECT.m, seal(ADA, "result", RESULT).id, b"\1" + bytes(7), "bad", "scoring", b"", NOW)
EMPTY = Blob(bytes(32), 0)
SEGMENTS = (Segment(b"s" * 32, 2, NOW - 100, NOW - 60),)
CHECKPOINT = Checkpoint(PROJECT.m, 1, bytes(32), SEGMENTS, EMPTY, EMPTY, b"b" * 32, 2, 128, NOW)
STAMP = Stamp(PROJECT.m, 1, 1, 1, b"m" * 32, 0, bytes(32), NOW, NOW + 1_000)


def profile(author: Identity = ADA, **fields: Any) -> Envelope:
    return seal(author, "profile", msgspec.structs.replace(PROFILE, **fields))


def ban(signer: Identity = COORDINATOR, **fields: Any) -> Envelope:
    return seal(signer, "ban", msgspec.structs.replace(BAN, **fields))


def void(signer: Identity = COORDINATOR, **fields: Any) -> Envelope:
    return seal(signer, "void", msgspec.structs.replace(VOID, **fields))


def redact(signer: Identity = COORDINATOR, **fields: Any) -> Envelope:
    return seal(signer, "redact", msgspec.structs.replace(REDACT, **fields))


def verdict(signer: Identity = COORDINATOR, **fields: Any) -> Envelope:
    return seal(signer, "verdict", msgspec.structs.replace(FINDING, **fields))


def checkpoint(signer: Identity = COORDINATOR, **fields: Any) -> Envelope:
    return seal(signer, "checkpoint", msgspec.structs.replace(CHECKPOINT, **fields))


def stamp(signer: Identity = COORDINATOR, **fields: Any) -> Envelope:
    return seal(signer, "stamp", msgspec.structs.replace(STAMP, **fields))


def parts(envelope: Envelope, **changed: Any) -> bytes:
    """The envelope with some of its parts put in another's place."""
    whole = {"version": 1} | {name: getattr(envelope, name) for name in ("kind", "payload", "author", "signature")}
    return encode(list((whole | changed).values()))


def unsigned(envelope: Envelope) -> bytes:
    return parts(envelope, signature=bytes(64))


def malleated(envelope: Envelope) -> bytes:
    """The signature with the group's order added to S, which satisfies the equation too."""
    s = int.from_bytes(envelope.signature[32:], "little") + ORDER
    return parts(envelope, signature=envelope.signature[:32] + s.to_bytes(32, "little"))


def misfit(kind: str, record: msgspec.Struct, **fields: Any) -> bytes:
    """A well signed payload that does not fit its schema; a field given as None is left out."""
    plain = {name: getattr(record, name) for name in record.__struct_fields__} | fields
    return seal(ADA, kind, {name: value for name, value in plain.items() if value not in (None, UNSET)}).data
