"""Which of several results for one item counts: a pure function of the set, the same on every node.

For each item the lowest rank wins: an answer before an error, then the lower statement id. The order in which
statements arrived plays no part. The store keeps the same ranking as a table; tests compare the two.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from p2pcap.ledger.records import Result, Row


@dataclass(frozen=True)
class Batch:
    """A stored result with its checked rows."""

    id: bytes
    author: bytes
    result: Result
    rows: Sequence[Row]


Place = tuple[bytes, int, int]
"""Task id, chunk, item."""


def rank(row: Row, id_: bytes) -> tuple[bool, bytes]:
    """The lower one wins."""
    return (bool(row.error), id_)


def canonical(batches: Iterable[Batch]) -> Mapping[Place, tuple[Batch, Row]]:
    """The winning row of every place, with the batch it is from."""
    table: dict[Place, tuple[Batch, Row]] = {}
    for batch in batches:
        for row in batch.rows:
            place = (batch.result.tid, batch.result.chunk, row.item)
            held = table.get(place)
            if held is None or rank(row, batch.id) < rank(held[1], held[0].id):
                table[place] = (batch, row)
    return table
