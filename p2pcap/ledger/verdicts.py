"""What is known of authors by the checks of their work: who passed how often, and who is in doubt.

Verifiers look at some items of some results and sign what they find. From an item that failed on, nothing of its author
counts but what was looked at and found right: he is in quarantine, until verifiers have looked at enough of his work
anew (p2pcap.ledger.checks). Nobody has to be asked for that, and no clock: it follows from the findings.

Always holds: all of it is a function of the words heard, of the results, and of whose words are rulings; the order in
which they came plays no part. A trial leaves what it was made from as it is.
"""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import NamedTuple

from p2pcap.ledger.checks import (
    ALL,
    UNCHECKED,
    Doubt,
    Outcome,
    Word,
    counted,
    outcome_of,
    passed_after,
)
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Finding, inverse

Known = Mapping[bytes, tuple[bytes, Result]]
"""Author and header of each result, by its id."""

Rules = Callable[[Word], bool]
"""Whether a word is a verifier's, and counts as such."""


class Tally(NamedTuple):
    """How many items of an author were checked, by what came of it."""

    passed: int = 0
    failed: int = 0
    unsure: int = 0

    def moved(self, before: Outcome, after: Outcome) -> "Tally":
        """After the outcome of one result has changed."""
        return Tally(
            self.passed + after.passed.bit_count() - before.passed.bit_count(),
            self.failed + after.failed.bit_count() - before.failed.bit_count(),
            self.unsure + after.unsure.bit_count() - before.unsure.bit_count(),
        )


