"""Starting again from what is on disk: the project and the ledger as the database holds them.

What is stored was checked before it was stored; only the chain from the ticket to the project is checked again, because
the ticket is new each time.
"""

from p2pcap.codec import decode
from p2pcap.envelope import LIMITS, open_envelope
from p2pcap.errors import UntrustedError
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import RULES
from p2pcap.project.opened import Project, open_project, payload_hash
from p2pcap.store.reads import Loaded


def stored_project(loaded: Loaded, expected: bytes) -> Project | None:
    """The stored project, None when there is none. Raises UntrustedError when it is not the `expected` one."""
    if loaded.root is None or loaded.manifest is None or loaded.plan is None:
        return None
    root = open_envelope(loaded.root)
    if payload_hash(root) != expected:
        raise UntrustedError(
            "This node's folder belongs to another project than the ticket. Name another one with --node."
        )
    return open_project(root, open_envelope(loaded.manifest), loaded.plan, expected, loaded.roots or b"")


def rebuild(loaded: Loaded, project: Project) -> Ledger:
    """The ledger that the stored statements add up to."""
    ledger = Ledger(project)
    for data in loaded.grants:
        envelope = open_envelope(data)
        ledger.add(envelope, decode(envelope.payload, Grant))
    for data in loaded.others:
        envelope = open_envelope(data)
        ledger.add(envelope, decode(envelope.payload, RULES[envelope.kind][0], LIMITS[envelope.kind]))
    for stored in loaded.results:
        ledger.add_result(stored.id, stored.author, stored.result)
    for seal, ids in loaded.seals:
        ledger.seal(decode(ledger.checkpoints[seal.number].payload, Checkpoint), seal, ids)
    for stored in loaded.results:
        if stored.checked and stored.result.tid in ledger.works:
            ledger.complete(stored.id, stored.author, stored.result, stored.errors)
    return ledger
