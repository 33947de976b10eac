"""What verifiers' words about one result add up to, item by item; and which items of it count then.

Of several words of one verifier on an item the newest counts, then that with the lowest id; but one that says neither
"ok" nor "bad" takes nothing back: who is unsure now may only lack what he had then. An item *failed* when at
least as many verifiers as their role's threshold say that it is bad, and more than say that it is right. It *passed*
when more say that it is right. Whatever else was looked at is *unsure*.

Always holds: everything here is a pure function of the words; the order in which they came plays no part. Items are
bits from the result's offset on.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

ALL = 2**64 - 1
"""Every item of a result."""

FUTURE = 120
"""Seconds a statement may be dated ahead of whoever takes it in: what is dated later than this after a finding was made
after it."""

FRESH = 10
"""One item in so many has to be found right anew, after its author was found wrong, until a result counts again whole:
7 of 64. Fewer would let too much back of what was hidden before (benchmarks.audit_sim); more than 7 of the 8 that
verifiers look at (p2pcap.audit.sampling.FORCED) would let one item that they are unsure of decide."""

CLEARED = 64
"""Items of an author that are found right, one after the other, until his quarantine ends. Whoever makes more than 7 %
bad ones gets as far with a probability of 1 % at most."""


WITNESSES = 2
"""Verifiers who must have found an item bad before it counts towards a ban, if there are so many. What fewer found bad
the others look at."""

FIRST_CAPTIONS, FIRST_CHECKS = 512, 32
SECOND_CAPTIONS, SECOND_SECONDS = 20_000, 7 * 24 * 3_600
"""What tiers 1 and 2 take (p2pcap.ledger.tiers): of 512 captions one in sixteen are 32 checks."""


class Word(NamedTuple):
    """A finding: by whom and when (unix seconds), on which items, and what it says. `rank` orders those of one time."""

    time: int
    rank: bytes
    id: bytes
    author: bytes
    verdict: str
    items: int


class Piece(NamedTuple):
    """What holds of a word: the items on which its author said nothing that goes before it."""

    author: bytes
    verdict: str
    items: int
    time: int


class Outcome(NamedTuple):
    """What a result's checks came to. `open` are those of the unsure items that some verifier found bad, `contested`
    those on which verifiers contradict each other, whoever is right, and `alone` those that failed by the word of fewer
    than WITNESSES. `failed_at`: the newest time, in unix seconds, at which one of the items that failed was found bad;
    0 while none did."""

    passed: int = 0
    failed: int = 0
    unsure: int = 0
    open: int = 0
    contested: int = 0
    failed_at: int = 0
    alone: int = 0

    @property
    def checked(self) -> int:
        """The items that were looked at."""
        return self.passed | self.failed | self.unsure


UNCHECKED = Outcome()


class Doubt(NamedTuple):
    """What is held against an author whose items failed: when the last one was found, and how many of his items were
    found right later than that."""

    since: int
    cleared: int = 0

    @property
    def quarantined(self) -> bool:
        """Whether too few were."""
        return self.cleared < CLEARED


class Ruled(NamedTuple):
    """What rulings, grants and checks make of a result, as bits from its offset on: the items that `counted`, those
    that verifiers found right (`confirmed`), those that `failed`, and those of which they are `unsure`."""

    counted: int = ALL
    confirmed: int = 0
    failed: int = 0
    unsure: int = 0


UNRULED = Ruled()
"""What is made of a result of which nobody said anything."""


DECISIVE = ("ok", "bad")


def pieces(words: Sequence[Word]) -> list[Piece]:
    """What holds of these words on one result."""
    if len(words) == 1:
        (word,) = words
        return [Piece(word.author, word.verdict, word.items, word.time)]
    said: dict[bytes, int] = {}
    found = []
    for word in sorted(words, key=lambda one: (one.verdict in DECISIVE, one), reverse=True):
        items = word.items & ~said.get(word.author, 0)
        if items:
            said[word.author] = said.get(word.author, 0) | items
            found.append(Piece(word.author, word.verdict, items, word.time))
    return found


def outcome_of(words: Sequence[Word], needed: int) -> Outcome:
    """What verifiers' words on one result come to, where `needed` of them make an item bad."""
    said = pieces(words)
    right = [piece.items for piece in said if piece.verdict == "ok"]
    wrong = [piece.items for piece in said if piece.verdict == "bad"]
    checked = _union(piece.items for piece in said)
    if not wrong:
        passed = _union(right)
        return Outcome(passed, 0, checked & ~passed)
    contested = _union(right) & _union(wrong)
    failed = sum(bit for bit in bits(_union(wrong)) if _times(wrong, bit) >= max(needed, _times(right, bit) + 1))
    passed = sum(bit for bit in bits(_union(right)) if _times(right, bit) > _times(wrong, bit))
    times = (piece.time for piece in said if piece.verdict == "bad" and piece.items & failed)
    unsure = checked & ~passed & ~failed
    alone = sum(bit for bit in bits(failed) if _times(wrong, bit) < WITNESSES)
    return Outcome(passed, failed, unsure, unsure & _union(wrong), contested, max(times, default=0), alone)


def passed_after(words: Sequence[Word], outcome: Outcome, time: int) -> int:
    """Those of the items that passed which some verifier found right later than `time`."""
    return outcome.passed & _union(p.items for p in pieces(words) if p.verdict == "ok" and p.time > time)


def counted(items: int, time: int, outcome: Outcome, fresh: int, doubt: Doubt | None) -> int:
    """Which items of a result count that covers `items`, is dated `time`, and whose checks came to `outcome`; `fresh`
    are those that passed later than the doubt. A result in which an item failed counts where it passed, and so does
    everything of an author in doubt, until enough of it was looked at anew."""
    if outcome.failed:
        return outcome.passed
    if doubt is None or (time > doubt.since + FUTURE and not doubt.quarantined):
        return ALL
    return ALL if fresh.bit_count() * FRESH >= items.bit_count() else outcome.passed


def bits(items: int) -> Iterator[int]:
    """The bits that are set, each by itself."""
    while items:
        bit = items & -items
        yield bit
        items &= ~bit


def _times(masks: Iterable[int], bit: int) -> int:
    return sum(1 for mask in masks if mask & bit)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
