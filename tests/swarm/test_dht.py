"""The hash table between real hosts of two projects: found through strangers, and safe from them."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.utils.varint import encode_varint_prefixed

from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint, parse_endpoint
from p2pcap.swarm.discovery import dht as dht_module
from p2pcap.swarm.discovery import guests as guests_module
from p2pcap.swarm.discovery.dht import PROTOCOL, Dht, key_of
from p2pcap.swarm.discovery.guests import GUESTS, Guests
from p2pcap.swarm.discovery.kad_messages import (
    ADD_PROVIDER,
    FIND_NODE,
    GET_PROVIDERS,
    MAX_MESSAGE,
    PING,
    Question,
    read_answer,
    write_question,
)
from p2pcap.swarm.discovery.kademlia import contact_at
from p2pcap.swarm.frames import FrameReader
from p2pcap.swarm.swarm import Swarm
from tests.swarm.twin import ROOT, Twin, node, stranger, within

OTHER_ROOT = hashlib.sha256(b"another project").digest()
KEY = b"k" * 32


class Member:
    """A node of a project, with its part of the hash table."""

    def __init__(self, swarm: Swarm, twin: Twin, dht: Dht) -> None:
        self.swarm = swarm
        self.twin = twin
        self.dht = dht

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something holds that changes when questions are asked and answered here."""
        while not true():
            await self.dht._news.wait()

    @property
    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.swarm.addresses[0])


@asynccontextmanager
async def member(*entries: Member, root: bytes = ROOT) -> AsyncIterator[Member]:
    """A node that enters the hash table at `entries`, with no other address."""
    addresses = tuple(str(entry.endpoint) for entry in entries)
    async with node(twin=Twin(root), dht=True, dht_entries=addresses) as (swarm, twin):
        assert swarm._discovery.dht is not None
        yield Member(swarm, twin, swarm._discovery.dht)


@asynccontextmanager
async def members(count: int, *entries: Member, root: bytes = ROOT) -> AsyncIterator[list[Member]]:
    """Nodes that enter at `entries` and at the first of them."""
    async with AsyncExitStack() as stack:
        found: list[Member] = []
        for _ in range(count):
            found.append(await stack.enter_async_context(member(*entries, *found[:1], root=root)))
        yield found


