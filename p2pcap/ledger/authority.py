"""Rules for statements that only certain keys may make: coordinators, checkpointers, verifiers; and for forks.

Each rule gives a verdict, or None when only the signature is left to check (`p2pcap.ledger.validate`).
"""

from p2pcap.envelope import Envelope
from p2pcap.ledger.checkpoint import Checkpoint, Stamp
from p2pcap.ledger.fork import Fork, fault
from p2pcap.ledger.judgement import Judgement, Verdict, Wait, ignore, reject
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.state import Ledger


def coordinator(ledger: Ledger, envelope: Envelope, ruling: Ban | Void | Redact, now: float) -> Judgement | None:
    """A ban, a void, a redaction."""
    if envelope.author not in ledger.project.coordinators:
        return reject("not signed by a coordinator")
    return None


def verdict(ledger: Ledger, envelope: Envelope, finding: Finding, now: float) -> Judgement | None:
    """A verifier's finding on a result."""
    if envelope.author not in ledger.project.verifiers:
        return reject("not signed by a verifier")
    author, result = ledger.results.get(finding.batch, (b"", None))
    if result is None:
        return ignore("of an unknown result", Wait("batch", finding.batch))
    mask, covered = int.from_bytes(finding.items, "little"), int.from_bytes(result.mask, "little")
    if mask == 0 or mask & ~covered:
        return reject("on items the result does not cover")
    if author == envelope.author:
        return reject("on the verifier's own result")
    return None


def stamp(ledger: Ledger, envelope: Envelope, stamp: Stamp, now: float) -> Judgement | None:
    """What is newest, by the coordinator's word."""
    if envelope.author not in ledger.project.coordinators:
        return reject("not signed by a coordinator")
    if ledger.is_stale(stamp, envelope.id, envelope.author):
        return ignore("older than the one held")
    return None


def checkpoint(ledger: Ledger, envelope: Envelope, checkpoint: Checkpoint, now: float) -> Judgement | None:
    """The next link of the chain. A contradiction is not held against its relayer, who may have had this one first."""
    if envelope.author not in ledger.project.checkpointers:
        return reject("not signed by a checkpoint key")
    held = ledger.checkpoints.get(checkpoint.number)
    if held is not None:
        return _contradiction(envelope, held)
    if checkpoint.number == 1:
        return None if checkpoint.prev == bytes(32) else reject("a first checkpoint with one before it")
    before = ledger.checkpoints.get(checkpoint.number - 1)
    if before is None:
        return ignore("a checkpoint before it is missing", Wait("checkpoint", checkpoint.number - 1))
    if checkpoint.prev != before.payload_hash:
        return ignore("of another chain of checkpoints")
    return None


def fork(ledger: Ledger, envelope: Envelope, fork: Fork, now: float) -> Judgement | None:
    """Proof against a key. It proves itself, so anybody may hand it in."""
    if ledger.is_stale(fork, envelope.id, envelope.author):
        return ignore("older than the one held")
    why = fault(fork, ledger.project)
    return reject(why) if why else None


def _contradiction(envelope: Envelope, held: Envelope) -> Judgement:
    if not envelope.holds():
        return reject("bad signature")
    return Judgement(Verdict.IGNORE, "another checkpoint of this number", envelope, contradicts=held)
