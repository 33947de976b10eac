"""Who may write, on every node the same: tickets that run out, revocations, modes of admission, probation."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import TicketError
from p2pcap.identity import Identity
from p2pcap.ledger import allowance, members
from p2pcap.ledger.checkpoint import Checkpoint, Seal
from p2pcap.ledger.checks import UNRULED, Ruled
from p2pcap.ledger.grants import grant_by, grant_for, grant_self, own_grant
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.puzzle import Solution
from p2pcap.ledger.records import Claim, Grant, Profile, Result
from p2pcap.ledger.rulings import Ban
from p2pcap.ledger.sealing import NOBODY, sealable
from p2pcap.ledger.standing import after_adoption, after_ruling, after_seal
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.project.opened import Project
from p2pcap.project.records import FormerKey, Policy
from p2pcap.project.ticket import Invitation, Ticket, invite
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    EVE,
    FOREVER,
    NOW,
    TICKET_KEY,
    Made,
    claim_record,
    make_grant,
    make_project,
    make_result,
    make_ticket,
    signed,
    work_of,
)
from tests.unit.test_former_keys import CHAIN, rotated

MADE = make_project((128, 100))
PROJECT = MADE.project
OPEN = make_project((2_048,), policy=Policy(admission="open"))
CLOSED = make_project((128, 100), policy=Policy(admission="allowlist"))
AUTHORS = [Identity.from_seed(bytes([30 + number]) * 32) for number in range(5)]

Statement = tuple[Envelope, msgspec.Struct]


def granted(author: Identity, uses: int, signer: Identity = COORDINATOR) -> Envelope:
    invitation = invite(signer, PROJECT.m, TICKET_KEY.public, FOREVER, uses)
    return seal(TICKET_KEY, "grant", grant_for(author, PROJECT.m, "", NOW, invitation))


def captioned(author: Identity, *places: int, made: Made = MADE, nonce: int = 1) -> tuple[Envelope, Result]:
    result, _ = make_result(made.project, 0, [made.row(0, place) for place in places], nonce=nonce)
    return seal(author, "result", result), result


def take(ledger: Ledger, envelope: Envelope, now: float = NOW) -> str:
    """What a node does with a statement that comes: judged, heard, added; a result with its body. Returns why not."""
    judgement = validate(ledger, envelope.data, now)
    if judgement.verdict is Verdict.ACCEPT:
        assert judgement.record is not None
        ledger.hear(envelope, judgement.record, now)
        ledger.add(envelope, judgement.record)
        if isinstance(judgement.record, Result):
            ledger.complete(envelope.id, envelope.author, judgement.record, 0)
    return "" if judgement.verdict is Verdict.ACCEPT else judgement.reason


def checkpoint(ledger: Ledger, ids: Sequence[bytes], project: Project = PROJECT) -> None:
    number = ledger.seals.head + 1
    record = Checkpoint(project.m, number, bytes(32), (), NOBODY, NOBODY, b"b" * 32, 2, 5, NOW)
    ledger.seal(record, Seal(number, bytes([number]) * 32, b"b" * 32, {}), ids)


def revoked(version: int, scope: str, after: int = 0, key: Identity = TICKET_KEY) -> Envelope:
    return seal(COORDINATOR, "ban", Ban(PROJECT.m, key.public, version, after, scope, "", (), NOW))


def totals(ledger: Ledger) -> object:
    """Everything that the order must not change."""
    work = work_of(ledger)
    standing = {author.public: ledger.members.is_admitted(author.public) for author in AUTHORS}
    return list(ledger.index), dict(work.done), dict(work.by_author), standing, sorted(ledger.unsealed())


GRANTS = sorted((granted(author, 2) for author in AUTHORS), key=lambda one: one.id)
OWNERS = {decode(one.payload, Grant).key: one for one in GRANTS}
RESULTS = [captioned(author, number) for number, author in enumerate(AUTHORS)]
PROFILES = [seal(author, "profile", Profile(PROJECT.m, "x", "", NOW)) for author in AUTHORS]
BANS = [revoked(1, "all"), revoked(2, "unsealed", after=1), revoked(3, "none")]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.sets(st.integers(0, 2)), st.booleans())
def test_on_every_node_the_same_grants_survive_with_their_authors_work(
    rng: random.Random, bans: set[int], sealing: bool
) -> None:
    """Two nodes hear everything in orders of their own, take the same checkpoint at some moment, and then sync."""
    everything = [
        *GRANTS,
        *(envelope for envelope, _ in RESULTS),
        *PROFILES,
        *(BANS[number] for number in sorted(bans)),
    ]
    sealed = [GRANTS[4].id, RESULTS[0][0].id] if sealing else []
    nodes = [Ledger(PROJECT), Ledger(PROJECT)]
    for node in nodes:
        steps: list[Envelope | None] = [*rng.sample(everything, len(everything)), None]
        rng.shuffle(steps)
        for step in steps:
            if step is None:
                checkpoint(node, sealed)
            else:
                take(node, step)
    for _ in range(4):
        for node in nodes:
            for envelope in rng.sample(everything, len(everything)):
                take(node, envelope)
    assert totals(nodes[0]) == totals(nodes[1])
    admitted = [author for author in AUTHORS if nodes[0].members.is_admitted(author.public)]
    first = [GRANTS[4], GRANTS[0]] if sealing else GRANTS[:2]
    ruling = max(bans, default=2)
    expected = {0: [], 1: [GRANTS[4]] if sealing else [], 2: first}[ruling]
    assert {OWNERS[author.public].id for author in admitted} == {one.id for one in expected}
    assert {author for author, _ in work_of(nodes[0]).by_author} == {author.public for author in admitted}


def test_a_ticket_that_is_used_up_lets_the_lower_ids_in_and_the_others_work_count_no_more() -> None:
    ledger = Ledger(PROJECT)
    for one in reversed(GRANTS[1:3]):
        assert take(ledger, one) == ""
    late = next(author for author in AUTHORS if OWNERS[author.public] is GRANTS[2])
    result, _ = captioned(late, 7)
    assert take(ledger, result) == ""
    assert work_of(ledger).done[0] == 1 << 7
    assert take(ledger, GRANTS[0]) == ""
    assert not work_of(ledger).done.get(0)
    assert result.id not in ledger.index
    assert GRANTS[2].id not in ledger.index
    assert not ledger.holds(GRANTS[2].id)
    assert late.public not in ledger.grants
    assert take(ledger, GRANTS[2]) == "as many as may have joined so, or its author has"
    assert take(ledger, captioned(late, 8)[0]) == "unknown author"


def test_a_grant_that_was_displaced_is_back_when_a_checkpoint_seals_it_and_so_is_its_authors_work() -> None:
    ledger = Ledger(PROJECT)
    late = next(author for author in AUTHORS if OWNERS[author.public] is GRANTS[2])
    result, _ = captioned(late, 7)
    for one in (GRANTS[2], result, *GRANTS[:2]):
        take(ledger, one)
    checkpoint(ledger, [GRANTS[2].id, result.id])
    assert not ledger.members.is_admitted(late.public)
    assert take(ledger, GRANTS[2]) == ""
    assert GRANTS[2].id in ledger.index
    assert GRANTS[1].id not in ledger.index
    assert result.id in ledger.index
    assert work_of(ledger).done[0] == 1 << 7


def test_what_the_store_is_told_of_grants_that_displace_others() -> None:
    ledger = Ledger(PROJECT)
    late = next(author for author in AUTHORS if OWNERS[author.public] is GRANTS[4])
    result, _ = captioned(late, 3)
    for one in (GRANTS[4], GRANTS[3], result):
        take(ledger, one)
    coming = [(one, decode(one.payload, Grant)) for one in (GRANTS[2], GRANTS[1], GRANTS[0], GRANTS[2])]
    change = ledger.admit(coming)
    assert change.kept == [GRANTS[1], GRANTS[0]]
    assert sorted(change.gone) == sorted([GRANTS[3].id, GRANTS[4].id])
    assert change.standing == {result.id: Ruled(0)}
    assert GRANTS[0].id not in ledger.index, "not before it is durable"
    for envelope, grant in coming:
        ledger.add(envelope, grant)
    assert [id_ for _, id_ in ledger.index] == sorted([GRANTS[0].id, GRANTS[1].id])


def test_revoking_a_ticket_puts_out_whom_no_checkpoint_up_to_a_number_seals() -> None:
    ledger = Ledger(PROJECT)
    first, second = (next(a for a in AUTHORS if OWNERS[a.public] is one) for one in GRANTS[:2])
    results = [captioned(first, 0), captioned(second, 1)]
    for one in (*GRANTS[:2], results[0][0], results[1][0]):
        take(ledger, one)
    checkpoint(ledger, [GRANTS[0].id, results[0][0].id])
    ban = revoked(1, "unsealed", after=1)
    record = decode(ban.payload, Ban)
    assert after_ruling(ledger, ban.id, ban.author, record) == {results[1][0].id: Ruled(0)}
    assert take(ledger, ban) == ""
    assert ledger.members.is_admitted(first.public)
    assert not ledger.members.is_admitted(second.public)
    assert GRANTS[1].id not in ledger.index
    assert results[1][0].id not in ledger.index
    assert work_of(ledger).done[0] == 1
    assert take(ledger, captioned(second, 9)[0]) == "its author is not admitted any more"
    assert take(ledger, captioned(first, 9)[0]) == ""
    assert take(ledger, granted(AUTHORS[0], 7)) == "not admitted in this way, or not any more"
    take(ledger, revoked(2, "none"))
    assert ledger.members.is_admitted(second.public)
    assert {GRANTS[1].id, results[1][0].id} <= {id_ for _, id_ in ledger.index}


def test_a_checkpoint_that_a_revocation_waits_for_brings_the_sealed_back() -> None:
    ledger = Ledger(PROJECT)
    (author,) = (a for a in AUTHORS if OWNERS[a.public] is GRANTS[0])
    result, _ = captioned(author, 0)
    for one in (GRANTS[0], result, revoked(1, "unsealed", after=1)):
        take(ledger, one)
    assert not ledger.members.is_admitted(author.public)
    ids = [GRANTS[0].id, result.id]
    assert after_seal(ledger, Seal(1, b"\1" * 32, b"b" * 32, {}), ids) == {result.id: UNRULED}
    checkpoint(ledger, ids)
    assert ledger.members.is_admitted(author.public)
    assert set(ids) <= {id_ for _, id_ in ledger.index}


def test_a_banned_author_keeps_his_place() -> None:
    ledger = Ledger(PROJECT)
    for one in GRANTS[:2]:
        take(ledger, one)
    owner = decode(GRANTS[0].payload, Grant).key
    take(ledger, seal(COORDINATOR, "ban", Ban(PROJECT.m, owner, 1, 0, "all", "", (), NOW)))
    assert take(ledger, GRANTS[2]) == "as many as may have joined so, or its author has"


def test_a_result_is_sealed_with_its_authors_grant_or_later() -> None:
    ledger = Ledger(PROJECT)
    young = make_grant(PROJECT, ADA, time=NOW + 50)
    old, _ = captioned(ADA, 0)
    for one in (young, old):
        take(ledger, one)
    assert sealable(ledger, NOW + 70) == []
    checkpoint(ledger, [young.id])
    assert [id_ for _, id_ in sealable(ledger, NOW + 70)] == [old.id]


# ways in


def test_a_coordinator_admits_whom_it_likes_in_every_project() -> None:
    for made in (MADE, OPEN, CLOSED):
        ledger = Ledger(made.project)
        assert take(ledger, grant_by(COORDINATOR, made.project.m, ADA.public, "Ada", NOW)) == ""
        assert ledger.grants[ADA.public].name == "Ada"
        assert ledger.members.room(ADA.public) is None
        forged = grant_by(EVE, made.project.m, EVE.public, "", NOW)
        assert take(ledger, forged) == "not signed by a coordinator"


@pytest.mark.parametrize(
    ("made", "ticket", "own"),
    [(MADE, True, False), (OPEN, True, True), (CLOSED, False, False)],
    ids=["invite", "open", "allowlist"],
)
def test_a_project_admits_in_its_ways_only(made: Made, ticket: bool, own: bool) -> None:
    closed = "not admitted in this way, or not any more"
    m = made.project.m
    invited = seal(TICKET_KEY, "grant", grant_for(BOB, m, "", NOW, invite(COORDINATOR, m, TICKET_KEY.public, FOREVER)))
    assert take(Ledger(made.project), invited) == ("" if ticket else closed)
    assert take(Ledger(made.project), SOLVED if m == OPEN.project.m else solved_for(made)) == ("" if own else closed)


SOLVED = grant_self(EVE, OPEN.project.m, "Eve", NOW)


def solved_for(made: Made) -> Envelope:
    """The same answer in another project: refused before it is looked at."""
    record = msgspec.structs.replace(decode(SOLVED.payload, Grant), m=made.project.m)
    return seal(EVE, "grant", record)


def test_a_wrong_answer_to_the_puzzle_is_refused() -> None:
    sound = decode(SOLVED.payload, Grant)
    assert isinstance(sound.puzzle, Solution)
    wrong = [
        (msgspec.structs.replace(sound.puzzle, stamp=sound.puzzle.stamp + 1), "the puzzle's answer is not stamped"),
        (msgspec.structs.replace(sound.puzzle, tag=bytes(16)), "the puzzle's answer is not stamped"),
        (msgspec.structs.replace(sound.puzzle, nonce=sound.puzzle.nonce + 1), "the puzzle is not solved"),
    ]
    for answer, reason in wrong:
        answered = seal(EVE, "grant", msgspec.structs.replace(sound, puzzle=answer))
        judged = validate(Ledger(OPEN.project), answered.data, NOW)
        assert (judged.verdict, judged.reason) == (Verdict.REJECT, reason)
    stolen = seal(BOB, "grant", msgspec.structs.replace(sound, key=BOB.public))
    assert take(Ledger(OPEN.project), stolen) == "the puzzle's answer is not stamped"


def test_who_only_solved_the_puzzle_is_on_probation() -> None:
    ledger = Ledger(OPEN.project)
    assert take(ledger, SOLVED) == ""
    assert work_of(ledger).most_claimed(EVE.public) == 1
    two = seal(EVE, "claim", claim_record(OPEN.project, {0: 1}))
    assert take(ledger, two) == ""
    many = msgspec.structs.replace(
        decode(two.payload, Claim), nonce=2, chunks=(*decode(two.payload, Claim).chunks,) * 2
    )
    assert take(ledger, seal(EVE, "claim", many)) == "more than an author on probation may claim"
    said = []
    for slice_ in range(8):
        said.append(captioned(EVE, *range(64 * slice_, 64 * slice_ + 64), made=OPEN)[0])
        assert work_of(ledger).open_items(0, NOW, EVE.public)
        assert take(ledger, said[-1]) == ""
    assert ledger.members.room(EVE.public) == 0
    assert not work_of(ledger).open_items(0, NOW, EVE.public)
    more, _ = captioned(EVE, 600, made=OPEN)
    assert take(ledger, more) == "more than an author on probation may have unsealed"
    checkpoint(ledger, [said[0].id], OPEN.project)
    assert ledger.members.room(EVE.public) == 64
    assert take(ledger, more) == ""
    take(ledger, grant_by(COORDINATOR, OPEN.project.m, EVE.public, "", NOW))
    assert ledger.members.room(EVE.public) is None
    assert work_of(ledger).most_claimed(EVE.public) > 1


def test_a_header_counts_for_probation_before_it_is_durable() -> None:
    ledger = Ledger(OPEN.project)
    take(ledger, SOLVED)
    envelope, result = captioned(EVE, *range(64), made=OPEN)
    ledger.hear(envelope, result, NOW)
    assert ledger.members.room(EVE.public) == members.PROBATION - 64
    ledger.add(envelope, result)
    assert ledger.members.room(EVE.public) == members.PROBATION - 64


def test_a_project_that_changes_how_it_admits_keeps_whom_a_checkpoint_seals() -> None:
    plan = PROJECT.plan
    closed = signed(msgspec.structs.replace(plan, policy=Policy(admission="allowlist")), version=2)
    again = signed(plan, version=3)
    ledger = Ledger(PROJECT)
    kept, lost = captioned(ADA, 0), captioned(BOB, 1)
    grants = [make_grant(PROJECT, ADA), make_grant(PROJECT, BOB)]
    for one in (*grants, kept[0], lost[0]):
        take(ledger, one)
    checkpoint(ledger, [grants[0].id, kept[0].id])
    assert after_adoption(ledger, closed) == {lost[0].id: Ruled(0)}
    assert ledger.members.is_admitted(BOB.public), "nothing is changed by asking"
    ledger.adopt(closed)
    assert [ledger.members.is_admitted(author.public) for author in (ADA, BOB)] == [True, False]
    assert work_of(ledger).done[0] == 1
    assert {grants[1].id, lost[0].id}.isdisjoint(id_ for _, id_ in ledger.index)
    assert after_adoption(ledger, again) == {lost[0].id: UNRULED}
    ledger.adopt(again)
    assert work_of(ledger).done[0] == 0b11


def test_a_ticket_of_a_replaced_coordinator_admits_whom_its_last_checkpoint_seals() -> None:
    former = rotated(FormerKey(COORDINATOR.public, 1, CHAIN[0].payload_hash))
    first, second = make_grant(former, ADA), make_grant(former, BOB)
    ledger = Ledger(former)
    closed = "not admitted in this way, or not any more"
    assert take(ledger, first) == closed
    checkpoint(ledger, [first.id], former)
    checkpoint(ledger, [second.id], former)
    assert [take(ledger, one) for one in (first, second)] == ["", closed]
    assert ledger.members.is_admitted(ADA.public)
    assert not ledger.members.is_admitted(BOB.public)
    held = Ledger(former)
    for one in (first, second):
        held.add(one, decode(one.payload, Grant))
    assert not held.members.is_admitted(ADA.public), "on disk before its checkpoint is known"
    checkpoint(held, [first.id], former)
    assert held.members.is_admitted(ADA.public)
    assert [id_ for _, id_ in held.index] == [first.id]


def test_nobody_is_blamed_for_a_coordinator_whom_a_newer_root_may_name() -> None:
    foreign = granted(ADA, 5, signer=EVE)
    ledger = Ledger(PROJECT)
    assert validate(ledger, foreign.data, NOW).verdict is Verdict.REJECT
    ledger.newer_root = True
    assert validate(ledger, foreign.data, NOW).verdict is Verdict.IGNORE


def test_a_flood_by_a_ticket_without_a_number_is_slowed_down() -> None:
    ledger = Ledger(PROJECT)
    for number in range(allowance.GRANTS):
        envelope = make_grant(PROJECT, ADA, str(number))
        ledger.members.hear(envelope, decode(envelope.payload, Grant), NOW)
    assert take(ledger, make_grant(PROJECT, BOB)) == "too many grants"
    assert take(ledger, grant_by(COORDINATOR, PROJECT.m, EVE.public, "", NOW)) == ""
    assert take(ledger, make_grant(PROJECT, BOB), NOW + 2) == ""


# one's own


def test_the_own_grant_is_of_the_kind_that_the_project_admits() -> None:
    ticket = make_ticket(PROJECT)
    plain = Ticket("Shapes", PROJECT.hash)
    envelope = own_grant(ADA, ticket, PROJECT, "Ada", NOW)
    assert envelope is not None
    assert take(Ledger(PROJECT), envelope) == ""
    assert own_grant(ADA, ticket, CLOSED.project, "", NOW) is None
    opened = own_grant(ADA, Ticket("Shapes", OPEN.project.hash), OPEN.project, "", NOW)
    assert opened is not None
    assert take(Ledger(OPEN.project), opened) == ""
    with pytest.raises(TicketError, match="carries no invitation"):
        own_grant(ADA, plain, PROJECT, "", NOW)
    with pytest.raises(TicketError, match="has expired"):
        own_grant(ADA, ticket, PROJECT, "", FOREVER + 1)
    foreign = Ticket("Shapes", PROJECT.hash, Invitation.of(bytes(16), EVE, PROJECT.m, FOREVER))
    with pytest.raises(TicketError, match="not signed by the project's coordinator"):
        own_grant(ADA, foreign, PROJECT, "", NOW)
    limited = Ticket("Shapes", PROJECT.hash, Invitation.of(bytes(16), COORDINATOR, PROJECT.m, FOREVER, 1))
    envelope = own_grant(ADA, limited, PROJECT, "", NOW)
    assert envelope is not None
    assert take(Ledger(PROJECT), envelope) == ""
