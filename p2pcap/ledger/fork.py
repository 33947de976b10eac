"""Proof that keys which must speak with one voice have not: two statements of one number that differ.

A fork needs nobody's word: whoever checks the two signatures inside knows. It tells the people who run nodes that the
maintainer's keys are misused or that two coordinators run at a time; what to do about it is theirs to decide.
"""

from typing import Annotated

import msgspec

from p2pcap.codec import decode
from p2pcap.envelope import MAX_ROOT, OVERHEAD, Envelope, open_envelope
from p2pcap.errors import CodecError
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.project.opened import Project, version_of
from p2pcap.project.record import Count, Record
from p2pcap.project.records import Manifest, Prefix

Whole = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ROOT + OVERHEAD)]


class Fork(Record, frozen=True):
    """Two envelopes of `kind` and `number` by keys of one role. `one` is below `other` in byte order."""

    m: Prefix
    kind: Annotated[str, msgspec.Meta(pattern=r"^(manifest|checkpoint)\Z")]
    number: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    one: Whole
    other: Whole
    time: Count


def fault(fork: Fork, project: Project) -> str:
    """Why `fork` proves nothing; empty when it is a proof."""
    try:
        one, other = open_envelope(fork.one), open_envelope(fork.other)
        numbers = {_number(one, fork.kind, project.m), _number(other, fork.kind, project.m)}
        if fork.kind == "manifest" and _root_of(one) != _root_of(other):
            return "the fork's manifests are of different roots"  # a thief is overtaken, not contradicted
    except CodecError:
        return "the fork's statements cannot be read"
    if numbers != {fork.number} or fork.one >= fork.other:
        return "the fork's statements are not two of one number"
    signers = (project.checkpointers if fork.kind == "checkpoint" else project.coordinators) | project.former.keys()
    if not {one.author, other.author} <= signers or one.id == other.id:
        return "the fork's statements do not contradict each other"
    return "" if one.holds() and other.holds() else "the fork's statements are not signed"


def fork_of(one: Envelope, other: Envelope, number: int, m: bytes, time: int) -> Fork:
    """The proof over two envelopes that contradict each other."""
    low, high = sorted((one.data, other.data))
    return Fork(m, one.kind, number, low, high, time)


def _root_of(manifest: Envelope) -> int:
    return version_of(decode(manifest.payload, Manifest))[0] if manifest.kind == "manifest" else 0


def _number(envelope: Envelope, kind: str, m: bytes) -> int:
    """The number of a statement of `kind` in this project; 0 for any other."""
    if envelope.kind != kind:
        return 0
    if kind == "manifest":
        manifest = decode(envelope.payload, Manifest)
        return manifest.version if manifest.m == m else 0
    checkpoint = decode(envelope.payload, Checkpoint)
    return checkpoint.number if checkpoint.m == m else 0