class Verdicts:
    """The words on all results. `needed` verifiers make an item bad; `known` and `by_author` are the ledger's results
    and their ids by author."""

    def __init__(
        self, needed: int, known: Known, by_author: Mapping[bytes, Mapping[bytes, None]], rules: Rules
    ) -> None:
        self._needed = needed
        self._known = known
        self._by_author = by_author
        self._rules = rules
        self._words: MutableMapping[bytes, tuple[Word, ...]] = {}
        self._outcomes: MutableMapping[bytes, Outcome] = {}
        self._tallies: MutableMapping[bytes, Tally] = {}
        self._doubts: MutableMapping[bytes, Doubt | None] = {}
        self._open: MutableMapping[bytes, bool] = {}
        self._alone: MutableMapping[bytes, bool] = {}
        self._ids: MutableMapping[bytes, bytes] = {}
        self._looked: MutableMapping[bytes, int] = {}

    # taking words in

    def trial(self) -> "Verdicts":
        """The same, to which words may be added without changing this one."""
        trial = Verdicts(self._needed, self._known, self._by_author, self._rules)
        trial._words = ChainMap({}, self._words)
        trial._outcomes = ChainMap({}, self._outcomes)
        trial._tallies = ChainMap({}, self._tallies)
        trial._doubts = ChainMap({}, self._doubts)
        trial._open = ChainMap({}, self._open)
        trial._alone = ChainMap({}, self._alone)
        trial._ids = ChainMap({}, self._ids)
        trial._looked = ChainMap({}, self._looked)
        return trial

    def under(self, rules: Rules) -> "Verdicts":
        """The same words, where other ones are verifiers'. It takes as long as there are words."""
        other = Verdicts(self._needed, self._known, self._by_author, rules)
        for batch, words in self._words.items():
            other._words[batch] = words
            other._settle(batch)
        other._ids, other._looked = dict(self._ids), dict(self._looked)
        return other

    def add(self, batch: bytes, word: Word) -> bool:
        """One more word on a result. Returns whether its author is in doubt now and was not, or more, or less."""
        self._ids[word.id] = batch
        self._looked[word.author] = self._looked.get(word.author, 0) + word.items.bit_count()
        self._words[batch] = (*self._words.get(batch, ()), word)
        return self._settle(batch)

    def joined(self, id_: bytes, author: bytes) -> bool:
        """A result of `author` is known now, on which words may have come before. Returns as `add` does."""
        outcome = self._outcomes.get(id_)
        return outcome is not None and self._count(author, UNCHECKED, outcome)

    def _settle(self, batch: bytes) -> bool:
        before = self._outcomes.get(batch, UNCHECKED)
        after = outcome_of([word for word in self._words[batch] if self._rules(word)], self._needed)
        accused = any(not self._rules(word) for word in self._words[batch])
        if after != UNCHECKED or before != UNCHECKED:
            self._outcomes[batch] = after
        if accused or after.open or after.contested or batch in self._open:
            self._open[batch] = accused or bool(after.open or after.contested)
        if after.alone or batch in self._alone:
            self._alone[batch] = bool(after.alone)
        author, _ = self._known.get(batch, (b"", None))
        return bool(author) and self._count(author, before, after)

    def _count(self, author: bytes, before: Outcome, after: Outcome) -> bool:
        tally = self._tallies.get(author, Tally()).moved(before, after)
        self._tallies[author] = tally
        held = self._doubts.get(author)
        if not tally.failed and held is None:
            return False
        self._doubts[author] = self._doubt_of(author) if tally.failed else None
        return self._doubts[author] != held

    def _doubt_of(self, author: bytes) -> Doubt:
        checked = [(id_, self._outcomes[id_]) for id_ in self._by_author[author] if id_ in self._outcomes]
        since = max(outcome.failed_at for _, outcome in checked)
        return Doubt(since, sum(self._fresh(id_, outcome, since).bit_count() for id_, outcome in checked))

    def _fresh(self, id_: bytes, outcome: Outcome, since: int) -> int:
        return passed_after(self.rulings(id_), outcome, since)

    # what follows

    def outcome(self, id_: bytes) -> Outcome:
        """What the checks of a result came to."""
        return self._outcomes.get(id_, UNCHECKED)

    def counted(self, id_: bytes, author: bytes, result: Result | None) -> int:
        """Which items of a result count by its checks, as bits from its offset on."""
        outcome, doubt = self._outcomes.get(id_, UNCHECKED), self._doubts.get(author)
        if result is None or (doubt is None and not outcome.failed):
            return ALL
        fresh = self._fresh(id_, outcome, doubt.since) if doubt is not None and outcome.passed else 0
        return counted(result.items, result.time, outcome, fresh, doubt)

    def tally(self, author: bytes) -> Tally:
        """How many of the author's items were checked, by what came of it."""
        return self._tallies.get(author, Tally())

    def doubt(self, author: bytes) -> Doubt | None:
        """What is held against the author; None while nothing of his failed."""
        return self._doubts.get(author)

    def last_bad(self, author: bytes) -> int | None:
        """When an item of the author was last found bad, in unix seconds; None: never."""
        doubt = self._doubts.get(author)
        return doubt.since if doubt is not None else None

    def is_quarantined(self, author: bytes) -> bool:
        """Whether only what was looked at counts of the author's work."""
        doubt = self._doubts.get(author)
        return doubt is not None and doubt.quarantined

    @property
    def quarantined(self) -> Iterator[bytes]:
        """Who is in quarantine."""
        return (author for author, doubt in self._doubts.items() if doubt is not None and doubt.quarantined)

    @property
    def doubted(self) -> Iterator[bytes]:
        """Authors of whose work something failed."""
        return (author for author, doubt in self._doubts.items() if doubt is not None)

    def passed(self) -> list[bytes]:
        """Results of which an item was found right."""
        return [id_ for id_, outcome in self._outcomes.items() if outcome.passed]

    # the words themselves

    def is_ruling(self, word: Word) -> bool:
        """Whether a word is a verifier's, and counts as such."""
        return self._rules(word)

    def has(self, id_: bytes) -> bool:
        """Whether a finding was heard."""
        return id_ in self._ids

    def word(self, id_: bytes) -> Word | None:
        """The finding with this id."""
        return next((word for word in self._words.get(self._ids.get(id_, b""), ()) if word.id == id_), None)

    def speaks(self, key: bytes) -> bool:
        """Whether `key` signed any finding."""
        return key in self._looked

    def looked_at(self, key: bytes) -> int:
        """Items that `key` said something about, as often as it did."""
        return self._looked.get(key, 0)

    def words(self, batch: bytes) -> tuple[Word, ...]:
        """All words on a result."""
        return self._words.get(batch, ())

    def rulings(self, batch: bytes) -> list[Word]:
        """The verifiers' words on a result."""
        return [word for word in self._words.get(batch, ()) if self._rules(word)]

    def others(self, batch: bytes) -> list[Word]:
        """The words on a result that are no verifier's: at most one of an author, that with the lowest id."""
        found: dict[bytes, Word] = {}
        for word in self._words.get(batch, ()):
            if word.verdict == "bad" and not self._rules(word):
                held = found.get(word.author)
                found[word.author] = word if held is None else min(held, word, key=lambda one: one.id)
        return list(found.values())

    def found(self, key: bytes, batch: bytes) -> int:
        """The items of a result about which `key` said anything, as bits from its offset on."""
        items = 0
        for word in self._words.get(batch, ()):
            items |= word.items if word.author == key else 0
        return items

    def by(self, key: bytes) -> Iterator[tuple[bytes, Word]]:
        """The results about which `key` said something, with the words. It takes as long as there are words of
        anybody, unless it said none."""
        everything = self._words.items() if self.speaks(key) else ()
        return ((batch, word) for batch, words in everything for word in words if word.author == key)

    @property
    def in_question(self) -> Iterator[bytes]:
        """Results that somebody accuses, or about which verifiers do not agree."""
        return (batch for batch, is_open in self._open.items() if is_open)

    @property
    def by_few(self) -> Iterator[bytes]:
        """Results of which items failed by the word of fewer than WITNESSES."""
        return (batch for batch, is_alone in self._alone.items() if is_alone)

    def changed(self, other: "Verdicts") -> set[bytes]:
        """The results of which the two may not say the same."""
        ids = {id_ for id_ in {*self._outcomes, *other._outcomes} if self.outcome(id_) != other.outcome(id_)}
        authors = (author for author in {*self._doubts, *other._doubts} if self.doubt(author) != other.doubt(author))
        return ids.union(*(self._by_author.get(author, ()) for author in authors))


def word_of(id_: bytes, author: bytes, finding: Finding) -> Word:
    """A finding with the statement id `id_`, signed by `author`."""
    items = int.from_bytes(finding.items, "little")
    return Word(finding.time, inverse(id_), id_, author, finding.verdict, items)
