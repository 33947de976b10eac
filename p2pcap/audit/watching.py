"""Which results a node is to check: what follows from its own draws, from accusations, and from what looks odd.

Verifiers draw by the author's tier and look at whatever gives cause. Any other volunteer draws a few items, so that a
verifier's lies are seen.

Pure: time is passed in. Always holds: nobody's own results are among what it checks, nor what it has found before;
where a stage has no calibration nothing is checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from p2pcap.audit.agenda import Agenda, Pick, Why
from p2pcap.audit.plausibility import Habits
from p2pcap.audit.sampling import FIRST, FORCED, drawn, drawn_first, peer_share, share_of
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.project.audit import Audit

RIVALS = 64
"""Results of a chunk that are looked at for items that two authors have: more are a flood, and are sampled like others.
"""


PAUSE, DOUBLINGS = 600.0, 7
"""Seconds until an author in quarantine is reviewed again after another bad item, and how often that doubles: up to
every 21 hours."""


@dataclass(frozen=True)
class Review:
    """Of an author in quarantine: the time of the last bad item that was known, how many reviews were begun anew, and
    when this one begins. Times are unix seconds."""

    since: int | None
    rounds: int
    begins: float


class Company(Protocol):
    """Who else is there, as far as this node knows."""

    @property
    def engines(self) -> int:
        """Ready engines, this node's included; at least 1."""

    @property
    def verifiers(self) -> int:
        """Verifiers whose engines are ready, this node included if it is one."""


