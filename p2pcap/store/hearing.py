"""A stored statement heard again, as if a peer had just sent it.

Always holds: what is accepted is validly signed, by a key that may make such a statement.
"""

from typing import Any

from p2pcap.codec import decode
from p2pcap.envelope import LIMITS, Envelope, open_envelope
from p2pcap.errors import CodecError
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import RULES, validate


def heard(ledger: Ledger, data: bytes) -> tuple[Envelope, Any, str] | tuple[None, None, str]:
    """The statement and what it says; or why it is not accepted. It is judged at the time it names, so that it is
    neither early nor late."""
    try:
        envelope = open_envelope(data)
        record: Any = decode(envelope.payload, RULES[envelope.kind][0], LIMITS[envelope.kind])
    except (CodecError, KeyError) as error:
        return None, None, f"malformed: {error}"
    judgement = validate(ledger, data, record.time)
    if judgement.verdict is Verdict.ACCEPT:
        return envelope, record, ""
    return None, None, judgement.reason


def named(data: bytes) -> str:
    """A statement for people: its kind and the beginning of its id."""
    try:
        envelope = open_envelope(data)
    except CodecError:
        return f"a statement of {len(data)} bytes"
    return f"{envelope.kind} {envelope.id.hex()[:16]}"


def checkpoint_number(data: bytes) -> int:
    """Orders checkpoints; what is none comes first."""
    try:
        return decode(open_envelope(data).payload, Checkpoint).number
    except CodecError:
        return 0
