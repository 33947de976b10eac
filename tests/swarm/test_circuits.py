"""Whole nodes that meet through a relay: gossip, requests and content over the circuit, and after it."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio
from libp2p.peer.id import ID

from p2pcap.swarm.host import relayed
from p2pcap.swarm.swarm import Swarm
from tests.swarm.bare import until
from tests.swarm.test_punch import QUICK
from tests.swarm.twin import Twin, holds, node, within

Member = tuple[Swarm, Twin]


@asynccontextmanager
async def circuit(*, listening: bool = False) -> AsyncIterator[tuple[Member, Member, Member]]:
    """A caller and a called node that are connected through a relay and through nothing else.

    Neither has a wish for more than one link, so that nobody dials what the relay tells of the others; the caller
    listens only if `listening`.
    """
    mine = ("/ip4/127.0.0.1/tcp/0",) if listening else ()
    async with (
        node(relay="yes") as (relay, of_relay),
        node(relay.addresses[0], links=1, traverse=True, listen=()) as (called, of_called),
        node(relay.addresses[0], links=1, listen=mine) as (caller, of_caller),
    ):
        await of_relay.met(called, caller)
        traversal = called._traversal
        traversal._punching._times = QUICK
        await until(lambda: bool(traversal.reservations.transports()))
        await caller._traversal.circuits.dial(relay.peer_id, called.peer_id)
        await of_caller.met(called)
        await of_called.met(caller)
        yield (relay, of_relay), (caller, of_caller), (called, of_called)


def through_a_relay(one: Swarm, other: Swarm) -> list[bool]:
    """For each connection, whether it is relayed."""
    return [relayed(conn) for conn in one._host.get_network().get_connections(ID.from_string(other.peer_id))]


@within(30)
async def test_statements_and_content_go_through_a_relay() -> None:
    async with circuit() as (_, (caller, _), (called, of_called)):
        assert through_a_relay(caller, called) == [True]
        (transport,) = called._traversal.reservations.transports()
        assert called.addresses == (f"{transport}/p2p/{called.peer_id}",)
        hashes = of_called.offer(*(bytes([number]) * 200_000 for number in range(5)))
        async with aclosing(caller.fetch("image", hashes, [called.peer_id], holds, 1_000_000)) as items:
            assert {hash async for hash, _ in items} == set(hashes)
        assert await caller.statements(called.peer_id, []) == []
        await caller.publish("results", b"by gossip")
        await of_called.until(lambda: any(data == b"by gossip" for _, _, data in of_called.heard))


@within(30)
async def test_gossip_moves_to_the_direct_connection() -> None:
    """The relay is no part of it: the two alone are left in the end."""
    async with circuit(listening=True) as ((relay, _), (caller, of_caller), (called, of_called)):
        await until(lambda: through_a_relay(called, caller) == [False])
        await caller.disconnect(relay.peer_id)
        await called.disconnect(relay.peer_id)
        for number in range(20):
            await caller.publish("results", b"there %d" % number)
            await called.publish("results", b"back %d" % number)
        await of_called.until(lambda: sum(data.startswith(b"there") for _, _, data in of_called.heard) == 20)
        await of_caller.until(lambda: sum(data.startswith(b"back") for _, _, data in of_caller.heard) == 20)
        assert of_called.events.count(("disconnect", caller.peer_id)) == 0, "they were connected all the time"


@within(30)
async def test_a_node_behind_a_relay_stops_in_time() -> None:
    async with circuit() as (_, (caller, _), _):
        began = trio.current_time()
        await caller.disconnect(caller.peers()[0].peer_id)
    assert trio.current_time() - began < 8.0
