"""What can be written to the store. Each write says a fact; saying it twice changes nothing.

Always holds: whoever makes one has verified what is in it (signatures, hashes, rows against their header). The store
checks nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pcap.envelope import Envelope
from p2pcap.ledger.records import Result, Row
from p2pcap.project.opened import Project
from p2pcap.project.records import Item


@dataclass(frozen=True)
class PutProject:
    """The project: root, manifest and plan, with the task and the chunk table they hold. A newer manifest's chunk
    table takes the place of an older one's."""

    project: Project
    received: float


@dataclass(frozen=True)
class PutStatement:
    """A grant, or a result whose body is not here yet. `received` is local unix seconds."""

    envelope: Envelope
    received: float


@dataclass(frozen=True)
class PutBatch:
    """A result with its body: its statement, unless stored already, the body's bytes, and its rows as candidates."""

    envelope: Envelope
    result: Result
    rows: Sequence[Row]
    body: bytes
    received: float


@dataclass(frozen=True)
class PutBlob:
    """Bytes that others may ask for by their SHA-256."""

    hash: bytes
    data: bytes


@dataclass(frozen=True)
class PutItems:
    """The item list of a chunk, in order."""

    chunk: int
    items: Sequence[Item]


Write = PutProject | PutStatement | PutBatch | PutBlob | PutItems


def weight(write: Write) -> int:
    """Rows it adds, about: what bounds a group commit."""
    match write:
        case PutBatch():
            return len(write.rows)
        case PutItems():
            return len(write.items)
        case PutProject():
            return len(write.project.chunks)
        case _:
            return 1
