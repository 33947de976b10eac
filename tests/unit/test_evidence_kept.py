"""Evidence on a node's disk: committed with its result, handed out by hash, dropped when its time is over."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.body import Body
from p2pcap.ledger.checkpoint import Seal
from p2pcap.ledger.evidence import KEPT_SECONDS, make_evidence, open_evidence
from p2pcap.ledger.records import Result, Row
from p2pcap.ledger.rulings import Redact
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.evidence import EvidenceKeeping
from p2pcap.node.intake import Intake
from p2pcap.node.service import NodeService
from p2pcap.node.station import NodeStation
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch, PutBlob, PutProject
from tests.makers import ADA, BOB, COORDINATOR, NOW, ledger_of, make_project, make_result, work_of
from tests.unit.store_project import database

MADE = make_project((128,))
IDS = {0: ((5, 6, 7),), 1: ((8, 2),)}


class Quiet:
    """A network in which nobody is."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def peers(self) -> tuple[()]:
        return ()

    async def publish(self, topic: str, data: bytes) -> None:
        self.said.append(data)


class Node:
    """ADA's node."""

    def __init__(self, store: Store) -> None:
        self.store, self.network, self.change, self.time = store, Quiet(), Change(), float(NOW)
        self.ledger: Ledger = ledger_of(MADE.project, ADA, BOB)
        network, unused, work = cast(Any, self.network), cast(Any, None), work_of(self.ledger)
        self.station = NodeStation(
            self.ledger, work, store, network, unused, unused, self.change, self.clock, lambda line: None
        )
        self.intake = Intake(ADA, self.ledger, store, self.change, lambda envelope, result: None, self.clock)
        self.evidence = EvidenceKeeping(ADA.public, self.ledger, store, self.clock)
        member = SimpleNamespace(ledger=self.ledger, files={})
        self.service = NodeService(cast(Any, SimpleNamespace(member=member, store=store)))

    def clock(self) -> float:
        return self.time

    async def publish(self, author: Identity = ADA, first: int = 0) -> bytes:
        """A result of the author is here, with its evidence; returns the hash of that."""
        evidence = make_evidence({first + item: ids for item, ids in IDS.items()})
        assert evidence is not None
        header, result, rows, body = signed(author, first, hashlib.sha256(evidence).digest())
        if author is ADA:
            await self.station.publish_result(header, result, rows, body, evidence)
        else:  # whoever makes it may name anything: here it names what this node needs
            await self.store.commit(PutBatch(header, result, rows, body.data, NOW), PutBlob(evidence_of(result), b"!"))
            self.ledger.add(header, result)
            self.ledger.complete(header.id, author.public, result, 0)
        return evidence_of(result)

    def seal(self) -> None:
        ids = list(self.ledger.results)
        self.ledger.seals.take(Seal(self.ledger.seals.head + 1, bytes(32), bytes(32), {}), ids)

    async def redact(self, item: int) -> None:
        ruling = Redact(MADE.project.m, 0, item // 64 * 64, 64, (1 << item % 64).to_bytes(8, "little"), "private", NOW)
        await self.intake.settle(seal(COORDINATOR, "redact", ruling), ruling)


def evidence_of(result: Result) -> bytes:
    assert isinstance(result.evidence, bytes)
    return result.evidence


def signed(author: Identity, first: int, evidence: bytes) -> tuple[Envelope, Result, list[Row], Body]:
    rows = [MADE.row(0, first), MADE.row(0, first + 1)]
    result, body = make_result(MADE.project, 0, rows)
    result = msgspec.structs.replace(result, evidence=evidence)
    return seal(author, "result", result), result, rows, body


def on_disk(directory: Path, use: Callable[[Node], Awaitable[None]]) -> None:
    async def run() -> None:
        store = Store.open(database(directory))
        try:
            await store.commit(PutProject(MADE.project, NOW))
            await use(Node(store))
        finally:
            await store.close()

    trio.run(run)


def test_it_is_committed_with_its_result_and_handed_out_by_its_hash(tmp_path: Path) -> None:
    async def use(node: Node) -> None:
        hash_ = await node.publish()
        assert len(node.network.said) == 1
        data = await node.service.content("blob", hash_)
        assert isinstance(data, bytes)
        assert open_evidence(data) == IDS
        assert hashlib.sha256(data).digest() == hash_

    on_disk(tmp_path, use)


def test_a_result_without_any_is_published_too(tmp_path: Path) -> None:
    async def use(node: Node) -> None:
        rows = [MADE.row(0, 0)]
        result, body = make_result(MADE.project, 0, rows)
        await node.station.publish_result(seal(ADA, "result", result), result, rows, body, None)
        assert len(node.network.said) == 1

    on_disk(tmp_path, use)


def test_it_goes_a_day_after_its_result_once_that_is_sealed(tmp_path: Path) -> None:
    async def use(node: Node) -> None:
        hash_ = await node.publish()
        others = await node.publish(BOB, first=64)
        for seconds, sealed in ((0, True), (KEPT_SECONDS - 1, True), (KEPT_SECONDS, True)):
            await node.evidence.drop_outdated()
            assert await node.store.blob(hash_) is not None
            node.time = NOW + seconds
            if sealed and not node.ledger.seals.by_id:
                node.seal()
        await node.evidence.drop_outdated()
        assert await node.store.blob(hash_) is None
        assert await node.store.blob(others) is not None, "of others' results nothing is dropped, whatever they name"
        await node.evidence.drop_outdated()

    on_disk(tmp_path, use)


def test_a_redaction_takes_it_away_at_once(tmp_path: Path) -> None:
    async def use(node: Node) -> None:
        redacted, kept, others = await node.publish(), await node.publish(first=64), await node.publish(BOB, first=1)
        await node.redact(1)
        assert await node.store.blob(redacted) is None
        assert await node.store.blob(kept) is not None
        assert await node.store.blob(others) is not None, "its author may have named what this node needs"

    on_disk(tmp_path, use)


def test_of_what_was_redacted_meanwhile_nothing_is_kept(tmp_path: Path) -> None:
    async def use(node: Node) -> None:
        await node.redact(0)
        hash_ = await node.publish()
        assert await node.store.blob(hash_) is None
        assert node.network.said == []

    on_disk(tmp_path, use)
