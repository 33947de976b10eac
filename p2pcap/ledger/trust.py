"""How authors stand, by the checks of their work: what is shown to people, and what the choice of checks reads.

Always holds: all of it follows from the ledger, so it is the same on every node that holds the same statements. What it
tells decides nothing by itself: what counts is said by p2pcap.ledger.counting, tiers are made by checkpoints.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from p2pcap.ledger import accusations
from p2pcap.ledger.accusations import Contradiction
from p2pcap.ledger.checkpoint import Seals
from p2pcap.ledger.checks import CLEARED, FIRST_CAPTIONS, FIRST_CHECKS, Outcome
from p2pcap.ledger.counting import Counting

DOUBTFUL = 16
"""Captions that verifiers are unsure of, and of fewer that they are right, before it is said: an engine that nobody
measured, or somebody who found a way not to be measured."""


@dataclass(frozen=True)
class Standing:
    """An author's work in items: `captions` he signed, an item as often as he did; of these `checked` by verifiers, who
    found `passed` right, `failed` bad and are `unsure` of the others; `unchecked` is the rest. `tier` is 0, 1 or 2. In
    quarantine only what was found right counts. `why` says in words what keeps his work from counting, or his tier
    from being higher."""

    captions: int = 0
    checked: int = 0
    passed: int = 0
    failed: int = 0
    unsure: int = 0
    unchecked: int = 0
    tier: int = 0
    quarantined: bool = False
    why: str = ""


class Trust:
    """The authors of one ledger, whose parts these are. `sealed_at`: when the newest checkpoint was made, in unix
    seconds."""

    def __init__(self, counting: Counting, seals: Seals) -> None:
        self.sealed_at = 0
        self._counting = counting
        self._seals = seals
        self._captions: dict[bytes, int] = {}

    def made(self, author: bytes, captions: int) -> None:
        """The author signed so many captions more."""
        self._captions[author] = self._captions.get(author, 0) + captions

    # authors

    def standing(self, author: bytes) -> Standing:
        """How the author stands."""
        tally, captions = self._counting.verdicts.tally(author), self._captions.get(author, 0)
        checked = sum(tally)
        return Standing(
            captions,
            checked,
            *tally,
            unchecked=captions - checked,
            tier=self.tier(author),
            quarantined=self._counting.verdicts.is_quarantined(author),
            why=self._why(author),
        )

    def tally(self, author: bytes) -> tuple[int, int, int]:
        """How many of the author's items were found right, bad, and unsure."""
        passed, failed, unsure = self._counting.verdicts.tally(author)
        return passed, failed, unsure

    def unchecked(self, author: bytes) -> int:
        """How many of the author's items nobody looked at."""
        return self._captions.get(author, 0) - sum(self.tally(author))

    def tier(self, author: bytes) -> int:
        """The author's tier: that of the newest checkpoint, and 0 when an item failed since that was made."""
        doubt = self._counting.verdicts.doubt(author)
        if doubt is not None and (doubt.quarantined or doubt.since >= self.sealed_at):
            return 0
        return self._seals.tier(author)

    def last_bad(self, author: bytes) -> int | None:
        """When an item of the author was last found bad, in unix seconds; None: never."""
        doubt = self._counting.verdicts.doubt(author)
        return doubt.since if doubt is not None else None

    @property
    def quarantined(self) -> Iterator[bytes]:
        """Who is in quarantine."""
        return self._counting.verdicts.quarantined

    def _why(self, author: bytes) -> str:
        verdicts, members = self._counting.verdicts, self._counting.members
        tally, doubt, ban = verdicts.tally(author), verdicts.doubt(author), self._counting.rulings.ban(author)
        if ban is not None:
            return f"banned: {ban.reason or 'no reason given'}"
        if not members.is_admitted(author):
            return "not admitted"
        if doubt is not None and doubt.quarantined:
            return (
                f"in quarantine: {_many(tally.failed, 'caption')} found wrong; until {CLEARED} others are found right "
                f"({doubt.cleared} are so far), only those count that were"
            )
        if tally.unsure >= DOUBTFUL and tally.unsure > tally.passed:
            return (
                f"verifiers are unsure of {tally.unsure} of {sum(tally)} captions: ask the maintainer whether this "
                "engine was calibrated"
            )
        if self.tier(author) or not self._counting.project.audits:
            return ""
        if members.is_on_probation(author):
            return "on probation: captions count once a verifier found some of their slice right"
        return f"new: tier 1 takes {FIRST_CAPTIONS} captions that count, {FIRST_CHECKS} of them found right"

    # results

    def outcome(self, id_: bytes) -> Outcome:
        """What the checks of a result came to."""
        return self._counting.verdicts.outcome(id_)

    def found(self, key: bytes, id_: bytes) -> int:
        """The items of a result about which `key` said anything, as bits from its offset on."""
        return self._counting.verdicts.found(key, id_)

    def waits(self, id_: bytes) -> bool:
        """Whether a result counts only once a verifier has found an item of it right: its author is on probation."""
        held = self._counting.known.get(id_)
        return held is not None and self._counting.waits(id_, *held)

    @property
    def accused(self) -> dict[bytes, int]:
        """Results that a verifier should look at, with the items in question as bits from the result's offset on."""
        return accusations.accused(self._counting)

    @property
    def contradictions(self) -> list[Contradiction]:
        """Where verifiers are contradicted, by each other or by authors who have a voice."""
        return accusations.contradictions(self._counting)


def _many(count: int, what: str) -> str:
    return f"1 {what} was" if count == 1 else f"{count} {what}s were"
