"""What volunteers say against results, and what verifiers say against each other.

An author who is no verifier may say of a result that items of it are bad. That decides nothing: it makes a verifier
look. Whom verifiers contradict loses his voice, and everybody has few accusations open at a time, so accusing costs
verifiers little, however many keys somebody has.

Always holds: pure functions of the ledger; the order in which statements came plays no part.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from p2pcap.ledger.checks import Outcome, Word, bits, pieces
from p2pcap.ledger.counting import Counting

VOICE = 3
"""So many more accusations contradicted by verifiers than borne out take an author's voice."""

OPEN = 4
"""Accusations of one author that verifiers are asked to look at, at a time: the oldest."""


LOOKED = 4
"""Items of an accusation that are looked at: all that an honest author names are bad, so a few of them tell. More would
let one who accuses everybody keep verifiers from what they draw themselves."""


class Contradiction(NamedTuple):
    """Items of a result, as bits from its offset on, that some found bad and some found right; at least one of them is
    a verifier. `bad` and `ok` are their keys."""

    batch: bytes
    items: int
    bad: tuple[bytes, ...]
    ok: tuple[bytes, ...]


def accused(counting: Counting) -> dict[bytes, int]:
    """Results that a verifier should look at, with the items in question as bits from the result's offset on: those
    that verifiers do not agree about, or too few of them found bad, also when their author is banned for it; and those
    that others accuse."""
    verdicts = counting.verdicts
    outcomes = ((batch, verdicts.outcome(batch)) for batch in chain(verdicts.in_question, verdicts.by_few))
    found = {batch: outcome.open | outcome.alone for batch, outcome in outcomes}
    waiting: dict[bytes, list[tuple[int, bytes, int]]] = {}
    for batch, word in heard(counting):
        if left := _left(word.items, counting.verdicts.outcome(batch).checked):
            waiting.setdefault(word.author, []).append((word.time, batch, left))
    for words in waiting.values():
        for _, batch, items in sorted(words)[:OPEN]:
            found[batch] |= items
    return {batch: items for batch, items in found.items() if items}


def contradictions(counting: Counting) -> list[Contradiction]:
    """Where verifiers contradict each other, and where an author who has a voice contradicts one; by result."""
    others: dict[bytes, list[tuple[bytes, int]]] = {}
    for batch, word in heard(counting):
        others.setdefault(batch, []).append((word.author, word.items))
    found = []
    for batch in sorted(counting.verdicts.in_question):
        said = pieces(counting.verdicts.rulings(batch))
        wrong = [(piece.author, piece.items) for piece in said if piece.verdict == "bad"] + others.get(batch, [])
        right = [(piece.author, piece.items) for piece in said if piece.verdict == "ok"]
        if items := _union(wrong) & _union(right):
            found.append(Contradiction(batch, items, _keys(wrong, items), _keys(right, items)))
    return found


def heard(counting: Counting) -> list[tuple[bytes, Word]]:
    """The accusations of those who have a voice, each with its result: who is neither on probation nor in quarantine,
    and whom verifiers did not contradict too often."""
    said = [(batch, word) for batch in counting.verdicts.in_question for word in _accusations(counting, batch)]
    balance: dict[bytes, int] = {}
    for batch, word in said:
        balance[word.author] = balance.get(word.author, 0) + _borne_out(counting.verdicts.outcome(batch), word)
    heard = {who for who, sum_ in balance.items() if sum_ > -VOICE and not counting.is_unproven(who)}
    return [(batch, word) for batch, word in said if word.author in heard]


def _accusations(counting: Counting, batch: bytes) -> Iterator[Word]:
    """The accusations of a result, unless rulings or a want of grants keep it from counting anyway."""
    author, _ = counting.known.get(batch, (b"", None))
    if author and counting.may_count(batch, author):
        yield from (word for word in counting.verdicts.others(batch) if counting.is_said(batch, word))


def _left(items: int, checked: int) -> int:
    """The items of an accusation that are to be looked at still: the first ones, until LOOKED of it were."""
    few = LOOKED - (items & checked).bit_count()
    return sum(islice(bits(items & ~checked), max(0, few)))


def _borne_out(outcome: Outcome, word: Word) -> int:
    """1 when verifiers found some of the accused items bad, -1 when they found what they looked at of them right."""
    if word.items & outcome.failed:
        return 1
    return -1 if word.items & outcome.passed else 0


def _union(said: list[tuple[bytes, int]]) -> int:
    union = 0
    for _, items in said:
        union |= items
    return union


def _keys(said: list[tuple[bytes, int]], items: int) -> tuple[bytes, ...]:
    return tuple(sorted({author for author, named in said if named & items}))
