"""What validation answers: a verdict, its reason, and for what comes too early, what it waits for."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from p2pcap.envelope import Envelope
from p2pcap.ledger.checkpoint import Checkpoint, Stamp
from p2pcap.ledger.fork import Fork
from p2pcap.ledger.records import Claim, Grant, Profile, Result
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void

Statement = Grant | Claim | Result | Profile | Finding | Ban | Void | Redact | Checkpoint | Stamp | Fork


class Verdict(Enum):
    """What to do with a statement."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True)
class Wait:
    """What a statement that came too early waits for.

    "time": unix second `value`; "author": the grant of the key `value`; "batch": the result with the id `value`;
    "checkpoint": checkpoint number `value`; "task": a manifest with the task of the id `value`; "chunk": one with
    chunk number `value`; "verifier": one that names the key `value` as a verifier's; "stamp": a newer one.
    """

    kind: Literal["time", "author", "batch", "checkpoint", "task", "chunk", "verifier", "stamp"]
    value: int | bytes


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason. An accepted statement comes with what it says, an early one with what it waits for,
    and one that contradicts a held statement of its number with that statement (`contradicts`) and its own envelope."""

    verdict: Verdict
    reason: str
    envelope: Envelope | None = None
    record: Statement | None = None
    wait: Wait | None = None
    contradicts: Envelope | None = None


def ignore(reason: str, wait: Wait | None = None) -> Judgement:
    """Nobody's fault: seen, early, late, or over a quota."""
    return Judgement(Verdict.IGNORE, reason, wait=wait)


def reject(reason: str) -> Judgement:
    """Wrong in a way that whoever relayed it could have seen."""
    return Judgement(Verdict.REJECT, reason)


def signed(envelope: Envelope, record: Statement) -> Judgement:
    """The last test, and the dearest."""
    if not envelope.holds():
        return reject("bad signature")
    return Judgement(Verdict.ACCEPT, "valid", envelope, record)
