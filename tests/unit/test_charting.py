"""The map of chunks: what each letter says, who is named, and how often it is made."""

import pytest
import trio
import trio.testing

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.records import Claim, Grant, Result
from p2pcap.ledger.rulings import Finding
from p2pcap.ledger.state import Ledger
from p2pcap.node import charting, chunk_map
from p2pcap.node.charting import Charting, chart
from p2pcap.node.chunk_map import LETTERS, ChunkMap
from tests.audited import audited, finding, slice_of
from tests.makers import ADA, BOB, COORDINATOR, EVE, NOW, Made, claim_record, ledger_of, make_grant, make_result

COUNTS = (64, 64, 64, 64, 100, 64)
"""Free, begun, done, checked, claimed, failed: the chunks as `ledger` has them."""


@pytest.fixture
def made() -> Made:
    return audited(COUNTS)


@pytest.fixture
def ledger(made: Made) -> Ledger:
    ledger = ledger_of(made.project)
    results = [slice_of(made, ADA, chunk, 0) for chunk in (2, 3)]
    for result in results:
        take(ledger, result)
    take(ledger, seal(ADA, "result", make_result(made.project, 1, [made.row(1, item) for item in range(10)])[0]))
    say(ledger, finding(COORDINATOR, results[1], "ok", 0b11))
    claim(ledger, made, BOB, {4: 0b11})
    rows = [made.error(5, item) if item < 7 else made.row(5, item) for item in range(64)]
    take(ledger, seal(ADA, "result", make_result(made.project, 5, rows)[0]), errors=0b1111111)
    return ledger


def take(ledger: Ledger, envelope: Envelope, errors: int = 0) -> None:
    result = decode(envelope.payload, Result)
    ledger.add(envelope, result)
    ledger.complete(envelope.id, envelope.author, result, errors)


def say(ledger: Ledger, word: Envelope) -> None:
    ledger.add(word, decode(word.payload, Finding))


def claim(ledger: Ledger, made: Made, author: Identity, chunks: dict[int, int]) -> None:
    envelope = seal(author, "claim", claim_record(made.project, chunks))
    ledger.hear(envelope, decode(envelope.payload, Claim), NOW)


def map_of(ledger: Ledger, me: Identity = EVE, now: float = NOW + 1) -> ChunkMap:
    steps = chart(ledger, me.public, now)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: ChunkMap = end.value
            return found


def letters(found: ChunkMap) -> str:
    (stage,) = found.stages
    return stage.letters


def test_each_chunk_is_a_letter(ledger: Ledger) -> None:
    found = map_of(ledger)
    assert letters(found) == ".-dvcx"
    assert set(letters(found)) == set(LETTERS)
    assert chunk_map.decode(chunk_map.encode(found)) == found


def test_a_few_errors_make_no_failed_chunk(made: Made, ledger: Ledger) -> None:
    rows = [made.error(0, item) if item < 6 else made.row(0, item) for item in range(64)]
    take(ledger, seal(ADA, "result", make_result(made.project, 0, rows)[0]), errors=0b111111)
    assert letters(map_of(ledger))[0] == "d"


def test_a_chunk_whose_verdict_was_bad_is_not_checked(made: Made, ledger: Ledger) -> None:
    result = slice_of(made, BOB, 0, 0)
    take(ledger, result)
    assert letters(map_of(ledger))[0] == "d"
    say(ledger, finding(COORDINATOR, result, "bad", 0b1))
    assert letters(map_of(ledger))[0] == "."


def test_a_claim_is_told_with_whose_it_is_and_until_when(made: Made, ledger: Ledger) -> None:
    claim(ledger, made, EVE, {0: 1, 4: 1})
    ledger.members.take(grant := make_grant(made.project, BOB, "Bob\x1b[2J", NOW + 1), _grant(grant))
    mine, also_mine, bobs = map_of(ledger).claims
    assert [(one.chunk, one.mine, one.author) for one in (mine, also_mine)] == [
        (0, True, EVE.peer_id), (4, True, EVE.peer_id),
    ]  # fmt: skip
    assert (bobs.chunk, bobs.mine, bobs.name, bobs.images, bobs.done) == (4, False, "Bob\x1b[2J", 100, 0)
    assert bobs.expires == NOW + 30
    assert not bobs.idle
    later = map_of(ledger, now=NOW + 28).claims
    assert [one.idle for one in later] == [True] * 3
    over = map_of(ledger, now=NOW + 31)
    assert (over.claims, over.claimed) == ((), 0)
    assert letters(over) == ".-dv.x"


def _grant(envelope: Envelope) -> Grant:
    return decode(envelope.payload, Grant)


def test_of_many_claims_the_nodes_own_and_the_lowest_chunks_are_named(
    made: Made, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(ledger, made, ADA, dict.fromkeys(range(5), 1))
    claim(ledger, made, EVE, {5: 1})
    monkeypatch.setattr(charting, "MAX_CLAIMS", 3)
    found = map_of(ledger)
    assert [(one.chunk, one.mine) for one in found.claims] == [(5, True), (0, False), (1, False)]
    assert found.claimed == 7


def test_a_map_is_made_anew_when_the_one_before_has_paid_for_itself(ledger: Ledger, made: Made) -> None:
    async def run() -> None:
        maps = Charting(ledger, EVE.public)
        first = await maps.look(NOW)
        take(ledger, slice_of(made, BOB, 0, 0))
        assert await maps.look(NOW + 1) is first
        await trio.sleep(3_600)
        assert letters(await maps.look(NOW + 2))[0] == "d"

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
