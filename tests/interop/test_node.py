"""js-libp2p against a whole node: its statements enter the ledger, its captions the table, and it reads both."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.grants import grant_for, own_grant
from p2pcap.ledger.records import Grant
from p2pcap.node.member import Member
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions
from p2pcap.project.ticket import Invite, Ticket
from p2pcap_bootstrap import config, serving
from tests.interop.js import JsPeer, js_peer
from tests.swarm.twin import ANY, within
from tests.unit.coordinator import signed_project

pytestmark = pytest.mark.usefixtures("installed")

ALICE, BOB = bytes([21]) * 32, bytes([22]) * 32
PICTURES = 64


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A short place for control sockets. `tmp_path` is made before."""
    with tempfile.TemporaryDirectory(prefix="p2p") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield


def options_for(base: Path) -> NodeOptions:
    """A coordinator's, for a project of one slice."""
    workspace = signed_project(base, images=PICTURES)
    project = workspace.project()
    seed = serving.load_seed(workspace, config.read(workspace.directory), project)
    return NodeOptions(base / "node", "coordinator", serving.make_ticket(workspace, project), ANY, seed=seed)


@asynccontextmanager
async def coordinator(base: Path) -> AsyncIterator[tuple[Node, Member]]:
    """A running coordinator."""
    options = await trio.to_thread.run_sync(options_for, base)  # signing has a trio of its own
    node = Node(options, lambda line: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        while node.member is None:
            await trio.lowlevel.checkpoint()
        yield node, node.member
        node.stop()


@asynccontextmanager
async def joined(node: Node, seed: bytes) -> AsyncIterator[JsPeer]:
    """A js peer of the node's project that is connected to it."""
    assert node.swarm is not None
    async with js_peer(node.options.ticket.root, seed) as js:
        await js.do("dial", address=node.swarm.addresses[0])
        yield js


async def admit(js: JsPeer, node: Node, member: Member) -> Envelope:
    """The js peer's own grant, once it is in the ledger."""
    assert node.swarm is not None
    answer = await js.do("join", peer=node.swarm.peer_id, ticket=node.ticket())
    assert answer["good"]
    grant = open_envelope(bytes.fromhex(answer["grant"]))
    while grant.id not in member.ledger.index:
        await member.change.wait()
    return grant


@within(120)
async def test_a_js_volunteer_is_admitted_and_its_captions_count(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as (node, member), joined(node, ALICE) as js:
        assert node.swarm is not None
        grant = await admit(js, node, member)
        assert grant.data == _python_grant(node.options.ticket, decode(grant.payload, Grant)).data

        said = await js.do("caption", peer=node.swarm.peer_id, text="made by another program")
        while not member.ledger.finished:
            await member.change.wait()
        result = bytes.fromhex(said["id"])
        assert result in member.ledger.index
        assert member.ledger.by_author_total(Identity.from_seed(ALICE).public) == PICTURES

        read = await js.do("captions", peer=node.swarm.peer_id, root=said["root"])
        assert read["texts"] == [["made by another program"]] * PICTURES


@within(120)
async def test_a_late_js_peer_gets_every_statement_and_a_body_by_its_merkle_root(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as (node, member):
        assert node.swarm is not None
        async with joined(node, ALICE) as alice:
            grant = await admit(alice, node, member)
            said = await alice.do("caption", peer=node.swarm.peer_id, text="a red circle")
            while not member.ledger.finished:
                await member.change.wait()
        async with joined(node, BOB) as bob:
            got = await bob.do("sync", peer=node.swarm.peer_id)
            assert got == {"got": len(member.ledger.index), "gave": 0}
            held = (await bob.do("held"))["ids"]
            assert {grant.id.hex(), said["id"]} <= set(held)
            read = await bob.do("captions", peer=node.swarm.peer_id, root=said["root"])
            assert read["texts"] == [["a red circle"]] * PICTURES
            theirs = await node.swarm.status(bob.peer_id)
            assert int.from_bytes(theirs.digest, "big") == member.ledger.index.digest


@within(120)
async def test_a_js_peer_pushes_what_a_node_lacks(tmp_path: Path) -> None:
    """A grant that nobody gossiped."""
    async with coordinator(tmp_path) as (node, member), joined(node, BOB) as bob:
        assert node.swarm is not None
        carol = Identity.from_seed(bytes([23]) * 32)
        ticket = node.options.ticket
        grant = own_grant(carol, ticket, member.ledger.project, "Carol", int(node.clock()))
        assert grant is not None
        await bob.do("hold", envelope=grant.data.hex())
        assert (await bob.do("sync", peer=node.swarm.peer_id))["gave"] == 1
        assert grant.id in member.ledger.index
        assert await node.swarm.statements(bob.peer_id, [grant.id]) == [grant.data]


def _python_grant(ticket: Ticket, same: Grant) -> Envelope:
    """What this implementation makes of the same project, name and time."""
    assert ticket.invitation is not None
    assert isinstance(same.invite, Invite)
    record = grant_for(Identity.from_seed(ALICE), same.m, same.name, same.time, same.invite)
    return seal(ticket.invitation.key, "grant", record)
