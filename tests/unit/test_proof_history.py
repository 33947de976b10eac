"""Proofs of what a project went through: answers made from other answers, checkpoints, keys that were replaced."""

from pathlib import Path
from typing import Any

import pytest

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import UntrustedError
from p2pcap.export.verifying import Tally, verify_parquet
from p2pcap.identity import Identity
from p2pcap.ledger import sealing
from p2pcap.ledger.checkpoint import SETTLE
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.project.items import ItemList, encode_list
from p2pcap.project.records import FormerKey
from p2pcap.store.writes import PutBatch, PutBlob, PutItems, PutProject, PutSeal, PutStatement, Write
from tests.makers import ADA, BOB, COORDINATOR, NOW, Made, chunks_of, make_grant, make_result
from tests.unit.proven import rewritten, written
from tests.unit.store_project import kept
from tests.unit.test_adopting import MADE as STAGED
from tests.unit.test_former_keys import MADE, OLD, rotated
from tests.unit.test_store_stages import AFTER, BEFORE, SETUP

Rows = list[dict[str, Any]]


def blobs(made: Made) -> list[Write]:
    """The item lists as peers ask for them."""
    lists = zip(chunks_of(made.project), made.items, strict=True)
    return [PutBlob(chunk.items, encode_list(ItemList(items))) for chunk, items in lists]


def verify(path: Path, expected: bytes) -> Tally:
    return verify_parquet(path, expected, processes=1).tally


# answers that were made from others' answers


@pytest.mark.parametrize("where", ["", "item % 3 = 1", "stage = 'short'", "item >= 9"])
def test_what_a_row_was_given_is_proved(where: str, tmp_path: Path) -> None:
    stored = kept(tmp_path, [*SETUP, *blobs(STAGED), *BEFORE])
    path = written(stored, tmp_path / "out.parquet", where)
    assert verify(path, STAGED.project.hash).rows > 0
    for name in ("text", "tokens", "finish"):
        other = {"text": "a green circle", "tokens": 9_999, "finish": "elsewhere"}[name]

        def change(rows: Rows, name: str = name, other: object = other) -> None:
            last = [row for row in rows if row["answers"]][-1]
            last["answers"][0][name] = other

        with pytest.raises(UntrustedError, match="not what its author signed"):
            verify(rewritten(path, change), STAGED.project.hash)


def test_what_a_stage_keeps_of_an_earlier_task_is_proved(tmp_path: Path) -> None:
    stored = kept(tmp_path, [*SETUP, *blobs(STAGED), *BEFORE, *AFTER])
    path = written(stored, tmp_path / "out.parquet")
    assert verify(path, STAGED.project.hash).results >= 2


# checkpoints, and the key that signed them


def batch(author: Identity, first: int) -> PutBatch:
    rows = [MADE.row(0, index) for index in range(first, first + 20)]
    result, body = make_result(OLD, 0, rows)
    return PutBatch(seal(author, "result", result), result, tuple(rows), body.data, NOW)


def checkpoint(ledger: Ledger, number: int) -> tuple[Envelope, list[Write]]:
    """One that seals what the ledger has, as the coordinator makes it."""
    now = NOW + number * (SETTLE + 1)
    sealed = sealing.make(ledger, sealing.sealable(ledger, now), bytes([number]) * 32, now)
    envelope = seal(COORDINATOR, "checkpoint", sealed.record)
    taken = sealing.seal_of(sealed.record, envelope.payload_hash, {})
    ledger.add(envelope, sealed.record)
    ledger.seal(sealed.record, taken, sealed.ids)
    kept = [PutBlob(hash_, data) for hash_, data in sealed.blobs.items()]
    return envelope, [PutStatement(envelope, now), *kept, PutSeal(taken, sealed.ids)]


def history(*, late: bool) -> list[Write]:
    """Ada's captions, sealed by the first coordinator, whose key was then replaced; with `late` Bob's, whose grant that
    coordinator signed and nobody sealed."""
    ledger, put = Ledger(OLD), batch(ADA, 0)
    grant = make_grant(OLD, ADA, "Ada")
    ledger.add(grant, decode(grant.payload, Grant))
    ledger.add(put.envelope, put.result)
    ledger.complete(put.envelope.id, put.envelope.author, put.result, 0)
    envelope, sealed = checkpoint(ledger, 1)
    former = FormerKey(COORDINATOR.public, 1, envelope.payload_hash)
    lists = [PutItems.of(number, ItemList(items)) for number, items in enumerate(MADE.items)]
    writes = [PutProject(OLD, NOW), *lists, *blobs(MADE), PutStatement(grant, NOW), put, *sealed]
    if late:
        writes += [PutStatement(make_grant(OLD, BOB, "Bob"), NOW), batch(BOB, 20)]
    return [*writes, PutProject(rotated(former), NOW)]


def test_what_a_former_coordinator_sealed_is_proved(tmp_path: Path) -> None:
    path = written(kept(tmp_path, history(late=False)), tmp_path / "out.parquet")
    assert verify(path, OLD.hash) == Tally(rows=20, errors=0, results=1, sealed=1)


def test_what_a_former_coordinator_admitted_and_nobody_sealed_is_not(tmp_path: Path) -> None:
    path = written(kept(tmp_path, history(late=True)), tmp_path / "out.parquet")
    with pytest.raises(UntrustedError, match=r"row 21 .*unknown author"):
        verify(path, OLD.hash)
