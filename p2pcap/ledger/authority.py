"""Rules for statements that only certain keys may make: coordinators, checkpointers; and for forks.

A key that has left its role counts as far as its statements were sealed in its time (p2pcap.project.records.FormerKey):
whoever sealed them had found them valid. What it signed beyond that is ignored, never held against the relayer, who may
not know the newer root yet; and while this node waits for a newer root itself, it blames nobody for keys it lacks.

Each rule gives a verdict, or None when only the signature is left to check (`p2pcap.ledger.validate`).
"""

from collections.abc import Collection, Iterable

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import CodecError
from p2pcap.ledger.checkpoint import Checkpoint, Stamp
from p2pcap.ledger.fork import Fork, fault
from p2pcap.ledger.judgement import Judgement, Verdict, Wait, ignore, reject
from p2pcap.ledger.rulings import Ban, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.project.opened import Project, version_of
from p2pcap.project.records import Manifest


def coordinator(ledger: Ledger, envelope: Envelope, ruling: Ban | Void | Redact, now: float) -> Judgement | None:
    """A ban, a void, a redaction."""
    return _in_role(ledger, envelope, ledger.project.coordinators, "coordinator")


def stamp(ledger: Ledger, envelope: Envelope, stamp: Stamp, now: float) -> Judgement | None:
    """What is newest, by the coordinator's word."""
    if fault := _in_role(ledger, envelope, ledger.project.coordinators, "coordinator"):
        return fault
    if ledger.is_stale(stamp, envelope.id, envelope.author):
        return ignore("older than the one held")
    return None


def checkpoint(ledger: Ledger, envelope: Envelope, checkpoint: Checkpoint, now: float) -> Judgement | None:
    """The next link of the chain. A contradiction is not held against its relayer, who may have had this one first."""
    if fault := _astray(ledger, envelope, checkpoint):
        return fault
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
    if any(_is_settled(data, ledger.project) for data in (fork.one, fork.other)):
        return ignore("of a key or a root that was replaced")
    why = fault(fork, ledger.project)
    return reject(why) if why else None


def _is_settled(data: bytes, project: Project) -> bool:
    """Whether the root in force has decided about a statement in a fork: its key is a former one, or it is a manifest
    of another root. Else whoever has a former key could stop the project again by contradicting himself."""
    try:
        envelope = open_envelope(data)
        root = version_of(decode(envelope.payload, Manifest))[0] if envelope.kind == "manifest" else None
    except CodecError:
        return False
    return envelope.author in project.former or root not in (None, project.root.version)


def _in_role(ledger: Ledger, envelope: Envelope, keys: Collection[bytes], role: str) -> Judgement | None:
    """None when one of `keys` signed it, or a former key did and a checkpoint sealed it in its time. A stamp is never
    sealed, so no former key's counts."""
    if envelope.author in keys:
        return None
    former = ledger.project.former.get(envelope.author)
    if former is None:
        return _unknown_key(ledger, f"not signed by a {role}")
    sealed = ledger.seals.by_id.get(envelope.id)
    if sealed is None or sealed > former.checkpoint:
        return ignore("by a former key, and not sealed in its time")
    return None


def _unknown_key(ledger: Ledger, reason: str) -> Judgement:
    """A newer root, of which this node has only heard, may name the key."""
    return ignore(reason) if ledger.newer_root else reject(reason)


def _astray(ledger: Ledger, envelope: Envelope, checkpoint: Checkpoint) -> Judgement | None:
    """None for a checkpoint by a key that had the role then, on the way that the root names."""
    former = ledger.project.former
    if envelope.author not in ledger.project.checkpointers:
        if envelope.author not in former:
            return _unknown_key(ledger, "not signed by a checkpoint key")
        if checkpoint.number > former[envelope.author].checkpoint:
            return ignore("by a former key, after its last checkpoint")
    if checkpoint.number <= last_named(ledger.project) and envelope.payload_hash not in ledger.vouched:
        return ignore("not on the way to the checkpoint that the root names")
    return None


def last_named(project: Project) -> int:
    """The number of the newest checkpoint that the root names as the last one of a former key; 0 for none."""
    return max((former.checkpoint for former in project.former.values()), default=0)


def vouched(project: Project, envelopes: Iterable[Envelope]) -> set[bytes]:
    """The hashes of those of these checkpoints that lead to one that the root names.

    A thief who has a former key can sign any number below that one, and numbers come in ascending order. So up to
    there a checkpoint counts by its hash, found from the named one downwards, and not by its signature alone.
    """
    before = {envelope.payload_hash: _prev(envelope) for envelope in envelopes if envelope.kind == "checkpoint"}
    found: set[bytes] = set()
    for former in project.former.values():
        hash_ = former.hash
        while hash_ in before and hash_ not in found:
            found.add(hash_)
            hash_ = before[hash_]
    return found


def _prev(envelope: Envelope) -> bytes:
    """The hash of the checkpoint before; zeros, which no hash is, for what is no checkpoint."""
    try:
        return decode(envelope.payload, Checkpoint).prev
    except CodecError:
        return bytes(32)


def _contradiction(envelope: Envelope, held: Envelope) -> Judgement:
    if not envelope.holds():
        return reject("bad signature")
    return Judgement(Verdict.IGNORE, "another checkpoint of this number", envelope, contradicts=held)
