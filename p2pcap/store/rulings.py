"""Rulings and checkpoints as rows that people can query: who said what of which result, author or image.

Always holds: nothing that counts is decided by these rows. What rulings make of a result is worked out by the ledger
and stored as its standing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from p2pcap.codec import decode
from p2pcap.envelope import Envelope
from p2pcap.identity import peer_id_of
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void

RECORDS: Mapping[str, type[Any]] = {"verdict": Finding, "ban": Ban, "void": Void, "redact": Redact}


def ruling_rows(no: int, envelope: Envelope) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows that a statement adds to `ruling` or `checkpoint`, each with its table; `no` is its number."""
    if envelope.kind == "checkpoint":
        said = decode(envelope.payload, Checkpoint)
        yield "checkpoint", (no, said.number, envelope.payload_hash, said.time, said.statements, said.captions)
    elif envelope.kind in RECORDS:
        record = decode(envelope.payload, RECORDS[envelope.kind])
        for target, word, reason in _parts(record):
            row = (no, envelope.kind, target, word, peer_id_of(envelope.author), reason, record.time)
            yield "ruling", row


def _parts(ruling: Finding | Ban | Void | Redact) -> Iterator[tuple[str, str, str]]:
    """What a ruling is about, the word it says on it, and why."""
    match ruling:
        case Finding():
            yield ruling.batch.hex(), ruling.verdict, ruling.method
        case Ban():
            yield ruling.author.hex(), ruling.scope, ruling.reason
        case Void():
            yield from ((batch.hex(), "void", ruling.reason) for batch in ruling.batches)
        case Redact():
            items = (item for item in range(ruling.items.bit_length()) if ruling.items >> item & 1)
            yield from ((f"{ruling.chunk}/{item}", "redacted", ruling.reason) for item in items)
