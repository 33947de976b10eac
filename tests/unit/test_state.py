"""What statements add up to: the same in any order, and only checked rows count as done."""

import random
from collections.abc import Callable
from functools import partial

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger import allowance as allowances
from p2pcap.ledger.allowance import Allowance
from p2pcap.ledger.checkpoint import Checkpoint, Seal
from p2pcap.ledger.records import Profile, Result, Row
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.sealing import NOBODY
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import ANNOUNCED_FOR
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    EVE,
    NOW,
    claim_record,
    ledger_of,
    make_project,
    make_result,
    work_of,
)

MADE = make_project((128, 100))
PROJECT = MADE.project
RESULT, _ = make_result(PROJECT, 0, [MADE.row(0, index) for index in range(10)])
TEN = 2**10 - 1
ID, OTHER = b"\1" * 32, b"\2" * 32


def test_a_header_keeps_others_off_for_a_while() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    assert work_of(ledger).open_items(0, NOW) == 2**128 - 1 - TEN
    assert work_of(ledger).open_items(0, NOW + ANNOUNCED_FOR - 1) == 2**128 - 1 - TEN
    assert work_of(ledger).open_items(0, NOW + ANNOUNCED_FOR) == 2**128 - 1
    assert work_of(ledger).missing(0) == 2**128 - 1
    assert ledger.items_done == 0


def test_a_false_header_keeps_nobody_off() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    ledger.announce(OTHER, BOB.public, RESULT, NOW)
    ledger.forget(ID, RESULT)
    assert work_of(ledger).open_items(0, NOW) == 2**128 - 1 - TEN
    ledger.forget(OTHER, RESULT)
    assert work_of(ledger).open_items(0, NOW) == 2**128 - 1
    assert work_of(ledger).announced == {}


def test_a_checked_body_counts() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    ledger.complete(ID, ADA.public, RESULT, 0)
    assert work_of(ledger).announced == {}
    assert work_of(ledger).missing(0) == work_of(ledger).open_items(0, NOW + 10_000) == 2**128 - 1 - TEN
    assert ledger.items_done == 10
    assert work_of(ledger).by_author == {(ADA.public, 0): TEN}


def test_the_same_item_counts_once() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    for id_, author in ((ID, ADA), (OTHER, BOB), (ID, ADA)):
        ledger.complete(id_, author.public, RESULT, 0)
    assert ledger.items_done == 10


def test_finished_means_every_item() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    for chunk, offset in ((0, 0), (0, 64), (1, 0), (1, 64)):
        assert not ledger.finished
        rows = [MADE.row(chunk, index) for index in range(offset, min(offset + 64, (128, 100)[chunk]))]
        ledger.complete(bytes([offset, chunk]) * 16, ADA.public, make_result(PROJECT, chunk, rows)[0], 0)
    assert ledger.finished
    assert ledger.items_done == 228
    assert work_of(ledger).missing(1) == 0


def body_of(author: Identity, rows: list[Row], nonce: int = 1) -> tuple[Envelope, Result, int]:
    """A sealed result over chunk 0, with its header and the items that are errors."""
    result, _ = make_result(PROJECT, 0, rows, nonce=nonce)
    errors = sum(1 << row.item for row in rows if row.error)
    return seal(author, "result", result), result, errors


ADAS = body_of(ADA, [MADE.row(0, 0), MADE.error(0, 1), MADE.error(0, 2)])
BOBS = body_of(BOB, [MADE.error(0, 2), MADE.row(0, 3)])
EVES = body_of(EVE, [MADE.row(0, 4), MADE.error(0, 1)])
AGAIN = body_of(ADA, [MADE.row(0, 5)], nonce=2)
RESULTS = [ADAS, BOBS, EVES, AGAIN]
SEAL = Seal(1, b"h" * 32, b"b" * 32, {})
CHECKPOINT = Checkpoint(PROJECT.m, 1, bytes(32), (), NOBODY, NOBODY, b"b" * 32, 2, 5, NOW)


