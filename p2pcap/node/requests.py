"""What may be asked over the control socket: one record for every operation (p2pcap.node.control lists them).

Always holds: whatever does not fit is refused before anything is done; no number in it can ask for more than the bounds
here say.
"""

from typing import Annotated, Any

import msgspec

from p2pcap.envelope import MAX_ENVELOPE
from p2pcap.node.client import LONGEST_PAUSE
from p2pcap.node.pages import PageRequest
from p2pcap.node.submitting import MAX_SUBMITTED
from p2pcap.project.records import MAX_CHUNK
from p2pcap.store.parts import MAX_CHUNKS, Order

MAX_SECONDS = 600.0
"""A query's time and rows may not be set higher than this."""

MAX_ROWS = 10_000_000

Submitted = Annotated[bytes, msgspec.Meta(max_length=MAX_ENVELOPE)]

ChunkNumber = Annotated[int, msgspec.Meta(ge=0, le=MAX_CHUNKS)]

ItemNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNK)]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request. `sql` is for "query" and "parts", `rows` and `seconds` are for the one, `order` and `chunks` for the
    other; `held`, for both, names what "hold" gave; `place` (chunk and item) and `hash` for "image"; `asked` and
    `signer` for "draft", `statements` for "submit", `duration` for "pause"; `most` bounds the lists in a subscription's
    snapshots, `page` is for "page"."""

    op: str
    sql: str = ""
    rows: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = 1_000_000
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] = 60.0
    order: Order = "task"
    chunks: tuple[ChunkNumber, ChunkNumber] = (0, MAX_CHUNKS)
    held: Annotated[str, msgspec.Meta(max_length=32)] = ""
    place: tuple[ChunkNumber, ItemNumber] = (0, 0)
    hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    asked: dict[str, Any] = msgspec.field(default_factory=dict)
    signer: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    duration: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_PAUSE)] | None = None
    statements: Annotated[tuple[Submitted, ...], msgspec.Meta(max_length=MAX_SUBMITTED)] = ()
    most: Annotated[int, msgspec.Meta(ge=0)] | None = None
    page: PageRequest | None = None
