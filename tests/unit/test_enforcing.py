"""The coordinator's node bans by itself: durable before it is told, once, and not by any other node."""

from pathlib import Path

import trio

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.identity import Identity
from p2pcap.ledger.rulings import Ban
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.enforcing import Enforcing
from p2pcap.node.intake import Intake
from p2pcap.node.restart import rebuild
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject
from tests.audited import audited, finding, slice_of
from tests.makers import ADA, BOB, COORDINATOR, NOW, make_grant

VERA = Identity.from_seed(b"v" * 32)
MADE = audited((1_024,), verifiers=(VERA.public,))
ADAS = [slice_of(MADE, ADA, 0, number) for number in range(4)]
BAD = [finding(VERA, one, "bad", 1, NOW + number) for number, one in enumerate(ADAS)]


class Node:
    """A ledger, a store and an intake, and what the network was told and when it was on disk."""

    def __init__(self, store: Store, ledger: Ledger, signer: Identity) -> None:
        self.store, self.ledger = store, ledger
        self.told: list[Envelope] = []
        self.said: list[str] = []
        self.intake = Intake(signer, ledger, store, Change(), lambda envelope, result: None, lambda: NOW + 1_000.0)
        self.enforcing = Enforcing(signer, ledger, self, self.intake, lambda: NOW + 1_000.0, self.said.append)  # type: ignore[arg-type]

    async def publish(self, topic: str, data: bytes) -> None:
        """A statement is told: it has to be on disk."""
        envelope = open_envelope(data)
        assert await self.store.statements([envelope.id]) == [data]
        self.told.append(envelope)


async def filled(path: Path, signer: Identity) -> Node:
    store = Store.open(path)
    await store.commit(PutProject(MADE.project, 1.0))
    return Node(store, Ledger(MADE.project), signer)


def run(path: Path, signer: Identity) -> Node:
    """A node that hears all this, rules, and ends."""

    async def live() -> Node:
        node = await filled(path, signer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.intake.run)
            nursery.start_soon(node.enforcing.run)
            grants = [make_grant(MADE.project, ADA), make_grant(MADE.project, BOB)]
            for page in (grants, ADAS, BAD):
                received = await node.intake.receive([one.data for one in page])
                assert received.new == len(page)
            await node.enforcing.rule()
            nursery.cancel_scope.cancel()
        loaded = await node.store.load()
        again = Node(node.store, rebuild(loaded, MADE.project), signer)
        await again.enforcing.rule()
        assert again.told == []
        assert again.ledger.rulings.ban(ADA.public) == node.ledger.rulings.ban(ADA.public)
        await node.store.close()
        return node

    return trio.run(live)


def test_the_coordinators_node_bans_once_and_durably(tmp_path: Path) -> None:
    node = run(tmp_path / "ledger.duckdb", COORDINATOR)
    (ban,) = node.told
    record = decode(ban.payload, Ban)
    assert (record.author, record.scope) == (ADA.public, "unsealed")
    assert set(record.evidence) == {one.id for one in BAD}
    assert "by what verifiers found: 4 of 4 checked captions are wrong" in node.said[0]


def test_no_other_node_does(tmp_path: Path) -> None:
    node = run(tmp_path / "ledger.duckdb", BOB)
    assert node.told == []
    assert node.ledger.trust.standing(ADA.public).quarantined