def ruling(kind: str, record: msgspec.Struct) -> tuple[Envelope, msgspec.Struct]:
    return seal(COORDINATOR, kind, record), record


def ban_of(version: int, scope: str, after: int = 0) -> tuple[Envelope, msgspec.Struct]:
    return ruling("ban", Ban(PROJECT.m, ADA.public, version, after, scope, "", (), NOW))


def profile_of(name: str, time: int) -> tuple[Envelope, msgspec.Struct]:
    record = Profile(PROJECT.m, name, "", time)
    return seal(ADA, "profile", record), record


OTHERS = [
    ban_of(1, "all"),
    ban_of(2, "unsealed", after=1),
    ruling("void", Void(PROJECT.m, (EVES[0].id,), "", (), NOW)),
    ruling("redact", Redact(PROJECT.m, 0, 0, 64, (1 << 3).to_bytes(8, "little"), "", NOW)),
    ruling("verdict", Finding(PROJECT.m, ADAS[0].id, b"\2" + bytes(7), "ok", "scoring", b"", NOW)),
    profile_of("Ada", NOW),
    profile_of("Ada L.", NOW + 1),
]


def sums(ledger: Ledger) -> object:
    """Everything that the order must not change."""
    work = work_of(ledger)
    open_ = [work.open_items(0, NOW, author.public) for author in (ADA, BOB, EVE)]
    places = (dict(work.done), dict(work.by_author), list(work.unfinished), open_, ledger.items_done)
    return places, ledger.index.digest, list(ledger.index), ledger.profiles


def filled(order: random.Random, others: list[tuple[Envelope, msgspec.Struct]]) -> Ledger:
    """A ledger that was given everything in some order, each body some time after its header."""
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    steps: list[Callable[[], None]] = [partial(ledger.add, *other) for other in others]
    steps.append(partial(ledger.seal, CHECKPOINT, SEAL, [ADAS[0].id, BOBS[0].id]))
    for envelope, result, errors in RESULTS:

        def whole(envelope: Envelope = envelope, result: Result = result, errors: int = errors) -> None:
            ledger.add(envelope, result)
            if ledger.is_wanted(result):
                ledger.complete(envelope.id, envelope.author, result, errors)

        steps.append(whole)
    for step in order.sample(steps, len(steps)):
        step()
    return ledger


@given(st.integers(), st.integers(), st.lists(st.sampled_from(OTHERS), unique_by=lambda other: other[0].id))
def test_the_order_of_statements_plays_no_part(
    one: int, other: int, others: list[tuple[Envelope, msgspec.Struct]]
) -> None:
    assert sums(filled(random.Random(one), others)) == sums(filled(random.Random(other), others))


def test_an_error_is_open_to_others_until_two_said_it() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.complete(ADAS[0].id, ADA.public, *ADAS[1:])
    assert work_of(ledger).open_items(0, NOW, ADA.public) == 2**128 - 1 - 0b111
    assert work_of(ledger).open_items(0, NOW, BOB.public) == 2**128 - 1 - 0b001
    assert work_of(ledger).missing(0) == 2**128 - 1 - 0b111
    ledger.complete(BOBS[0].id, BOB.public, *BOBS[1:])
    assert work_of(ledger).open_items(0, NOW, EVE.public) == 2**128 - 1 - 0b1101


def test_an_answer_settles_an_error() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.complete(ADAS[0].id, ADA.public, *ADAS[1:])
    answer = body_of(BOB, [MADE.row(0, 1), MADE.row(0, 2)])
    ledger.complete(answer[0].id, BOB.public, *answer[1:])
    assert work_of(ledger).rows.unsettled(0) == 2**128 - 1 - 0b111


def test_a_single_author_ends_a_job_whose_last_images_are_errors() -> None:
    made = make_project((64,))
    ledger = ledger_of(made.project, ADA, BOB, EVE)
    rows = [made.error(0, index) for index in range(64)]
    result, _ = make_result(made.project, 0, rows)
    ledger.complete(ID, ADA.public, result, 2**64 - 1)
    assert ledger.finished
    assert not ledger.work_left(ADA.public)
    assert ledger.work_left(BOB.public)
    ledger.complete(OTHER, BOB.public, result, 2**64 - 1)
    assert work_of(ledger).unfinished == []


