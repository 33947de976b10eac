"""Which of several results for one item counts: a pure function of the set, the same on every node.

Rows that do not count (void, banned, found wrong, of an author in doubt) are no candidates. Of the others, for each
item, the lowest rank wins: sealed before unsealed, the earlier checkpoint before the later; in one checkpoint an answer
before an error, the author's higher tier, and then a value that nobody could aim at: SHA-256 of the checkpoint's beacon
and the statement's id. Unsealed results rank by tier and id, provisionally.

An error is final once as many distinct authors as the policy asks have said it, or a verifier has confirmed it; it
ranks by the statement that made it final. An error that is not final loses to every answer.

Always holds: no statement by a volunteer moves a final winner that is sealed. The order in which statements arrived
plays no part. The store keeps the same ranking as a table; tests compare the two.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from p2pcap.ledger.checkpoint import Seal
from p2pcap.ledger.checks import ALL
from p2pcap.ledger.records import Result, Row


@dataclass(frozen=True)
class Batch:
    """A stored result with its checked rows. `seal` is the checkpoint that seals it, `tier` its author's tier (by that
    checkpoint, or by the newest while it is unsealed), `counted` the items, as bits from its offset on, that count, and
    `confirmed` those that verifiers found right."""

    id: bytes
    author: bytes
    result: Result
    rows: Sequence[Row]
    seal: Seal | None = None
    tier: int = 0
    confirmed: int = 0
    counted: int = ALL


Place = tuple[bytes, int, int]
"""Task id, chunk, item."""

Rank = tuple[bool, int, bool, int, bytes]
"""Unsealed, checkpoint number, is an error, minus the tier, tie. The lower one wins."""

Entry = tuple[Batch, Row]


def rank(batch: Batch, row: Row) -> Rank:
    """The rank of a row by itself."""
    if batch.seal is None:
        return (True, 0, bool(row.error), -batch.tier, batch.id)
    return (False, batch.seal.number, bool(row.error), -batch.tier, batch.seal.tie(batch.id))


def canonical(batches: Iterable[Batch], authors_for_error: int) -> Mapping[Place, Entry]:
    """The winning row of every place, with the batch it is from."""
    candidates: dict[Place, list[Entry]] = {}
    for batch in batches:
        for row in batch.rows:
            if batch.counted >> (row.item - batch.result.offset) & 1:
                place = (batch.result.tid, batch.result.chunk, row.item)
                candidates.setdefault(place, []).append((batch, row))
    return {place: _winner(entries, authors_for_error) for place, entries in candidates.items()}


def _winner(entries: list[Entry], authors_for_error: int) -> Entry:
    ranked = sorted(entries, key=lambda entry: rank(*entry))
    answer = next((entry for entry in ranked if not entry[1].error), None)
    errors = [entry for entry in ranked if entry[1].error]
    if answer is None:
        return errors[0]
    final = _final(errors, authors_for_error)
    return errors[0] if final is not None and final < rank(*answer) else answer


def _final(errors: list[Entry], authors_for_error: int) -> Rank | None:
    """The rank of the statement that makes an error final, given all of them in order; None when none does."""
    authors: set[bytes] = set()
    for batch, row in errors:
        authors.add(batch.author)
        if len(authors) >= authors_for_error or batch.confirmed >> (row.item - batch.result.offset) & 1:
            return rank(batch, row)
    return None
