"""What volunteers say against results, and what verifiers say against each other.

An author who is no verifier may say of a result that items of it are bad. That decides nothing: it makes a verifier
look. Whom verifiers contradict loses his voice, and everybody has few accusations open at a time, so accusing costs
verifiers little, however many keys somebody has.

Always holds: pure functions of the ledger; the order in which statements came plays no part.
"""

from collections.abc import Iterator
from typing import NamedTuple

from p2pcap.ledger.checks import Outcome, Word, pieces
from p2pcap.ledger.counting import Counting

VOICE = 3
"""So many more accusations contradicted by verifiers than borne out take an author's voice."""

OPEN = 4
"""Accusations of one author that verifiers are asked to look at, at a time: the oldest."""


class Contradiction(NamedTuple):
    """Items of a result, as bits from its offset on, that some found bad and some found right; at least one of them is
    a verifier. `bad` and `ok` are their keys."""

    batch: bytes
    items: int
    bad: tuple[bytes, ...]
    ok: tuple[bytes, ...]


def accused(counting: Counting) -> dict[bytes, int]:
    """Results that a verifier should look at, with the items in question as bits from the result's offset on: those
    that verifiers do not agree about, or too few of them found bad; and those that others accuse."""
    found = {batch: counting.verdicts.outcome(batch).open for batch in counting.verdicts.in_question}
    for _, words in sorted(_open_words(counting).items()):
        for _, batch, items in sorted(words)[:OPEN]:
            found[batch] = found.get(batch, 0) | items
    return {batch: items for batch, items in found.items() if items}


def _open_words(counting: Counting) -> dict[bytes, list[tuple[int, bytes, int]]]:
    """The accusations that nobody has looked into, by author: time, result, and items that no verifier checked."""
    found: dict[bytes, list[tuple[int, bytes, int]]] = {}
    voices: dict[bytes, bool] = {}
    for batch in counting.verdicts.in_question:
        for word in _accusations(counting, batch):
            left = word.items & ~counting.verdicts.outcome(batch).checked
            if word.author not in voices:
                voices[word.author] = has_voice(counting, word.author)
            if left and voices[word.author]:
                found.setdefault(word.author, []).append((word.time, batch, left))
    return found


def _accusations(counting: Counting, batch: bytes) -> Iterator[Word]:
    """The accusations of a result that counts or may count again."""
    author, _ = counting.known[batch]
    if counting.may_count(batch, author):
        yield from (word for word in counting.verdicts.others(batch) if counting.is_said(batch, word))


def has_voice(counting: Counting, author: bytes) -> bool:
    """Whether verifiers are asked to look where the author says something is wrong: he is neither on probation nor in
    quarantine, and verifiers did not contradict him too often."""
    if not counting.members.is_admitted(author) or counting.is_unproven(author):
        return False
    balance = sum(_borne_out(counting.verdicts.outcome(batch), word) for batch, word in counting.verdicts.by(author))
    return balance > -VOICE


def _borne_out(outcome: Outcome, word: Word) -> int:
    """1 when verifiers found some of the accused items bad, -1 when they found what they looked at of them right."""
    if word.items & outcome.failed:
        return 1
    return -1 if word.items & outcome.passed else 0


def contradictions(counting: Counting) -> list[Contradiction]:
    """Where verifiers contradict each other, and where an author who has a voice contradicts one; by result."""
    found = []
    for batch in sorted(counting.verdicts.in_question):
        said = pieces(counting.verdicts.rulings(batch))
        wrong = [(piece.author, piece.items) for piece in said if piece.verdict == "bad"]
        wrong += [(w.author, w.items) for w in counting.verdicts.others(batch) if has_voice(counting, w.author)]
        right = [(piece.author, piece.items) for piece in said if piece.verdict == "ok"]
        items = _union(wrong) & _union(right)
        if items:
            found.append(Contradiction(batch, items, _keys(wrong, items), _keys(right, items)))
    return found


def _union(said: list[tuple[bytes, int]]) -> int:
    union = 0
    for _, items in said:
        union |= items
    return union


def _keys(said: list[tuple[bytes, int]], items: int) -> tuple[bytes, ...]:
    return tuple(sorted({author for author, named in said if named & items}))
