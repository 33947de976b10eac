"""What peers say to each other, typed and bounded.

Each request and answer is one of these structs as strict DAG-CBOR in one frame (`p2pcap.swarm.frames`); the bytes of
images, bodies and blobs travel beside them as raw pieces (`p2pcap.swarm.content`). A struct that came through
`p2pcap.codec.decode` keeps every limit written here: lengths are part of the types.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 1

CLAIMS = "claims"
RESULTS = "results"
CONTROL = "control"
TOPICS = (CLAIMS, RESULTS, CONTROL)
MAX_MESSAGE = 60 * 1024
"""Bytes of one gossip message. One Yamux frame holds it, so two writers can never interleave inside it."""

MAX_ENVELOPE = 4_096
"""Bytes of one signed statement as stored; most have 1,152 at most, a root may have more."""

STATEMENTS_PAGE = 256
CLAIMS_PAGE = 2_048
CONTENT_BATCH = 64
"""Items in one answer or request: statements, live claims, content."""

RECONCILE_FRAME = 60_000
"""Bytes of one frame of reconciliation, either way. With its framing it is one Yamux frame (`frames.WRITE_SIZE`)."""
PUSH_BYTES = 60_000
"""Bytes of the envelopes in one push, 4 more counted for each; about 150 results."""

Bytes8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
ReconcileFrame = Annotated[bytes, Meta(min_length=1, max_length=RECONCILE_FRAME)]
Envelope = Annotated[bytes, Meta(max_length=MAX_ENVELOPE)]
Address = Annotated[str, Meta(max_length=256)]
Word = Annotated[str, Meta(max_length=64)]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node says of itself, on every connect and every minute. Nothing in it is proof of anything.

    `project` is the first 8 bytes of `root` (the first root's hash); `root_version` and `manifest_version` are those in
    force here, `manifest` that one's hash. `digest` stands for the set of `count` stored
    statements: equal digests, nothing to exchange. `checkpoint` is the number of the newest one taken. `name` is free
    text of at most 32 bytes of UTF-8. `store` says which bodies the node keeps: full, share or archive. `relay`: it
    carries connections to peers that cannot be dialled. `addresses` are where the node is reached, `peers` others it is
    connected to, each a multiaddr that ends in /p2p/<peer id>; `Service.status` leaves these three to the swarm.
    """

    version: Annotated[int, Meta(ge=1, lt=2**16)] = PROTOCOL_VERSION
    project: Bytes8
    root: Bytes32
    manifest_version: Count
    manifest: Bytes32
    root_version: Count = 1
    count: Count
    digest: Bytes32
    engines: Annotated[int, Meta(ge=0, le=1_024)] = 0
    engine_ready: bool = False
    images: Count = 0
    rows: Count = 0
    checkpoint: Count = 0
    role: Word = ""
    name: Annotated[str, Meta(max_length=32)] = ""
    agent: Word = ""
    store: Word = "full"
    relay: bool = False
    addresses: Annotated[tuple[Address, ...], Meta(max_length=8)] = ()
    peers: Annotated[tuple[Address, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        if len(self.name.encode()) > 32:
            raise ValueError("the name has more than 32 bytes")


class ReconcileRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next frame of the side that began to reconcile (`p2pcap.ledger.negentropy`)."""

    frame: ReconcileFrame


class Reconciled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The frame that answers it."""

    frame: ReconcileFrame


class StatementsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The statements with these ids."""

    ids: Annotated[list[Bytes32], Meta(max_length=STATEMENTS_PAGE)]


class Statements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed envelopes, as stored. Unknown ids are left out."""

    envelopes: Annotated[list[Envelope], Meta(max_length=STATEMENTS_PAGE)]


class PushRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed envelopes that the receiver lacks, as reconciliation showed."""

    envelopes: Annotated[list[Envelope], Meta(min_length=1, max_length=STATEMENTS_PAGE)]


class Pushed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The envelopes that are valid are stored."""


class ChainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first checkpoints with numbers above `after`, ascending; answered with `Statements`, empty at the end."""

    after: Count


class ClaimsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every claim that is live now."""


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed claim envelopes, in no order."""

    envelopes: Annotated[list[Envelope], Meta(max_length=CLAIMS_PAGE)]


class ContentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items by hash, none twice, each from a byte offset on; offset 0 unless an earlier answer broke off."""

    wanted: Annotated[list[tuple[Bytes32, Count]], Meta(min_length=1, max_length=CONTENT_BATCH)]

    def __post_init__(self) -> None:
        if len({hash for hash, _ in self.wanted}) < len(self.wanted):
            raise ValueError("an item is asked for twice")
