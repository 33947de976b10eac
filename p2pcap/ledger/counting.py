"""Which rows count, by everything that was said: bans and voids, checks, grants and checkpoints.

The store has to be told what a statement changes before the ledger takes it in, so each question may also be asked of a
moment that has not come (`Supposed`).

Always holds: nothing is changed here, and no clock is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pcap.ledger.checkpoint import Seals
from p2pcap.ledger.checks import Ruled, Word
from p2pcap.ledger.members import Members
from p2pcap.ledger.records import Result
from p2pcap.ledger.rulings import Rulings
from p2pcap.ledger.verdicts import Known, Rules, Verdicts
from p2pcap.project.opened import Project


@dataclass(frozen=True)
class Supposed:
    """A moment that has not come: what is otherwise than now. `sealed` are the numbers of checkpoints that will seal
    these statements, `tiers` those of the newest checkpoint."""

    rulings: Rulings | None = None
    verdicts: Verdicts | None = None
    sealed: Mapping[bytes, int] = field(default_factory=dict)
    tiers: Mapping[bytes, int] | None = None
    project: Project | None = None


NOW = Supposed()


class Counting:
    """`known` is the ledger's results. `verdicts` is replaced when other keys are verifiers."""

    def __init__(
        self,
        rulings: Rulings,
        seals: Seals,
        members: Members,
        known: Known,
        by_author: Mapping[bytes, dict[bytes, None]],
    ) -> None:
        self.rulings = rulings
        self._seals = seals
        self.members = members
        self.known = known
        self.verdicts = Verdicts(members.project.verifiers_needed, known, by_author, self.rules())

    @property
    def project(self) -> Project:
        """The version of the project in force."""
        return self.members.project

    def counted(self, id_: bytes, author: bytes, result: Result | None = None, then: Supposed = NOW) -> int:
        """Which items of a result count, as bits from its offset on. `author` is empty when nobody knows it yet, and
        `result` may be left out when it is in the set."""
        if not self.may_count(id_, author, then):
            return 0
        if result is None:
            _, result = self.known.get(id_, (b"", None))
        verdicts = then.verdicts or self.verdicts
        counted = verdicts.counted(id_, author, result)
        waits = counted and result is not None and self.waits(id_, author, result, then)
        return 0 if waits else counted

    def may_count(self, id_: bytes, author: bytes, then: Supposed = NOW) -> bool:
        """Whether neither ban nor void nor a want of grants keeps a result from counting."""
        sealed = self._seals.by_id.get(id_, then.sealed.get(id_))
        if not (then.rulings or self.rulings).counts(id_, author, sealed):
            return False
        return not author or self.members.is_admitted(author, then.rulings, then.sealed, then.project)

    def confirmed(self, id_: bytes) -> int:
        """Items of a result that verifiers found right, as bits from its offset on."""
        return self.verdicts.outcome(id_).passed

    def waits(self, id_: bytes, author: bytes, result: Result, then: Supposed = NOW) -> bool:
        """Whether a result counts only once an item of it was found right: its author is on probation, the stage is
        audited, and no checkpoint has sealed it."""
        if result.tid not in (then.project or self.project).audits:
            return False
        if (then.verdicts or self.verdicts).outcome(id_).passed or id_ in self._seals.by_id or id_ in then.sealed:
            return False
        return self.members.is_on_probation(author, then.rulings, then.sealed, then.project, then.tiers)

    def ruled(self, id_: bytes, author: bytes, result: Result | None = None, then: Supposed = NOW) -> Ruled:
        """What is made of a result."""
        outcome = (then.verdicts or self.verdicts).outcome(id_)
        return Ruled(self.counted(id_, author, result, then), outcome.passed, outcome.failed, outcome.unsure)

    def rules(self, then: Supposed = NOW) -> Rules:
        """Tells whose words are rulings."""
        return _Ruling(self, then)

    def is_ruling(self, word: Word, then: Supposed = NOW) -> bool:
        """Whether a word is a ruling: one of the project's verifiers', or what a checkpoint has sealed of others', as
        whoever sealed it had found it valid; of a former key only in its time. A ban takes it away."""
        project = then.project or self.project
        sealed = self._seals.by_id.get(word.id, then.sealed.get(word.id))
        if (then.rulings or self.rulings).is_banned(word.author, sealed):
            return False
        former = project.former.get(word.author)
        in_time = sealed is not None and (former is None or sealed <= former.checkpoint)
        return in_time or word.author in project.verifiers

    def is_said(self, batch: bytes, word: Word) -> bool:
        """Whether a finding belongs to the set: as a ruling, or as an accusation."""
        if self.is_ruling(word):
            return True
        if self.rulings.is_banned(word.author, None) or not self.members.is_admitted(word.author):
            return False
        return word in self.verdicts.others(batch)

    # accusations, and who is believed

    def displaced(self, batch: bytes, word: Word) -> bytes | None:
        """The accusation that makes room for `word`, if it is one: each author has one on a result."""
        if self.is_ruling(word):
            return None
        return next((w.id for w in self.verdicts.others(batch) if w.author == word.author and word.id < w.id), None)

    def is_displaced(self, batch: bytes, word: Word) -> bool:
        """Whether another accusation by the same author on the same result stays instead of `word`."""
        if self.is_ruling(word):
            return False
        return any(one.author == word.author and one.id < word.id for one in self.verdicts.others(batch))

    def is_audited(self, tid: bytes) -> bool:
        """Whether somebody looks at what is captioned in this task."""
        return tid in self.project.audits

    def is_unproven(self, author: bytes) -> bool:
        """Whether what the author says binds nobody yet: he is on probation or in quarantine."""
        return self.verdicts.is_quarantined(author) or self.members.is_on_probation(author)


@dataclass(frozen=True)
class _Ruling:
    counting: Counting
    then: Supposed

    def __call__(self, word: Word) -> bool:
        return self.counting.is_ruling(word, self.then)
