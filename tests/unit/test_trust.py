"""How authors stand by what verifiers found: quarantine, tiers, probation, accusations; the same in any order."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.accusations import OPEN, VOICE
from p2pcap.ledger.checkpoint import Checkpoint, Seal, open_tiers
from p2pcap.ledger.checks import ALL, FUTURE, Outcome, Ruled, Word, outcome_of
from p2pcap.ledger.grants import grant_by
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.puzzle import Solution
from p2pcap.ledger.records import Grant, Result
from p2pcap.ledger.rulings import Ban, Finding, inverse
from p2pcap.ledger.sealing import NOBODY, make, sealable
from p2pcap.ledger.standing import after_adoption, after_ruling, after_seal
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.tiers import tiers
from p2pcap.ledger.validate import validate
from p2pcap.project.opened import Project
from p2pcap.project.records import Policy
from tests.audited import audited, finding, slice_of
from tests.makers import ADA, BOB, COORDINATOR, EVE, NOW, claim_record, ledger_of, work_of

VERA, VIC = (Identity.from_seed(letter * 32) for letter in (b"v", b"w"))
"""Verifiers whom the plan names."""

MADE = audited((1_024, 1_024), verifiers=(VERA.public, VIC.public))
PROJECT = MADE.project
ADAS = [slice_of(MADE, ADA, 0, number) for number in range(4)]
WHOLE = 2**64 - 1


def known(*envelopes: Envelope, project: Project = PROJECT, authors: Sequence[Identity] = (ADA, BOB, EVE)) -> Ledger:
    """A ledger that was told all this, bodies included."""
    ledger = ledger_of(project, *authors)
    for envelope in envelopes:
        tell(ledger, envelope)
    return ledger


def tell(ledger: Ledger, envelope: Envelope, now: float = NOW + 100_000) -> str:
    """What a node does with a statement; why not, if it does nothing."""
    judgement = validate(ledger, envelope.data, now)
    if judgement.verdict is Verdict.ACCEPT:
        ledger.hear(envelope, judgement.record, now)
        ledger.add(envelope, judgement.record)
        if isinstance(judgement.record, Result):
            ledger.complete(envelope.id, envelope.author, judgement.record, 0)
    return "" if judgement.verdict is Verdict.ACCEPT else judgement.reason


def done(ledger: Ledger, chunk: int = 0) -> int:
    return work_of(ledger).done.get(chunk, 0)


# one result


def word(verdict: str, items: int, time: int = 1, by: bytes = b"v", id_: bytes = b"i") -> Word:
    return Word(time, inverse(id_.ljust(32)), id_.ljust(32), by, verdict, items)


def test_of_several_words_of_a_verifier_the_newest_counts() -> None:
    outcome = outcome_of([word("bad", 0b11), word("ok", 0b01, 2)], 1)
    assert (outcome.passed, outcome.failed, outcome.failed_at) == (0b01, 0b10, 1)
    assert outcome_of([word("ok", 1, id_=b"a"), word("bad", 1, id_=b"b")], 1).passed == 1, "the lower id"


def test_as_many_verifiers_as_are_asked_make_an_item_bad() -> None:
    one = outcome_of([word("bad", 1)], 2)
    assert (one.failed, one.unsure, one.open) == (0, 1, 1)
    assert outcome_of([word("bad", 1), word("bad", 1, by=b"w")], 2).failed == 1
    tied = outcome_of([word("bad", 1), word("ok", 1, by=b"w")], 1)
    assert (tied.failed, tied.passed, tied.open, tied.contested) == (0, 0, 1, 1)
    outvoted = outcome_of([word("bad", 1), word("ok", 1, by=b"w"), word("ok", 1, by=b"x")], 1)
    assert (outvoted.failed, outvoted.passed, outvoted.open, outvoted.contested) == (0, 1, 0, 1)


def test_words_that_say_neither_leave_an_item_unsure() -> None:
    for verdict in ("differs", "unsure"):
        assert outcome_of([word(verdict, 0b101)], 1) == Outcome(unsure=0b101)


@given(
    st.lists(
        st.builds(
            word,
            st.sampled_from(["ok", "bad", "unsure"]),
            st.integers(1, 15),
            st.integers(1, 3),
            st.sampled_from([b"v", b"w", b"x"]),
            st.binary(min_size=1, max_size=1),
        ),
        max_size=6,
        unique_by=lambda one: one.id,
    ),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_every_item_has_one_outcome_whatever_the_order(words: list[Word], needed: int, rng: random.Random) -> None:
    outcome = outcome_of(words, needed)
    assert outcome == outcome_of(rng.sample(words, len(words)), needed)
    parts = (outcome.passed, outcome.failed, outcome.unsure)
    assert sum(map(int.bit_count, parts)) == outcome.checked.bit_count()
    assert outcome.open & ~outcome.unsure == 0
    assert bool(outcome.failed) == bool(outcome.failed_at)


# quarantine


def test_from_a_bad_item_on_only_what_was_found_right_counts() -> None:
    ledger = known(*ADAS, slice_of(MADE, BOB, 0, 4))
    assert done(ledger) == 2**320 - 1
    tell(ledger, finding(VERA, ADAS[0], "ok", 0b111))
    tell(ledger, finding(VERA, ADAS[1], "bad", 0b1000, NOW + 10))
    assert done(ledger) == 0b111 | (2**64 - 1) << 256
    standing = ledger.trust.standing(ADA.public)
    assert (standing.captions, standing.checked, standing.passed, standing.failed) == (256, 4, 3, 1)
    assert (standing.unchecked, standing.tier, standing.quarantined) == (252, 0, True)
    assert "1 caption was found wrong" in standing.why
    assert work_of(ledger).open_items(0, NOW, BOB.public) == (2**1024 - 1) & ~done(ledger), "it is to be done again"
    assert not work_of(ledger).open_items(0, NOW, ADA.public) & 2**256 - 1, "but not by Ada"
    assert [*ledger.trust.quarantined] == [ADA.public]


def test_a_result_counts_again_once_enough_of_it_was_looked_at_later() -> None:
    ledger = known(*ADAS, finding(VERA, ADAS[0], "ok", 0b1111), finding(VERA, ADAS[1], "bad", 1, NOW + 10))
    tell(ledger, finding(VERA, ADAS[2], "ok", 0b111111, NOW + 11))
    assert done(ledger) == 0b1111 | 0b111111 << 128, "six of 64 are not enough"
    tell(ledger, finding(VERA, ADAS[2], "ok", 0b1000000, NOW + 12))
    assert done(ledger) == 0b1111 | WHOLE << 128
    tell(ledger, finding(VERA, ADAS[0], "ok", 0b1111111, NOW + 13))
    assert done(ledger) == WHOLE | WHOLE << 128, "what was right before was looked at again"
    tell(ledger, finding(VERA, ADAS[3], "bad", 1, NOW + 14))
    assert done(ledger) == 0b1111111 | 0b1111111 << 128, "and everything begins anew"


def test_quarantine_ends_after_enough_later_checks() -> None:
    bad = finding(VERA, ADAS[0], "bad", 1, NOW + 10)
    late = slice_of(MADE, ADA, 0, 8, NOW + 10 + FUTURE + 1)
    early = slice_of(MADE, ADA, 0, 9, NOW + 10 + FUTURE)
    ledger = known(*ADAS, bad, late, early)
    assert done(ledger) == 0
    tell(ledger, finding(VERA, ADAS[1], "ok", WHOLE >> 1, NOW + 20))
    assert done(ledger) == WHOLE << 64
    tell(ledger, finding(VERA, ADAS[2], "ok", 1, NOW + 20))
    assert not ledger.trust.standing(ADA.public).quarantined
    assert done(ledger) == WHOLE << 64 | 1 << 128 | WHOLE << 512, "what is older still has to be looked at"


def test_a_verifier_may_take_his_word_back() -> None:
    ledger = known(*ADAS, finding(VERA, ADAS[1], "bad", 1, NOW + 10))
    assert done(ledger) == 0
    tell(ledger, finding(VERA, ADAS[1], "ok", 1, NOW + 11))
    assert done(ledger) == 2**256 - 1
    assert ledger.trust.last_bad(ADA.public) is None


def test_a_second_verifier_who_finds_it_right_ends_it() -> None:
    ledger = known(*ADAS, finding(VERA, ADAS[1], "bad", 0b11, NOW + 10))
    tell(ledger, finding(VIC, ADAS[1], "ok", 0b11, NOW + 5))
    assert done(ledger) == 2**256 - 1
    (contradiction,) = ledger.trust.contradictions
    assert contradiction == (ADAS[1].id, 0b11, (VERA.public,), (VIC.public,))
    assert ledger.trust.accused == {ADAS[1].id: 0b11}


def test_sealed_results_are_no_shelter() -> None:
    ledger = known(*ADAS)
    sealed(ledger, [one.id for one in ADAS])
    tell(ledger, finding(VERA, ADAS[1], "bad", 1, NOW + 10))
    assert done(ledger) == 0
    assert not any(id_ == ADAS[0].id for _, id_ in sealable(ledger, NOW + 10_000))


def sealed(ledger: Ledger, ids: Sequence[bytes], found: dict[bytes, int] | None = None, time: int = NOW) -> None:
    number = ledger.seals.head + 1
    record = Checkpoint(ledger.project.m, number, ledger.seals.head_hash, (), NOBODY, NOBODY, bytes(32), 0, 0, time)
    envelope = seal(COORDINATOR, "checkpoint", record)
    ledger.add(envelope, record)
    ledger.seal(record, Seal(number, envelope.payload_hash, bytes(32), found or {}), ids)


# whose word it is


def test_a_removed_verifiers_unsealed_word_counts_no_more() -> None:
    bad, right = finding(VIC, ADAS[1], "bad", 1, NOW + 10), finding(VIC, ADAS[0], "ok", 1)
    ledger = known(*ADAS, right)
    sealed(ledger, [right.id])
    tell(ledger, bad)
    assert done(ledger) == 1
    plan = msgspec.structs.replace(PROJECT.plan, verifiers=(VERA.public,))
    without = MADE.again(plan)
    changes = after_adoption(ledger, without)
    ledger.adopt(without)
    assert done(ledger) == 2**256 - 1
    assert {id_ for id_, ruled in changes.items() if ruled.counted == ALL} == {one.id for one in ADAS}
    assert ledger.trust.outcome(ADAS[0].id).passed == 1, "what was sealed stays"
    assert bad.id not in ledger.index
    assert right.id in ledger.index
    ledger.adopt(MADE.again(PROJECT.plan, 3))
    assert done(ledger) == 1
    assert bad.id in ledger.index


def test_a_ban_takes_a_verifiers_words_away() -> None:
    ledger = known(*ADAS, finding(VIC, ADAS[1], "bad", 1, NOW + 10))
    ban = Ban(PROJECT.m, VIC.public, 1, 0, "all", "he lies", (), NOW)
    envelope = seal(COORDINATOR, "ban", ban)
    changes = after_ruling(ledger, envelope.id, envelope.author, ban)
    tell(ledger, envelope)
    assert done(ledger) == 2**256 - 1
    assert changes == {one.id: Ruled() for one in ADAS}
    assert tell(ledger, finding(VIC, ADAS[2], "bad", 1)) == "banned"


# accusations


def test_an_accusation_decides_nothing_and_makes_a_verifier_look() -> None:
    ledger = known(*ADAS, finding(BOB, ADAS[1], "bad", 0b11))
    assert done(ledger) == 2**256 - 1
    assert ledger.trust.accused == {ADAS[1].id: 0b11}
    tell(ledger, finding(VERA, ADAS[1], "ok", 0b01, NOW + 1))
    assert ledger.trust.accused == {ADAS[1].id: 0b10}
    (contradiction,) = ledger.trust.contradictions
    assert (contradiction.bad, contradiction.ok) == ((BOB.public,), (VERA.public,))


def test_whom_verifiers_contradict_loses_his_voice() -> None:
    ledger = known(*ADAS, *(finding(BOB, one, "bad", 1) for one in ADAS))
    for one in ADAS[:VOICE]:
        assert ADAS[3].id in ledger.trust.accused
        tell(ledger, finding(VERA, one, "ok", 1, NOW + 1))
    assert ledger.trust.accused == {}
    assert ledger.trust.contradictions == []
    tell(ledger, finding(EVE, ADAS[3], "bad", 2))
    assert ledger.trust.accused == {ADAS[3].id: 2}


def test_of_an_accusation_a_few_items_are_looked_at() -> None:
    ledger = known(*ADAS, finding(BOB, ADAS[1], "bad", 2**64 - 2))
    assert ledger.trust.accused == {ADAS[1].id: 0b11110}
    tell(ledger, finding(VERA, ADAS[1], "ok", 0b110, NOW + 1))
    assert ledger.trust.accused == {ADAS[1].id: 0b11000}
    tell(ledger, finding(VERA, ADAS[1], "unsure", 2**63 | 2**62, NOW + 1))
    assert ledger.trust.accused == {}


def test_an_accuser_has_few_accusations_open() -> None:
    made = [slice_of(MADE, ADA, 0, number) for number in range(OPEN + 2)]
    ledger = known(*made, *(finding(BOB, one, "bad", 1, NOW + number) for number, one in enumerate(made)))
    assert set(ledger.trust.accused) == {one.id for one in made[:OPEN]}


def test_one_accuses_a_result_once_and_not_without_end() -> None:
    first, second = sorted((finding(BOB, ADAS[0], "bad", bits) for bits in (1, 2)), key=lambda one: one.id)
    for order in ((first, second), (second, first)):
        ledger = known(*ADAS, *order)
        assert [one.id in ledger.index for one in (first, second)] == [True, False]
    made = [slice_of(MADE, ADA, 1, number) for number in range(16)] + ADAS
    ledger = known(*made)
    reasons = [tell(ledger, finding(BOB, one, "bad", 1)) for one in made]
    assert reasons[15:] == ["", *["too many accusations"] * 4]


# probation


OPEN_MADE = audited((1_024,), Policy(admission="open"), (VERA.public,))


def opened(*authors: Identity) -> Ledger:
    """A ledger in which these came in by the puzzle, and Bob by a ticket."""
    ledger = ledger_of(OPEN_MADE.project, BOB)
    for author in authors:
        grant = Grant(OPEN_MADE.project.m, author.public, "", NOW, puzzle=Solution(0, bytes(16), 0))
        ledger.add(seal(author, "grant", grant), grant)
    return ledger


def test_on_probation_a_result_waits_for_a_verifier() -> None:
    ledger = opened(ADA)
    ada, bob = slice_of(OPEN_MADE, ADA, 0, 0), slice_of(OPEN_MADE, BOB, 0, 1)
    for one in (ada, bob):
        tell(ledger, one)
    assert done(ledger) == WHOLE << 64
    assert ledger.trust.waits(ada.id)
    assert not ledger.trust.waits(bob.id)
    assert work_of(ledger).open_items(0, NOW, BOB.public) & WHOLE == WHOLE
    assert not work_of(ledger).open_items(0, NOW, ADA.public) & WHOLE
    assert [id_ for _, id_ in sealable(ledger, NOW + 10_000) if id_ in ledger.results] == [bob.id]
    tell(ledger, finding(VERA, ada, "ok", 0b100))
    assert done(ledger) == 2**128 - 1
    assert not ledger.trust.waits(ada.id)


def test_without_an_audit_nobody_waits() -> None:
    plan = msgspec.structs.replace(
        OPEN_MADE.project.plan, stages=(msgspec.structs.replace(OPEN_MADE.project.stages[0], audit=msgspec.UNSET),)
    )
    ledger = opened(ADA)
    ada = slice_of(OPEN_MADE, ADA, 0, 0)
    tell(ledger, ada)
    bare = OPEN_MADE.again(plan)
    assert after_adoption(ledger, bare) == {ada.id: Ruled()}
    ledger.adopt(bare)
    assert done(ledger) == WHOLE


def test_what_ends_probation_brings_the_waiting_in() -> None:
    def by_tier(ledger: Ledger) -> dict[bytes, Ruled]:
        seal_ = Seal(1, bytes(32), bytes(32), {ADA.public: 1})
        changes = after_seal(ledger, seal_, [])
        sealed(ledger, [], {ADA.public: 1})
        return changes

    def by_grant(ledger: Ledger) -> dict[bytes, Ruled]:
        envelope = grant_by(COORDINATOR, OPEN_MADE.project.m, ADA.public, "", NOW)
        return ledger.admit([(envelope, decode(envelope.payload, Grant))]).standing

    for end in (by_tier, by_grant):
        ledger, ada = opened(ADA), slice_of(OPEN_MADE, ADA, 0, 0)
        tell(ledger, ada)
        assert end(ledger) == {ada.id: Ruled()}
        assert done(ledger) == WHOLE


def test_nobody_gives_way_to_those_on_probation_but_they_themselves() -> None:
    ledger = opened(ADA, EVE)
    claim = claim_record(OPEN_MADE.project, {0: 0b11})
    ledger.hear(seal(ADA, "claim", claim), claim, NOW)
    work = work_of(ledger)
    assert work.claims_on(0, BOB.public) == {}
    assert [*work.claims_on(0, EVE.public)] == [ADA.public]
    assert (work.claimed(BOB.public), work.claimed(EVE.public)) == (0, 1)
    assert (work.most_claimed(ADA.public), work.most_claimed(BOB.public)) == (1, 8)


# tiers


def test_tiers_follow_from_what_counts_and_was_checked() -> None:
    made = [slice_of(MADE, ADA, 0, number) for number in range(8)]
    ledger = known(*made, *(finding(VERA, one, "ok", 0b1111) for one in made[:7]))
    assert tiers(ledger, NOW) == {}, "28 checks are not enough"
    tell(ledger, finding(VERA, made[7], "ok", 0b1111))
    assert tiers(ledger, NOW) == {ADA.public: 1}
    sealing = make(ledger, sealable(ledger, NOW + 1_000), bytes(32), NOW + 1_000)
    assert open_tiers(sealing.blobs[sealing.record.tiers.hash]) == {ADA.public: 1}
    sealed(ledger, [one.id for one in made], {ADA.public: 1})
    assert ledger.trust.tier(ADA.public) == 1
    tell(ledger, finding(VERA, made[0], "bad", 1 << 60, NOW + 10))
    assert ledger.trust.tier(ADA.public) == 0, "at once"
    assert tiers(ledger, NOW + 20) == {}


def test_it_is_said_of_whom_verifiers_are_mostly_unsure() -> None:
    ledger = known(*ADAS, finding(VERA, ADAS[0], "unsure", 2**16 - 1))
    assert "verifiers are unsure of 16 of 16 captions" in ledger.trust.standing(ADA.public).why
    tell(ledger, finding(VERA, ADAS[1], "ok", 2**16 - 1))
    assert "unsure" not in ledger.trust.standing(ADA.public).why


def test_whoever_copies_gets_no_tier_and_takes_none_away() -> None:
    adas, bobs = ([slice_of(MADE, who, 0, number) for number in range(8)] for who in (ADA, BOB))
    found = [finding(VERA, one, "ok", 0b1111) for one in (*adas, *bobs)]
    ledger = known(*adas, *bobs, *found)
    assert tiers(ledger, NOW) == {}, "nobody knows who was first"
    sealed(ledger, [one.id for one in adas])
    assert tiers(ledger, NOW) == {ADA.public: 1}
    sealed(ledger, [one.id for one in bobs])
    assert tiers(ledger, NOW) == {ADA.public: 1}


def test_one_item_that_two_have_costs_neither_the_rest() -> None:
    adas = [slice_of(MADE, ADA, 0, number) for number in range(9)]
    ledger = known(*adas, slice_of(MADE, BOB, 0, 8), *(finding(VERA, one, "ok", 0b1111) for one in adas))
    assert tiers(ledger, NOW) == {ADA.public: 1}
    ledger = known(*adas[1:], slice_of(MADE, BOB, 0, 8), *(finding(VERA, one, "ok", 0b1111) for one in adas[1:]))
    assert tiers(ledger, NOW) == {}, "448 are her own"


def test_the_second_tier_takes_days_and_many_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pcap.ledger.tiers.SECOND_CAPTIONS", 600)
    made = [slice_of(MADE, ADA, 0, number) for number in range(10)]
    ledger = known(*made, *(finding(VERA, one, "ok", 0b1111) for one in made))
    assert tiers(ledger, NOW + 10**7) == {ADA.public: 1}, "nothing is sealed yet"
    sealed(ledger, [made[0].id], time=NOW + 50)
    week = 7 * 24 * 3_600
    assert tiers(ledger, NOW + 49 + week) == {ADA.public: 1}
    assert tiers(ledger, NOW + 50 + week) == {ADA.public: 2}


def test_a_tier_is_earned_anew_after_a_bad_item() -> None:
    old = slice_of(MADE, ADA, 0, 0)
    new = [slice_of(MADE, ADA, 0, number, NOW + 1_000) for number in range(1, 9)]
    ledger = known(old, finding(VERA, old, "bad", 1, NOW + 10), *new)
    for number, one in enumerate(new):
        assert tiers(ledger, NOW + 5_000) == {}, number
        tell(ledger, finding(VERA, one, "ok", 0xFF, NOW + 2_000))
    assert tiers(ledger, NOW + 5_000) == {ADA.public: 1}
    assert ledger.trust.standing(ADA.public).failed == 1


# the order plays no part


words = st.lists(
    st.tuples(
        st.sampled_from([VERA, VIC, BOB, COORDINATOR]),
        st.integers(0, 3),
        st.sampled_from(["ok", "ok", "bad", "unsure"]),
        st.integers(1, 2**6 - 1) | st.just(WHOLE),
        st.integers(0, 4),
    ),
    max_size=8,
)


@given(words, st.randoms(use_true_random=False), st.sampled_from([None, "all", "unsealed"]))
@settings(max_examples=60, deadline=None)
def test_what_everybody_thinks_does_not_depend_on_the_order(
    said: list[tuple[Identity, int, str, int, int]], rng: random.Random, scope: str | None
) -> None:
    statements = [finding(by, ADAS[at], verdict, items, NOW + later) for by, at, verdict, items, later in said]
    statements = [one for one in dict.fromkeys(statements) if one.author != BOB.public or _is_bad(one)]
    if scope is not None:
        statements.append(seal(COORDINATOR, "ban", Ban(PROJECT.m, VIC.public, 1, 0, scope, "", (), NOW)))
    one, other = (filled(statements, random.Random(rng.random())) for _ in range(2))
    assert sums(one) == sums(other)


def _is_bad(envelope: Envelope) -> bool:
    return decode(envelope.payload, Finding).verdict == "bad"


def filled(statements: Iterable[Envelope], rng: random.Random) -> Ledger:
    """Results in some order, then findings and bans in some order; what is told beforehand to change does change."""
    ledger = known(*rng.sample(ADAS, len(ADAS)))
    steps: list[Callable[[], None]] = [partial(foretold, ledger, one) for one in statements]
    steps.append(partial(sealed, ledger, [ADAS[0].id, ADAS[1].id]))
    for step in rng.sample(steps, len(steps)):
        step()
    return ledger


def foretold(ledger: Ledger, envelope: Envelope) -> None:
    judgement = validate(ledger, envelope.data, NOW + 100)
    if judgement.verdict is not Verdict.ACCEPT:
        return
    changes = after_ruling(ledger, envelope.id, envelope.author, judgement.record)  # type: ignore[arg-type]
    before = {id_: ledger.ruled(id_, author) for id_, (author, _) in ledger.results.items()}
    ledger.add(envelope, judgement.record)
    after = {id_: ledger.ruled(id_, author) for id_, (author, _) in ledger.results.items()}
    assert after == before | changes


def sums(ledger: Ledger) -> object:
    """Everything that follows."""
    rows = dict(work_of(ledger).done), dict(work_of(ledger).by_author)
    trust = [ledger.trust.standing(author.public) for author in (ADA, BOB)], ledger.trust.last_bad(ADA.public)
    return rows, trust, list(ledger.index), sorted(ledger.unsealed()), ledger.trust.accused, ledger.trust.contradictions
