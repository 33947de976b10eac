"""From a project's hash to what its statements add up to, without a node. Pure.

What a proof holds is fed to a ledger by the same rules that a node has for what strangers send. So who was admitted,
which keys count and what was taken back is asked of the ledger, and not worked out a second time.

Always holds: what the ledger says follows from signatures that hold and that lead back to the project's first root.
What the proof does not carry (a ban made later, a grant that displaced one of these) the ledger does not know.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from p2pcap.codec import decode
from p2pcap.envelope import LIMITS, Envelope, open_envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.export.section import Chain, Seals, Statements
from p2pcap.ledger.authority import vouched
from p2pcap.ledger.checkpoint import ID, Checkpoint, open_segment
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.sealing import seal_of
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import RULES, validate
from p2pcap.project.chunks import Chunks
from p2pcap.project.opened import Project, open_project


def open_ledger(chain: Chain, statements: Statements, seals: Seals, expected: bytes | None) -> Ledger:
    """What the project and its statements add up to; `expected` is the project's hash, if it is known. Raises
    UntrustedError when some link does not hold."""
    try:
        root = open_envelope(chain.root)
        manifest = open_envelope(chain.manifest)
        if expected is not None and root.payload_hash != expected:
            raise UntrustedError(f"It is of another project: {root.payload_hash.hex()}.")
        project = open_project(root, manifest, chain.plan, expected or root.payload_hash, chain.roots)
        envelopes = [open_envelope(data) for data in statements]
    except CodecError as error:
        raise UntrustedError(f"The proof cannot be read: {error}") from error
    ledger = Ledger(project)
    ledger.vouched = vouched(project, envelopes)
    early = [envelope for envelope in envelopes if envelope.kind == "checkpoint"]
    hear(ledger, early)
    _seal(ledger, seals)
    hear(ledger, [envelope for envelope in envelopes if envelope.kind != "checkpoint"])
    return ledger


def chunk_table(project: Project, pages: Iterable[bytes]) -> Chunks:
    """The project's chunks, whose pages are among `pages`. Asking for another one raises UntrustedError."""
    held = {hashlib.sha256(page).digest(): page for page in pages}

    def page(hash_: bytes) -> bytes:
        if hash_ not in held:
            raise UntrustedError("The proof lacks a page of the chunk table.")
        return held[hash_]

    return project.chunks(page)


def hear(ledger: Ledger, envelopes: Iterable[Envelope]) -> None:
    """Take in what a proof carries, each at the time it names. What a node would ignore (a grant that does not stand
    any more) is ignored. Raises UntrustedError for what a node would hold against its sender."""
    for envelope in envelopes:
        record = _record(envelope)
        judgement = validate(ledger, envelope.data, record.time)
        if judgement.verdict is Verdict.REJECT:
            raise UntrustedError(f"The proof holds a false {envelope.kind}: {judgement.reason}.")
        if judgement.verdict is Verdict.ACCEPT:
            ledger.add(envelope, record)


def _record(envelope: Envelope) -> Any:
    try:
        return decode(envelope.payload, RULES[envelope.kind][0], LIMITS[envelope.kind])
    except (CodecError, KeyError) as error:
        raise UntrustedError(f"The proof holds a {envelope.kind} that cannot be read.") from error


def _seal(ledger: Ledger, seals: Seals) -> None:
    for number, data in seals:
        envelope = ledger.checkpoints.get(number)
        if envelope is None or number != ledger.seals.head + 1:
            raise UntrustedError(f"The proof lacks checkpoint {ledger.seals.head + 1}, or its signature does not hold.")
        checkpoint = decode(envelope.payload, Checkpoint)
        ids: list[bytes] = []
        for segment in checkpoint.segments:
            ids += open_segment(data[ID * len(ids) : ID * (len(ids) + segment.count)], segment)
        if ID * len(ids) != len(data):
            raise UntrustedError(f"The proof seals more by checkpoint {number} than that says.")
        ledger.seal(checkpoint, seal_of(checkpoint, envelope.payload_hash, {}), ids)


def open_hash(text: str) -> bytes:
    """A project's hash in hex. Raises UntrustedError."""
    try:
        hash_ = bytes.fromhex(text)
    except ValueError:
        hash_ = b""
    if len(hash_) != 32:
        raise UntrustedError("A project's hash has 64 hex digits (p2pcap ticket show). Give it, or the ticket.")
    return hash_
