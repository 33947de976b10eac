"""Rulings as a maintainer asks for them: who is meant, what they say, and that what is told beforehand comes true."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import decode
from p2pcap.envelope import LIMITS, Envelope, seal
from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import Checkpoint, Seal
from p2pcap.ledger.drafting import BanAsked, RedactAsked, VoidAsked, find_author, guests
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.records import Grant, Profile
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.sealing import NOBODY
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.node.drafts import Draft, Statement, decode_asked, decode_draft, draft, encode_draft
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    EVE,
    NOW,
    TICKET_KEY,
    make_grant,
    make_project,
    make_result,
    work_of,
)

MADE = make_project((128, 100))
PROJECT = MADE.project
AUTHORS = (ADA, BOB, EVE)
RECORDS: dict[str, Any] = {"ban": Ban, "void": Void, "redact": Redact}


def result_of(author: Identity, chunk: int, items: Sequence[int], nonce: int) -> tuple[Envelope, Any]:
    result, _ = make_result(PROJECT, chunk, [MADE.row(chunk, item) for item in items], nonce=nonce)
    return seal(author, "result", result), result


def take(ledger: Ledger, author: Identity, chunk: int, items: Sequence[int], nonce: int = 1) -> bytes:
    """A result whose body is held."""
    envelope, result = result_of(author, chunk, items, nonce)
    ledger.add(envelope, result)
    ledger.complete(envelope.id, author.public, result, 0)
    return envelope.id


def seal_all(ledger: Ledger, number: int, ids: Sequence[bytes]) -> None:
    checkpoint = Checkpoint(PROJECT.m, number, bytes(32), (), NOBODY, NOBODY, bytes(32), 0, 0, NOW)
    ledger.seal(checkpoint, Seal(number, bytes(32), bytes([number]) * 32, {}), ids)


def admitted() -> Ledger:
    ledger = Ledger(PROJECT)
    for author, name in zip(AUTHORS, ("Ada", "bob", "Bob"), strict=True):
        envelope = make_grant(PROJECT, author, name)
        ledger.add(envelope, decode(envelope.payload, Grant))
    return ledger


def carry_out(ledger: Ledger, made: Draft) -> None:
    """Sign the draft, and take in what it says as any node would."""
    for statement in made.statements:
        envelope = Envelope(
            statement.kind,
            statement.payload,
            COORDINATOR.public,
            COORDINATOR.sign(statement.kind, statement.payload),
        )
        judgement = validate(ledger, envelope.data, NOW)
        assert judgement.verdict is Verdict.ACCEPT, judgement.reason
        ledger.add(envelope, judgement.record)


def rows(ledger: Ledger) -> dict[int, int]:
    done = work_of(ledger).rows.done
    return {chunk: done.get(chunk, 0) for chunk in range(2)}


def counting(ledger: Ledger) -> set[bytes]:
    return {id_ for id_, (author, _) in ledger.results.items() if ledger.counts(id_, author)}


def records_of(made: Draft) -> list[Any]:
    return [decode(one.payload, RECORDS[one.kind], LIMITS[one.kind]) for one in made.statements]


SPANS = st.tuples(
    st.sampled_from(AUTHORS), st.integers(0, 1), st.integers(0, 1), st.sets(st.integers(0, 35), min_size=1)
)
ASKED = st.one_of(
    st.builds(
        BanAsked,
        st.sampled_from([author.peer_id for author in AUTHORS]),
        st.sampled_from(["unsealed", "all"]),
        st.integers(0, 2),
        reason=st.just("why"),
        time=st.just(NOW),
    ),
    st.builds(
        lambda who, since: VoidAsked((), who.peer_id, since, reason="", time=NOW),
        st.sampled_from(AUTHORS),
        st.sampled_from([0, NOW]),
    ),
    st.builds(
        lambda places: RedactAsked(tuple(sorted(places)), reason="", time=NOW),
        st.sets(st.tuples(st.integers(0, 1), st.integers(0, 99)), min_size=1, max_size=20),
    ),
)


@given(st.lists(SPANS, min_size=1, max_size=12), st.integers(0, 12), st.integers(0, 12), st.lists(ASKED, max_size=4))
def test_what_a_draft_tells_comes_true(spans: list[Any], first: int, second: int, asked: list[Any]) -> None:
    ledger, ids = admitted(), []
    for nonce, (author, chunk, half, items) in enumerate(spans):
        ids.append(take(ledger, author, chunk, sorted(64 * half + item for item in items), nonce))
    seal_all(ledger, 1, ids[:first])
    seal_all(ledger, 2, ids[first : first + second])
    for one in asked:
        try:
            made = draft(ledger, one, COORDINATOR.public)
        except ConfigError:
            continue  # nothing new is said, which the next rulings do not change
        before, counted = rows(ledger), counting(ledger)
        held = {id_ for id_ in ledger.results if ledger.held(id_) is not None}
        carry_out(ledger, made)
        closed = {chunk: work_of(ledger).rows.redacted(chunk) for chunk in before}
        lost = sum((before[chunk] & ~rows(ledger)[chunk] & ~closed[chunk]).bit_count() for chunk in before)
        gone = counted - (counting(ledger) & {id_ for id_ in held if ledger.held(id_) is not None})
        assert made.opened == lost
        assert made.results == len(gone & held)
        assert made.closed == sum((rows(ledger)[chunk] & ~before[chunk]).bit_count() for chunk in before)


def test_a_ban_takes_the_newest_checkpoint_and_the_next_version() -> None:
    ledger = admitted()
    seal_all(ledger, 1, [take(ledger, ADA, 0, range(10))])
    take(ledger, ADA, 1, range(20))
    made = draft(ledger, BanAsked("ada", "unsealed", reason="blank captions", time=NOW), COORDINATOR.public)
    (ban,) = records_of(made)
    assert (ban.author, ban.version, ban.after, ban.scope, ban.reason) == (
        ADA.public,
        1,
        1,
        "unsealed",
        "blank captions",
    )
    assert (made.results, made.opened, made.checkpoint) == (1, 20, 1)
    assert [(share.name, share.rows) for share in made.rows] == [("Ada", 20)]
    assert made.who == f"Ada ({ADA.peer_id})"
    carry_out(ledger, made)
    wider = draft(ledger, BanAsked("Ada", "all", reason="", time=NOW), COORDINATOR.public)
    assert [(each.version, each.after) for each in records_of(wider)] == [(2, 0)]
    assert wider.opened == 10
    carry_out(ledger, wider)
    with pytest.raises(ConfigError, match="banned just so already"):
        draft(ledger, BanAsked("Ada", "all", reason="", time=NOW), COORDINATOR.public)
    lifted = draft(ledger, BanAsked("Ada", "none", reason="", time=NOW), COORDINATOR.public)
    assert (lifted.opened, lifted.closed, lifted.results) == (0, 30, 0)
    carry_out(ledger, lifted)
    with pytest.raises(ConfigError, match="no ban to lift"):
        draft(ledger, BanAsked("Ada", "none", reason="", time=NOW), COORDINATOR.public)
    assert ledger.rulings.version(ADA.public) == 3


def test_a_ban_after_a_checkpoint_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="no checkpoint 1; the newest is 0"):
        draft(admitted(), BanAsked(ADA.peer_id, "unsealed", 1, reason="", time=NOW), COORDINATOR.public)


def test_names_are_what_volunteers_call_themselves() -> None:
    ledger = admitted()
    assert find_author(ledger, "ADA") == ADA.public
    assert find_author(ledger, EVE.peer_id) == EVE.public
    assert find_author(ledger, EVE.public.hex()) == EVE.public
    with pytest.raises(ConfigError) as caught:
        find_author(ledger, "bob")
    assert BOB.peer_id in str(caught.value)
    assert EVE.peer_id in str(caught.value)
    with pytest.raises(ConfigError, match='Nobody here is called "mallory"'):
        find_author(ledger, "mallory")
    envelope = seal(BOB, "profile", Profile(PROJECT.m, "Robert", "", NOW))
    ledger.add(envelope, decode(envelope.payload, Profile))
    assert find_author(ledger, "bob") == EVE.public
    assert find_author(ledger, "robert") == BOB.public


def test_a_revocation_names_who_joined_with_the_ticket() -> None:
    ledger = admitted()
    asked = BanAsked(TICKET_KEY.public.hex(), "unsealed", ticket=True, reason="leaked", time=NOW)
    made = draft(ledger, asked, COORDINATOR.public)
    (ban,) = records_of(made)
    assert ban.author == TICKET_KEY.public
    assert len(made.guests) == 3
    assert guests(ledger, TICKET_KEY.public) == sorted(author.public for author in AUTHORS)
    assert guests(ledger, ADA.public) == []


def test_results_are_voided_by_id_prefix_or_author() -> None:
    ledger = admitted()
    ids = [take(ledger, ADA, 0, [item], item) for item in range(10)]
    take(ledger, BOB, 0, [0], 99)
    by_id = draft(ledger, VoidAsked((ids[0].hex(), ids[1].hex()[:12]), reason="", time=NOW), COORDINATOR.public)
    assert [each.batches for each in records_of(by_id)] == [tuple(sorted(ids[:2]))]
    assert (by_id.results, by_id.opened) == (2, 1)  # Bob did the other image too
    everything = draft(ledger, VoidAsked((), ADA.peer_id, reason="", time=NOW), COORDINATOR.public)
    assert [len(each.batches) for each in records_of(everything)] == [8, 2]
    with pytest.raises(ConfigError, match="No result is left"):
        draft(ledger, VoidAsked((), ADA.peer_id, NOW + 1, reason="", time=NOW), COORDINATOR.public)
    carry_out(ledger, everything)
    with pytest.raises(ConfigError, match="void already"):
        draft(ledger, VoidAsked((ids[0].hex(),), reason="", time=NOW), COORDINATOR.public)


@pytest.mark.parametrize(("text", "fault"), [("ab" * 32, "No result"), ("abc", "too short"), ("00000000", "No result")])
def test_a_result_that_is_not_known(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        draft(admitted(), VoidAsked((text,), reason="", time=NOW), COORDINATOR.public)


def test_images_are_redacted_in_spans_of_a_slice() -> None:
    ledger = admitted()
    take(ledger, ADA, 0, range(10))
    places = ((0, 3), (0, 66), (0, 67), (1, 99))
    made = draft(ledger, RedactAsked(places, reason="a face", time=NOW), COORDINATOR.public)
    told = [(each.chunk, each.offset, each.n, int.from_bytes(each.mask, "little")) for each in records_of(made)]
    assert told == [(0, 3, 64, 1 | 1 << 63), (0, 67, 1, 1), (1, 99, 1, 1)]
    assert (made.redacted, made.results, made.opened) == (4, 1, 9)
    carry_out(ledger, made)
    with pytest.raises(ConfigError, match="redacted already"):
        draft(ledger, RedactAsked(places, reason="", time=NOW), COORDINATOR.public)
    with pytest.raises(ConfigError, match="no image 1:100"):
        draft(ledger, RedactAsked(((1, 100),), reason="", time=NOW), COORDINATOR.public)


def test_a_redaction_leaves_what_a_verifier_found_out_of_the_sum() -> None:
    ledger = admitted()
    bad = take(ledger, ADA, 0, range(10))
    finding = Finding(PROJECT.m, bad, bytes([1]) + bytes(7), "bad", "by-eye", b"", NOW)
    envelope = seal(COORDINATOR, "verdict", finding)
    ledger.add(envelope, finding)
    made = draft(ledger, RedactAsked(((0, 3),), reason="", time=NOW), COORDINATOR.public)
    assert (made.results, made.opened, made.redacted) == (0, 0, 1)


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"rule": "ban", "who": "", "scope": "all", "reason": "", "time": 1},
        {"rule": "ban", "who": "x", "scope": "some", "reason": "", "time": 1},
        {"rule": "ban", "who": "x", "scope": "all", "reason": "r" * 129, "time": 1},
        {"rule": "ban", "who": "x", "scope": "all", "reason": "", "time": 1, "more": 1},
        {"rule": "void", "statements": ["xyz"], "reason": "", "time": 1},
        {"rule": "redact", "places": [[-1, 0]], "reason": "", "time": 1},
        [],
    ],
)
def test_a_question_that_is_none(plain: object) -> None:
    with pytest.raises(ConfigError, match="cannot be made"):
        decode_asked(plain)


def test_questions_and_drafts_survive_the_way() -> None:
    asked = VoidAsked(("ab" * 32,), "x", 5, ("cd" * 32,), reason="é", time=NOW)
    assert decode_asked(msgspec.to_builtins(asked)) == asked
    made = Draft((Statement("ban", b"\xff\0"),), 1, (), 2, 3, 4, 5)
    assert decode_draft(encode_draft(made)) == made


def test_bodies_elsewhere_have_no_rows_here() -> None:
    ledger = admitted()
    envelope, result = result_of(ADA, 0, range(10), 1)
    ledger.add(envelope, result)
    made = draft(ledger, BanAsked("Ada", "all", reason="", time=NOW), COORDINATOR.public)
    assert (made.results, made.opened, [share.rows for share in made.rows]) == (1, 0, [0])


def test_a_revoked_ticket_puts_out_who_no_checkpoint_has() -> None:
    """What is told of a revocation comes true as well: of whom, and of how many rows."""
    ledger = Ledger(PROJECT)
    grants = [make_grant(PROJECT, author, name) for author, name in ((ADA, "Ada"), (BOB, "Bob"))]
    for envelope in grants:
        ledger.add(envelope, decode(envelope.payload, Grant))
    ids = [take(ledger, ADA, 0, range(10)), take(ledger, BOB, 0, range(10, 30))]
    seal_all(ledger, 1, [grants[0].id])
    asked = BanAsked(TICKET_KEY.public.hex(), "unsealed", ticket=True, reason="leaked", time=NOW)
    made = draft(ledger, asked, COORDINATOR.public)
    assert (len(made.guests), made.out) == (2, (f"Bob ({BOB.peer_id})",))
    assert (made.results, made.opened) == (1, 20)
    carry_out(ledger, made)
    assert counting(ledger) == {ids[0]}
    assert rows(ledger)[0] == 2**10 - 1
