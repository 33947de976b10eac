"""Whether a statement is taken in, ignored or refused: one pure function, cheap tests first, the signature last.

IGNORE is for what an honest relayer could not have known to be wrong (too early, too late, seen, not yet granted);
REJECT is for what every relayer could have seen, and it is held against whoever relayed it. The clock is used for
admission only; no stored fact depends on it. Every statement gets one of the three verdicts, by the rules in the order
in which they stand here and in docs/protocol.md.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from p2pcap.codec import MAX_STATEMENT, decode
from p2pcap.envelope import OVERHEAD, Envelope, open_envelope
from p2pcap.errors import CodecError
from p2pcap.ledger.grants import is_wished
from p2pcap.ledger.records import Claim, Grant, Result
from p2pcap.ledger.state import Ledger
from p2pcap.project.records import SLICE

FUTURE = 120
"""Seconds a statement's time may lie ahead of this node's clock."""

CLAIM_WINDOW = 60
"""Seconds a claim's time may lie off this node's clock, either way."""


class Verdict(Enum):
    """What to do with a statement."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, and for an accepted statement what it says."""

    verdict: Verdict
    reason: str
    envelope: Envelope | None = None
    record: Grant | Claim | Result | None = None


R = TypeVar("R", Grant, Claim, Result)


def validate(ledger: Ledger, data: bytes, now: float) -> Judgement:
    """Judge the statement in `data` at local time `now` (unix seconds). Never raises; changes nothing."""
    if len(data) > MAX_STATEMENT + OVERHEAD:
        return _reject("too large")
    try:
        envelope = open_envelope(data)
        if envelope.kind == "grant":
            return _grant(ledger, envelope, decode(envelope.payload, Grant), now)
        if envelope.kind == "claim":
            return _claim(ledger, envelope, decode(envelope.payload, Claim), now)
        if envelope.kind == "result":
            return _result(ledger, envelope, decode(envelope.payload, Result), now)
    except CodecError as error:
        return _reject(f"malformed: {error}")
    return _ignore("a type that is not gossiped")


def _grant(ledger: Ledger, envelope: Envelope, grant: Grant, now: float) -> Judgement:
    if grant.m != ledger.project.m:
        return _reject("another project's")
    if envelope.id in ledger.seen:
        return _ignore("seen")
    if grant.invite.key != envelope.author:
        return _reject("not signed by the invited key")
    if grant.time > now + FUTURE:
        return _ignore("from the future")
    if grant.time > grant.invite.expires:
        return _reject("the invitation had expired")
    if not grant.invite.holds(ledger.project.m, ledger.project.coordinators):
        return _reject("the invitation is not the coordinator's")
    if not is_wished(grant):
        return _reject("the admitted key did not ask for it")
    return _signed(envelope, grant)


def _claim(ledger: Ledger, envelope: Envelope, claim: Claim, now: float) -> Judgement:
    if claim.m != ledger.project.m:
        return _reject("another project's")
    if claim.tid != ledger.project.task.tid:
        return _ignore("for another task")
    if abs(claim.time - now) > CLAIM_WINDOW:
        return _ignore("not of this minute")
    if envelope.author not in ledger.grants:
        return _ignore("unknown author")
    held = ledger.claims.of(envelope.author)
    if held is not None and held.claim.nonce >= claim.nonce:
        return _ignore("older than the author's newest")
    for claimed in claim.chunks:
        if claimed.chunk >= len(ledger.project.chunks):
            return _reject("no such chunk")
        if int.from_bytes(claimed.slices, "little") >> slices_in(ledger.project.chunks[claimed.chunk].count):
            return _reject("no such slice")
    return _signed(envelope, claim)


def _result(ledger: Ledger, envelope: Envelope, result: Result, now: float) -> Judgement:
    if result.m != ledger.project.m:
        return _reject("another project's")
    if envelope.id in ledger.seen or envelope.id in ledger.announced.get(result.chunk, {}):
        return _ignore("seen")
    if result.tid != ledger.project.task.tid:
        return _ignore("for another task")
    if result.chunk >= len(ledger.project.chunks):
        return _reject("no such chunk")
    if result.offset + result.n > ledger.project.chunks[result.chunk].count:
        return _reject("beyond the chunk's end")
    mask = int.from_bytes(result.mask, "little")
    if mask == 0 or mask >> result.n:
        return _reject("covers nothing, or more than it spans")
    if result.time > now + FUTURE:
        return _ignore("from the future")
    if envelope.author not in ledger.grants:
        return _ignore("unknown author")
    return _signed(envelope, result)


def slices_in(count: int) -> int:
    """Number of slices in a chunk of `count` images."""
    return -(-count // SLICE)


def _signed(envelope: Envelope, record: Grant | Claim | Result) -> Judgement:
    if not envelope.holds():
        return _reject("bad signature")
    return Judgement(Verdict.ACCEPT, "valid", envelope, record)


def _ignore(reason: str) -> Judgement:
    return Judgement(Verdict.IGNORE, reason)


def _reject(reason: str) -> Judgement:
    return Judgement(Verdict.REJECT, reason)