class Watch:
    """The results of one project, as the author `me` looks at them."""

    def __init__(self, me: bytes, ledger: Ledger, secret: bytes, company: Company) -> None:
        self._me = me
        self._ledger = ledger
        self._secret = secret
        self._company = company
        self._agendas: dict[bytes, Agenda] = {}
        self._habits: dict[bytes, Habits] = {}
        self._first: dict[tuple[bytes, bytes], bytes] = {}
        self._reviews: dict[bytes, Review] = {}
        self._accused: dict[bytes, int] = {}
        """Items that were put down because somebody accuses them."""

    @property
    def is_verifier(self) -> bool:
        """Whether this node's findings are rulings."""
        return self._me in self._ledger.project.verifiers

    def audit_of(self, tid: bytes) -> Audit | None:
        """How the answers to a task are checked; None: not at all."""
        return self._ledger.project.audits.get(tid)

    def agenda(self, tid: bytes) -> Agenda:
        """What is to be checked in a task."""
        return self._agendas.setdefault(tid, Agenda())

    def needs_body(self, id_: bytes) -> bool:
        """Whether the body of a result that does not count is needed all the same, to be checked."""
        if not self.is_verifier or id_ not in self._ledger.results:
            return False
        author, result = self._ledger.results[id_]
        trust = self._ledger.trust
        waits = trust.waits(id_) or self._ledger.verdicts.is_quarantined(author)
        return waits and author != self._me and self.audit_of(result.tid) is not None

    @property
    def waiting(self) -> int:
        """Results of which something is to be checked, now or later."""
        return sum(map(len, self._agendas.values()))

    def is_due(self, tid: bytes) -> bool:
        """Whether something of a task is to be checked now."""
        return tid in self._agendas and self._agendas[tid].due

    # what comes

    def heard(self, id_: bytes, author: bytes, result: Result, rows: Sequence[Row], now: float) -> None:
        """A result's body came at `now` (unix seconds)."""
        if author == self._me or self.audit_of(result.tid) is None:
            return
        self.look(id_, now)
        if self.is_verifier and self._habits.setdefault(result.tid, Habits()).look(author, result, rows, now):
            self._force(id_, "suspicious", FORCED)

    def look(self, id_: bytes, now: float) -> None:
        """A result whose body was checked here: draw from it."""
        author, result = self._ledger.results[id_]
        if author == self._me or self.audit_of(result.tid) is None:
            return
        self._put(id_, drawn(self._secret, id_, _covered(result), self._share(author)), "sampled")
        if not self.is_verifier:
            return
        if self.is_trusted(author):  # of others' results the review tells enough
            self._put(id_, 0, "duplicate", self._shared(author, result))
        if self._ledger.verdicts.is_quarantined(author):
            self._plan_review(author, now)
            self._review(id_, author)
        elif self._is_first(id_, author, result):
            self._force(id_, "first", FIRST)
        elif self._ledger.trust.waits(id_):
            self._force(id_, "waiting", 1)
        outcome = self._ledger.trust.outcome(id_)
        self._accuse(id_, outcome.open | outcome.alone)  # verifiers' words may have come before the result

    def look_again(self, now: float) -> None:
        """Rulings have come: look at what they ask for."""
        if not self.is_verifier:
            return
        trust = self._ledger.trust
        for id_, items in trust.accused.items():
            self._accuse(id_, items)
        for author in trust.quarantined:
            self._plan_review(author, now)

    def _accuse(self, id_: bytes, items: int) -> None:
        """Somebody says that these items are bad, or verifiers contradict each other about them."""
        if id_ in self._ledger.results:
            new = items & ~self._accused.get(id_, 0)
            self._accused[id_] = self._accused.get(id_, 0) | items
            self._put(id_, new, "accused")

    def _plan_review(self, author: bytes, now: float) -> None:
        """Whoever is in quarantine has all his results looked at. After another bad one that begins anew, as nothing
        found before counts then; and each time after a longer pause, so that a cheat does not keep verifiers busy."""
        if author == self._me or self._ledger.rulings.ban(author) is not None:
            return
        last, review = self._ledger.trust.last_bad(author), self._reviews.get(author)
        if review is not None and review.since == last:
            return
        rounds = review.rounds + 1 if review is not None else 0
        begins = now if review is None else now + PAUSE * 2 ** min(rounds - 1, DOUBLINGS)
        self._reviews[author] = Review(last, rounds, begins)
        for agenda in self._agendas.values():
            agenda.drop(author, "quarantined")
        for id_ in self._ledger.results_of(author):
            self._review(id_, author)

    def _review(self, id_: bytes, author: bytes) -> None:
        """A result of an author in quarantine: a few of its items, drawn anew since the last bad one, as what was
        drawn before says nothing any more."""
        result, review = self._ledger.results[id_][1], self._reviews.get(author)
        if review is None or self._ledger.held(id_) is None or self.audit_of(result.tid) is None:
            return
        salt = (review.since or 0).to_bytes(8, "big")
        unknown = _covered(result) & ~self._ledger.trust.outcome(id_).failed
        pick = Pick(id_, author, drawn_first(self._secret + salt, id_, unknown, FORCED), "quarantined")
        self.agenda(result.tid).rest(pick, review.begins)

    def doubt_errors(self, id_: bytes) -> None:
        """An error of a result had an answer here. One says little, so its other errors are looked at too."""
        held = self._ledger.held(id_)
        if held is not None and self.is_verifier:
            self._put(id_, drawn_first(self._secret, id_, held.errors >> held.offset, FORCED), "suspicious")

    # what follows from it

    def _share(self, author: bytes) -> float:
        if self.is_verifier:
            return share_of(self._ledger.trust.tier(author), self._company.verifiers)
        return peer_share(self._ledger.project.plan.policy.checks_one_in, self._company.engines)

    def _force(self, id_: bytes, why: Why, count: int) -> None:
        self._put(id_, drawn_first(self._secret, id_, _covered(self._ledger.results[id_][1]), count), why)

    def _put(self, id_: bytes, items: int, why: Why, shared: int = 0) -> None:
        """Have items checked that this node has not found anything about, of a result that it may judge; those of
        `shared` only where another author says something else."""
        author, result = self._ledger.results.get(id_, (self._me, None))
        if result is None or author == self._me or self.audit_of(result.tid) is None:
            return
        new = _covered(result) & ~self._ledger.trust.found(self._me, id_)
        if (items | shared) & new:
            self.agenda(result.tid).put(Pick(id_, author, items & new, why, shared=shared & new & ~items))

    def _is_first(self, id_: bytes, author: bytes, result: Result) -> bool:
        """Whether it is the author's first result in its task, of those known when the first of them was looked at."""
        key = author, result.tid
        if key not in self._first:
            results = ((one, self._ledger.results[one][1]) for one in self._ledger.results_of(author))
            self._first[key] = min((other.time, one) for one, other in results if other.tid == result.tid)[1]
        return self._first[key] == id_

    def _shared(self, author: bytes, result: Result) -> int:
        """Items that a result of another author has as well, as bits from the result's offset on; of those results
        RIVALS are looked at. Where chance decides what an answer says, two say different things and both are right."""
        audit = self.audit_of(result.tid)
        if audit is None or audit.method != "tokens":
            return 0
        batches = self._ledger.works[result.tid].rows.batches(result.chunk).values()
        theirs = 0
        for held in islice(batches, RIVALS):
            if held.author != author and self.is_trusted(held.author):
                theirs |= held.items
        return (result.items & theirs) >> result.offset

    def is_trusted(self, author: bytes) -> bool:
        """Whether an author's word says anything about another's."""
        return self._ledger.rulings.ban(author) is None and not self._ledger.verdicts.is_quarantined(author)


def _covered(result: Result) -> int:
    """The items that a result covers, as bits from its offset on."""
    return int.from_bytes(result.mask, "little")
