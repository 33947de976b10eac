"""Bans and voids that follow from findings: when they are due, signed once, and never again what was forgiven."""

from collections.abc import Sequence

import msgspec
import pytest

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger import due as rules
from p2pcap.ledger.due import due
from p2pcap.ledger.rulings import Ban, Void
from p2pcap.ledger.state import Ledger
from p2pcap.project.records import Policy
from tests.audited import AUDIT, Audited, audited, finding, slice_of
from tests.makers import ADA, BOB, COORDINATOR, NOW
from tests.unit.test_trust import known, tell

VERA, VIC = (Identity.from_seed(letter * 32) for letter in (b"v", b"w"))
MADE = audited((1_024, 1_024), verifiers=(VERA.public,))
ADAS = [slice_of(MADE, ADA, 0, number) for number in range(8)]
LATER = NOW + 5_000


def found(made: Audited = MADE, times: Sequence[int] = (1, 2, 3, 4)) -> Ledger:
    """A ledger in which one item of each of several of Ada's results failed, at these times."""
    adas = [slice_of(made, ADA, 0, number) for number in range(8)]
    words = [finding(VERA, one, "bad", 1, NOW + time) for one, time in zip(adas, times, strict=False)]
    return known(*adas, *words, project=made.project)


def signed(ledger: Ledger, rulings: Sequence[Ban | Void]) -> list[Envelope]:
    """What is due, signed and taken in."""
    said = [seal(COORDINATOR, "ban" if isinstance(one, Ban) else "void", one) for one in rulings]
    assert [tell(ledger, one) for one in said] == [""] * len(said)
    return said


def test_a_ban_is_due_when_as_many_failed_as_no_honest_author_reaches() -> None:
    assert AUDIT.bans_at == 4
    assert due(found(times=(1, 2, 3)), LATER) == []
    ledger = found()
    (ban,) = due(ledger, LATER)
    assert isinstance(ban, Ban)
    assert (ban.author, ban.version, ban.after, ban.scope, ban.time) == (ADA.public, 1, 0, "unsealed", LATER)
    assert ban.reason == "4 of 4 checked captions are wrong"
    assert len(ban.evidence) == 4
    assert all(ledger.verdicts.word(id_) for id_ in ban.evidence)
    signed(ledger, [ban])
    assert due(ledger, LATER) == [], "once"
    assert not ledger.counts(ADAS[7].id, ADA.public)


def test_only_so_many_checks_one_after_the_other_are_held_against_an_author(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "CHECKS", 8)
    ledger = found(times=(1, 2, 30, 40))
    tell(ledger, finding(VERA, ADAS[7], "ok", 0b1111110, NOW + 10))
    assert due(ledger, LATER) == [], "two in the first eight, two in the next"


def test_a_result_that_fails_as_a_whole_is_enough() -> None:
    ledger = known(*ADAS, finding(VERA, ADAS[0], "bad", 2**64 - 1, NOW), project=MADE.project)
    ban, void = due(ledger, LATER)
    assert isinstance(ban, Ban)
    assert isinstance(void, Void)
    assert void.batches == (ADAS[0].id,)
    assert void.evidence == ban.evidence
    signed(ledger, [ban, void])
    assert due(ledger, LATER) == []


def test_what_a_lifted_ban_was_for_is_forgiven() -> None:
    ledger = found()
    signed(ledger, due(ledger, LATER))
    lift = Ban(MADE.project.m, ADA.public, 2, 0, "none", "his GPU was broken", (), LATER + 1)
    tell(ledger, seal(COORDINATOR, "ban", lift))
    assert due(ledger, LATER + 2) == []
    for one in ADAS[4:]:
        tell(ledger, finding(VERA, one, "bad", 1, LATER + 5))
    (ban,) = due(ledger, LATER + 9)
    assert isinstance(ban, Ban)
    assert ban.version == 3


TWO = audited((1_024, 1_024), verifiers=(VERA.public, VIC.public))


def test_of_two_verifiers_one_alone_gets_nobody_banned() -> None:
    ledger = found(TWO)
    assert due(ledger, LATER) == []
    assert ledger.verdicts.is_quarantined(ADA.public)
    adas = [slice_of(TWO, ADA, 0, number) for number in range(8)]
    assert ledger.trust.accused == {one.id: 1 for one in adas[:4]}, "the other one is to look"
    for one in adas[:3]:
        tell(ledger, finding(VIC, one, "bad", 1, NOW + 50))
    assert due(ledger, LATER) == []
    tell(ledger, finding(VIC, adas[3], "bad", 1, NOW + 50))
    (ban,) = due(ledger, LATER)
    assert isinstance(ban, Ban)
    assert ban.reason == "4 of 4 checked captions are wrong"


def test_one_alone_may_ban_where_the_other_was_never_chosen() -> None:
    """The coordinator is a verifier for want of another, and has no engine."""
    assert MADE.project.verifiers == {COORDINATOR.public, VERA.public}
    assert MADE.project.named_verifiers == {VERA.public}
    assert due(found(MADE), LATER)


def test_what_one_alone_found_bad_is_looked_at_though_its_author_is_banned() -> None:
    ledger = found()
    signed(ledger, due(ledger, LATER))
    assert set(ledger.trust.accused) == {one.id for one in ADAS[:4]}
    newer = MADE.again(msgspec.structs.replace(MADE.project.plan, verifiers=(VERA.public, VIC.public)))
    ledger.adopt(newer)
    assert tell(ledger, finding(VIC, ADAS[0], "ok", 1, LATER + 1)) == ""
    (contradiction,) = ledger.trust.contradictions
    assert contradiction == (ADAS[0].id, 1, (VERA.public,), (VIC.public,))


def test_where_people_alone_ban_nothing_is_due() -> None:
    assert due(found(audited((1_024,), Policy(bans=False), (VERA.public,))), LATER) == []


def test_accusations_and_stages_that_nobody_checks_make_no_ban() -> None:
    ledger = known(*ADAS, *(finding(BOB, one, "bad", 1, NOW) for one in ADAS), project=MADE.project)
    assert due(ledger, LATER) == []
    bare = msgspec.structs.replace(MADE.project.stages[0], audit=msgspec.UNSET)
    ledger = found()
    ledger.adopt(MADE.again(msgspec.structs.replace(MADE.project.plan, stages=(bare,))))
    assert due(ledger, LATER) == []


def test_what_is_due_fits_a_statement() -> None:
    ledger = known(*ADAS, *(finding(VERA, one, "bad", 2**64 - 1, NOW) for one in ADAS), project=MADE.project)
    for ruling in due(ledger, LATER):
        envelope = seal(COORDINATOR, "ban" if isinstance(ruling, Ban) else "void", ruling)
        assert len(envelope.payload) <= 1_024
        assert decode(envelope.payload, type(ruling)) == ruling