def test_a_void_result_opens_its_items_again() -> None:
    ledger = filled(random.Random(0), [OTHERS[2]])
    assert work_of(ledger).missing(0) >> 4 & 1
    assert (EVE.public, 0) not in work_of(ledger).by_author


def test_a_ban_takes_unsealed_results_out_of_the_set_and_a_lift_brings_them_back() -> None:
    ledger = filled(random.Random(0), [])
    digest = ledger.index.digest
    ledger.add(*ban_of(1, "unsealed", after=1))
    assert AGAIN[0].id not in ledger.index
    assert ADAS[0].id in ledger.index
    assert ledger.holds(AGAIN[0].id)
    assert work_of(ledger).missing(0) >> 5 & 1
    lift = ban_of(2, "none")
    ledger.add(*lift)
    assert not work_of(ledger).missing(0) >> 5 & 1
    assert AGAIN[0].id in ledger.index
    assert ledger.index.digest != digest
    assert len(ledger.index) == len(RESULTS) + 2


def test_a_redaction_drops_bodies_and_closes_only_what_it_names() -> None:
    ledger = filled(random.Random(0), [OTHERS[3]])
    assert not work_of(ledger).missing(0) >> 3 & 1
    assert work_of(ledger).rows.redacted(0) == 0b1000
    assert ledger.held(BOBS[0].id) is None
    assert work_of(ledger).open_items(0, NOW, BOB.public) >> 2 & 1, "his error went with the body"
    assert BOBS[0].id in ledger.index


def test_one_statement_a_slot() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    for envelope, record in (OTHERS[6], OTHERS[5]):
        ledger.add(envelope, record)
    assert [id_ for _, id_ in ledger.index] == [OTHERS[6][0].id]
    newest = profile_of("Countess", NOW + 2)
    assert ledger.replaced(newest[1], newest[0].id, ADA.public) == OTHERS[6][0].id
    assert ledger.is_stale(OTHERS[5][1], OTHERS[5][0].id, ADA.public)


def test_who_left_a_body_out_holds_nobody_off_again() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    ledger.announce(OTHER, ADA.public, RESULT, NOW + ANNOUNCED_FOR - 1)
    assert work_of(ledger).open_items(0, NOW + ANNOUNCED_FOR - 1) == 2**128 - 1 - TEN
    assert work_of(ledger).open_items(0, NOW + ANNOUNCED_FOR) == 2**128 - 1


def test_an_allowance_runs_out_and_comes_back() -> None:
    allowance = Allowance(3, 0.5)
    for _ in range(3):
        assert allowance.may(ADA.public, NOW)
        allowance.take(ADA.public, NOW)
    assert not allowance.may(ADA.public, NOW)
    assert allowance.may(BOB.public, NOW)
    assert not allowance.may(ADA.public, NOW + 1.9)
    assert allowance.may(ADA.public, NOW + 2)
    assert not allowance.may(ADA.public, NOW - 100), "a clock that is set back gives nothing"


def test_sealed_results_cost_their_author_nothing() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.seal(CHECKPOINT, SEAL, [ID])
    for _ in range(allowances.RESULTS + 1):
        ledger.announce(ID, ADA.public, RESULT, NOW)
    assert ledger.rations.may_result(ADA.public, False, NOW)


def test_a_header_alone_is_no_progress() -> None:
    ledger = ledger_of(PROJECT, ADA, BOB, EVE)
    ledger.claims.hold(ADA.public, claim_record(PROJECT, {0: 0b11}), b"", NOW)
    ledger.announce(ID, ADA.public, RESULT, NOW + 20)
    held = ledger.claims.of(ADA.public)
    assert held is not None
    assert held.progress == NOW