@pytest.fixture
def _passive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that answer, and ask only when the test does."""
    monkeypatch.setattr(Dht, "run", lambda self: self.guests.run())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_module, "SEEK_AFTER", 0.2)


@within(90)
async def test_a_joiner_that_knows_only_a_node_of_another_project_finds_its_own() -> None:
    async with members(4, root=OTHER_ROOT) as others, members(3, others[1]) as ours:
        async with member(others[3]) as joiner:
            await joiner.twin.until(lambda: bool(joiner.twin.statuses))
            assert set(joiner.twin.statuses) <= {one.swarm.peer_id for one in ours}
            await joiner.twin.met(*(one.swarm for one in ours))
        for each in others:
            assert not {one.swarm.peer_id for one in ours} & set(each.twin.statuses)


@within(60)
async def test_guests_leave_and_are_not_taken_for_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests_module, "GUEST_SECONDS", 0.5)
    async with members(3, root=OTHER_ROOT) as others, member(others[0]) as me:
        everybody = {one.swarm.peer_id for one in others}
        await others[0].until(lambda: all(one.swarm.peer_id in others[0].dht._table for one in others[1:]))
        assert set((await me.dht.find(KEY)).answered) == everybody
        while me.swarm._host.get_network().get_connections():
            await trio.lowlevel.checkpoint()
        assert not me.twin.statuses


@within(30)
async def test_a_guest_is_answered_and_not_counted_as_a_peer() -> None:
    async with member(root=OTHER_ROOT) as me, stranger(me.swarm) as guest:
        while me.swarm.peers() or not len(me.dht.guests):
            await trio.lowlevel.checkpoint()
        await ask(await guest.open(PROTOCOL), write_question(Question(FIND_NODE, KEY)), FIND_NODE)
        assert len(me.swarm._host.get_network().get_connections()) == 1


@pytest.mark.usefixtures("_passive")
@within(60)
async def test_what_is_provided_is_found_from_everywhere() -> None:
    async with members(5) as nodes:
        for one in nodes[1:]:
            await one.dht.find(KEY)
        provider, seeker = nodes[1], nodes[4]
        assert await provider.dht.provide() == 4
        found = (await seeker.dht.find(key_of(ROOT[:8]))).providers
        assert [one.peer for one in found] == [provider.swarm.peer_id]
        assert provider.endpoint in found[0].endpoints
        assert (await seeker.dht.find(b"nobody's")).providers == []


@within(60)
async def test_nodes_that_go_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_module, "REFRESH_SECONDS", 0.5)
    async with member() as me:
        async with members(2, me) as others:
            gone = {one.swarm.peer_id for one in others}
            await me.until(lambda: all(peer in me.dht._table for peer in gone))
        await me.until(lambda: not any(peer in me.dht._table for peer in gone))


# strangers


async def ask(stream: Any, question: bytes, kind: int) -> Any:
    await stream.write(encode_varint_prefixed(question))
    return read_answer(await FrameReader(stream).read_delimited(MAX_MESSAGE, 5.0), kind)


@within(20)
async def test_silent_streams_shut_the_table_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_module, "QUESTION_SECONDS", 60.0)
    async with member() as me, stranger(me.swarm) as hostile, stranger(me.swarm) as honest:
        silent = [await hostile.open(PROTOCOL) for _ in range(60)]
        for stream in silent:
            await stream.write(b"\xff")
        answer = await ask(await honest.open(PROTOCOL), write_question(Question(FIND_NODE, KEY)), FIND_NODE)
        assert answer.closer == ()


HOSTILE = {
    "garbage": b"\x05\xff\xff\xff\xff\xff",
    "huge": b"\xff\xff\xff\xff\x0f",
    "endless length": b"\xff" * 20,
    "put value": encode_varint_prefixed(b"\x08\x00\x12\x01k"),
    "no key": encode_varint_prefixed(b"\x08\x04"),
    "for another": encode_varint_prefixed(
        write_question(
            Question(
                ADD_PROVIDER,
                KEY,
                provider=contact_at(
                    Identity.from_seed(b"o" * 32).peer_id,
                    [Endpoint("/ip4/10.0.0.1/tcp/1", Identity.from_seed(b"o" * 32).peer_id)],
                ),
            )
        )
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@within(30)
async def test_a_broken_question_costs_its_sender(data: bytes) -> None:
    async with member() as me, stranger(me.swarm) as hostile, stranger(me.swarm) as honest:
        stream = await hostile.open(PROTOCOL)
        await stream.write(data)
        while me.swarm._links.standing.score(hostile.peer_id, trio.current_time()) == 0:
            await trio.lowlevel.checkpoint()
        assert len(me.dht._providers) == 0
        await ask(await honest.open(PROTOCOL), write_question(Question(PING, KEY)), PING)


@pytest.mark.usefixtures("_passive")
@within(60)
async def test_a_node_that_answers_nonsense_is_left_and_costed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_module, "QUESTION_SECONDS", 1.0)

    async def nonsense(stream: Any) -> None:
        await stream.write(b"\xff\xff\xff\xff\x0f")

    async def silence(stream: Any) -> None:
        await trio.sleep_forever()

    async with member() as me, stranger(me.swarm) as liar, stranger(me.swarm) as mute:
        liar.host.set_stream_handler(PROTOCOL, nonsense)
        mute.host.set_stream_handler(PROTOCOL, silence)
        async with members(2) as others:
            ends = [Endpoint("/ip4/127.0.0.1/tcp/1", one.peer_id) for one in (liar, mute)]
            me.dht.enter([*ends, *(one.endpoint for one in others)])
            lookup = await me.dht.find(KEY)
            assert {one.swarm.peer_id for one in others} == set(lookup.answered)
        assert me.swarm._links.standing.score(liar.peer_id, trio.current_time()) < 0


@pytest.mark.usefixtures("_passive")
@within(60)
async def test_a_flood_of_records_is_bounded() -> None:
    async with member() as me, stranger(me.swarm) as hostile:
        own = contact_at(hostile.peer_id, [Endpoint(f"/ip4/10.0.0.1/tcp/{n}", hostile.peer_id) for n in range(1, 9)])
        for n in range(60):
            question = Question(ADD_PROVIDER, n.to_bytes(32, "big"), provider=own)
            await ask(await hostile.open(PROTOCOL), write_question(question), ADD_PROVIDER)
        assert len(me.dht._providers) == 8
        found = await ask(
            await hostile.open(PROTOCOL), write_question(Question(GET_PROVIDERS, bytes(32))), GET_PROVIDERS
        )
        assert found.providers == (), "nobody is told of itself"


# guests


def test_guests_have_few_places_and_make_room_when_they_are_silent() -> None:
    closed: list[str] = []
    up = {f"peer {n}" for n in range(20)}

    async def close(peer: str) -> None:
        closed.append(peer)
        up.discard(peer)

    async def main() -> None:
        guests = Guests(up.__contains__, close)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guests.run)
            admitted = [guests.admit(f"peer {n}") for n in range(GUESTS + 1)]
            assert admitted == [True] * GUESTS + [False]
            await trio.sleep(3)
            guests.heard("peer 0")
            assert guests.admit("peer 9")
            assert guests.admit("peer 10")
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(closed) == ["peer 1", "peer 2"]
            await trio.sleep(13)
            assert {"peer 3", "peer 7"} <= set(closed)
            assert "peer 0" not in closed
            await trio.sleep(10)
            assert len(guests) == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_whom_we_came_to_ask_is_left_when_it_has_answered() -> None:
    closed: list[str] = []

    async def close(peer: str) -> None:
        closed.append(peer)

    async def main() -> None:
        guests = Guests(lambda peer: True, close)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guests.run)
            async with guests.asking("slow"):
                guests.dialled("slow")
                assert guests.admit("slow")
            async with guests.asking("quick"):
                guests.dialled("quick")
            assert not guests.admit("quick")
            async with guests.asking("came to us"):
                assert guests.admit("came to us")
            await trio.testing.wait_all_tasks_blocked()
            assert closed == ["slow"]
            nursery.cancel_scope.cancel()

    trio.run(main)
