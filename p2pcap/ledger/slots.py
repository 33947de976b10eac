"""Statements that replace one another: of each slot the set holds one, the best by a total order.

So an author's profile, the newest stamp and the proof of a fork do not pile up, and nodes that met them in another
order still hold the same.
"""

from p2pcap.ledger.checkpoint import Stamp
from p2pcap.ledger.fork import Fork
from p2pcap.ledger.records import Profile
from p2pcap.ledger.rulings import inverse

Slot = tuple[str, bytes, int]
Rank = tuple[int, bytes]
"""The higher one is held."""


def slot_of(record: object, id_: bytes, author: bytes) -> tuple[Slot, Rank] | None:
    """The slot of a statement and its rank there; None for statements that all stay."""
    match record:
        case Profile():
            return ("profile", author, 0), (record.time, inverse(id_))
        case Stamp():
            return ("stamp", b"", 0), (record.version, inverse(id_))
        case Fork():
            return (f"fork {record.kind}", b"", record.number), (0, inverse(id_))
    return None
