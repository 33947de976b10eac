"""What statements add up to: the same in any order, and only checked rows count as done."""

import random

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger.grants import grant_for
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import ANNOUNCED_FOR, Ledger
from p2pcap.project.ticket import invite
from tests.makers import ADA, BOB, COORDINATOR, FOREVER, NOW, TICKET_KEY, claim_record, make_project, make_result

MADE = make_project((128, 100))
PROJECT = MADE.project
RESULT, _ = make_result(PROJECT, 0, [MADE.row(0, index) for index in range(10)])
TEN = 2**10 - 1
ID, OTHER = b"\1" * 32, b"\2" * 32


def grant(name: str, time: int) -> Grant:
    return grant_for(ADA, PROJECT.m, name, time, invite(COORDINATOR, PROJECT.m, TICKET_KEY.public, FOREVER))


def test_a_header_keeps_others_off_for_a_while() -> None:
    ledger = Ledger(PROJECT)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    assert ledger.open_items(0, NOW) == 2**128 - 1 - TEN
    assert ledger.open_items(0, NOW + ANNOUNCED_FOR - 1) == 2**128 - 1 - TEN
    assert ledger.open_items(0, NOW + ANNOUNCED_FOR) == 2**128 - 1
    assert ledger.missing(0) == 2**128 - 1
    assert ledger.items_done == 0


def test_a_false_header_keeps_nobody_off() -> None:
    ledger = Ledger(PROJECT)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    ledger.announce(OTHER, BOB.public, RESULT, NOW)
    ledger.forget(ID, RESULT)
    assert ledger.open_items(0, NOW) == 2**128 - 1 - TEN
    ledger.forget(OTHER, RESULT)
    assert ledger.open_items(0, NOW) == 2**128 - 1
    assert ledger.announced == {}


def test_a_checked_body_counts() -> None:
    ledger = Ledger(PROJECT)
    ledger.announce(ID, ADA.public, RESULT, NOW)
    ledger.complete(ID, ADA.public, RESULT)
    assert ledger.announced == {}
    assert ledger.missing(0) == ledger.open_items(0, NOW + 10_000) == 2**128 - 1 - TEN
    assert ledger.items_done == 10
    assert ledger.by_author == {(ADA.public, 0): TEN}


def test_the_same_item_counts_once() -> None:
    ledger = Ledger(PROJECT)
    for id_, author in ((ID, ADA), (OTHER, BOB), (ID, ADA)):
        ledger.complete(id_, author.public, RESULT)
    assert ledger.items_done == 10


def test_finished_means_every_item() -> None:
    ledger = Ledger(PROJECT)
    for chunk, offset in ((0, 0), (0, 64), (1, 0), (1, 64)):
        assert not ledger.finished
        rows = [MADE.row(chunk, index) for index in range(offset, min(offset + 64, (128, 100)[chunk]))]
        ledger.complete(bytes([offset, chunk]) * 16, ADA.public, make_result(PROJECT, chunk, rows)[0])
    assert ledger.finished
    assert ledger.items_done == 228
    assert ledger.missing(1) == 0


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20), st.integers())
def test_equal_sets_have_equal_digests(ids: list[bytes], seed: int) -> None:
    one, other = Ledger(PROJECT), Ledger(PROJECT)
    for id_ in ids:
        one.add_id(id_)
    for id_ in random.Random(seed).sample(ids * 2, 2 * len(ids)):
        other.add_id(id_)
    assert (one.digest, one.stored, one.seen) == (other.digest, other.stored, other.seen)
    assert one.stored == len(set(ids))
    assert 0 <= one.digest < 2**256


def test_sets_that_differ_have_other_digests() -> None:
    one, other = Ledger(PROJECT), Ledger(PROJECT)
    one.add_id(ID)
    assert one.digest != other.digest
    other.add_id(OTHER)
    assert one.digest != other.digest


def test_the_newest_grant_gives_the_name_in_any_order() -> None:
    grants = [grant("ada", NOW), grant("Ada L.", NOW + 5), grant("zed", NOW), grant("A", NOW + 5)]
    for seed in range(10):
        ledger = Ledger(PROJECT)
        for one in random.Random(seed).sample(grants, len(grants)):
            ledger.grant(one)
        assert ledger.grants[ADA.public].name == "Ada L."


def test_a_header_renews_its_authors_claim() -> None:
    ledger = Ledger(PROJECT)
    ledger.claims.hold(ADA.public, claim_record(PROJECT, {0: 0b11}), b"", NOW)
    ledger.announce(ID, ADA.public, RESULT, NOW + 20)
    held = ledger.claims.of(ADA.public)
    assert held is not None
    assert held.progress == NOW + 20
