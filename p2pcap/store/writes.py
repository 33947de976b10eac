"""What can be written to the store. Each write says a fact; saying it twice changes nothing.

Always holds: whoever makes one has verified what is in it (signatures, hashes, rows against their header) and, where it
says what rulings and checkpoints make of a result, has worked that out with the ledger. The store checks nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pcap.envelope import Envelope
from p2pcap.ledger.checkpoint import Seal
from p2pcap.ledger.checks import Ruled
from p2pcap.ledger.records import Result, Row
from p2pcap.project.items import Item, ItemList
from p2pcap.project.opened import Project


@dataclass(frozen=True)
class PutProject:
    """The project: root, manifest and plan, with the task, the chunk table and the policy they hold. What a newer
    manifest says takes the place of what an older one said."""

    project: Project
    received: float


@dataclass(frozen=True)
class PutStatement:
    """A statement of any kind but claim; a result comes this way when its body is not here yet. `received` is local
    unix seconds. `replaces` is the id of the statement whose slot it takes (p2pcap.ledger.slots): that one goes."""

    envelope: Envelope
    received: float
    replaces: bytes | None = None


@dataclass(frozen=True)
class PutBatch:
    """A result with its body: its statement, unless stored already, the body's bytes, and its rows as candidates.

    Whether it counts is said by PutStanding, before or after; unless that was said, it does. Of a result that covers a
    redacted item only the statement is stored.
    """

    envelope: Envelope
    result: Result
    rows: Sequence[Row]
    body: bytes
    received: float


@dataclass(frozen=True)
class Outcome:
    """What stays known of a row without its text: the item, the tokens of each answer, the error ("" for none)."""

    item: int
    tokens: Sequence[int]
    error: str


@dataclass(frozen=True)
class PutChecked:
    """A result whose body was checked here once and is not kept: its statement, unless stored already, and what its
    rows were. It counts as one with its body does."""

    envelope: Envelope
    result: Result
    outcomes: Sequence[Outcome]
    received: float


@dataclass(frozen=True)
class DropBodies:
    """Bodies and texts of these results are deleted; they count as before. A later PutBatch brings a body back."""

    ids: Sequence[bytes]


@dataclass(frozen=True)
class PutStanding:
    """What rulings, grants and checks make of the result `id`. It may be said before the result is stored."""

    id: bytes
    ruled: Ruled


@dataclass(frozen=True)
class PutRedaction:
    """The items (bits of the chunk) are closed for good. Bodies and rows of the results `dropped`, and of any other
    that covers one of the items, are deleted; their statements stay."""

    chunk: int
    items: int
    dropped: Sequence[bytes]


@dataclass(frozen=True)
class PutSeal:
    """The next checkpoint of the chain, and the ids of the statements it seals; some may not be stored yet."""

    seal: Seal
    ids: Sequence[bytes]


@dataclass(frozen=True)
class PutBlob:
    """Bytes that others may ask for by their SHA-256."""

    hash: bytes
    data: bytes


@dataclass(frozen=True)
class DropBlobs:
    """Blobs that nobody will ask for any more."""

    hashes: Sequence[bytes]


@dataclass(frozen=True)
class PutItems:
    """The item list of a chunk, in order. `file` is where the file is that the images are parts of, if they are."""

    chunk: int
    items: Sequence[Item]
    file: str | None = None

    @classmethod
    def of(cls, chunk: int, found: ItemList) -> "PutItems":
        """The list `found`, which is that of `chunk`."""
        return cls(chunk, found.items, found.file.file if found.file else None)


Write = (
    PutProject
    | PutStatement
    | PutBatch
    | PutChecked
    | DropBodies
    | PutStanding
    | PutRedaction
    | PutSeal
    | PutBlob
    | DropBlobs
    | PutItems
)


def weight(write: Write) -> int:
    """Rows it adds or ranks anew, about: what bounds a group commit."""
    match write:
        case PutBatch():
            return len(write.rows)
        case PutChecked():
            return len(write.outcomes)
        case DropBodies():
            return 64 * len(write.ids)
        case PutStanding():
            return 64
        case PutSeal():
            return len(write.ids)
        case PutItems():
            return len(write.items)
        case PutProject():
            return len(write.project.counts)
        case _:
            return 1
