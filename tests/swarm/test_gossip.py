"""Announcements reach everybody, and only good ones do."""

from contextlib import AsyncExitStack

import pytest
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2

from p2pcap.errors import SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm.messages import MAX_MESSAGE
from p2pcap.swarm.router import Router
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.swarm import Swarm
from tests.swarm.twin import ROOT, Twin, node, stranger, within


def data_heard(twin: Twin) -> set[bytes]:
    return {data for _, _, data in twin.heard}


async def star(stack: AsyncExitStack, leaves: int) -> tuple[tuple[Swarm, Twin], list[tuple[Swarm, Twin]]]:
    """A hub, and leaves that are connected to the hub only."""
    hub, at_hub = await stack.enter_async_context(node(links=0))
    around = [await stack.enter_async_context(node(hub.addresses[0], links=1)) for _ in range(leaves)]
    await at_hub.met(*(leaf for leaf, _ in around))
    return (hub, at_hub), around


@within(30)
async def test_a_message_published_at_once_after_connecting_arrives() -> None:
    async with node() as (a, at_a), node() as (b, _):
        await b.connect(a.addresses[0])
        await b.publish("claims", b"before any mesh")
        await at_a.until(lambda: at_a.heard == [("claims", b.peer_id, b"before any mesh")])


@within(30)
async def test_own_messages_go_to_every_listener_mesh_or_not() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, _):
        await b.publish("claims", b"first")
        await at_a.until(lambda: bool(at_a.heard))
        router, own, name = b._gossip.router, b._gossip.pubsub.my_id, b._gossip._names["claims"]
        router.mesh[name] = set()
        assert {str(peer) for peer in router._get_peers_to_send([name], own, own)} == {a.peer_id}
        upstream = GossipSub._get_peers_to_send(router, [name], own, own)
        assert not list(upstream), "upstream mends this: Router._get_peers_to_send can go"


@within(30)
async def test_gossip_moves_to_another_connection_when_its_own_is_gone() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        peer = ID.from_string(b.peer_id)
        await a._host.get_network().dial(b._host.get_transport_addrs()[0], peer)
        assert len(a._host.get_network().get_connections(peer)) == 2
        while peer not in a._gossip.pubsub.peers:
            await a.status(b.peer_id)
        used = a._gossip.pubsub.peers[peer].muxed_conn
        (connection,) = (c for c in a._host.get_network().get_connections(peer) if c.muxed_conn is used)
        await connection.close()
        await a.publish("claims", b"still here")
        await at_b.until(lambda: b"still here" in data_heard(at_b))
        assert ("disconnect", b.peer_id) not in at_a.events
        assert [info.peer_id for info in a.peers()] == [b.peer_id]


@within(60)
async def test_every_leaf_of_a_star_hears_every_other() -> None:
    async with AsyncExitStack() as stack:
        (_hub, at_hub), leaves = await star(stack, 8)
        said = {b"%d of leaf %d" % (i, n): leaf for n, (leaf, _) in enumerate(leaves) for i in range(5)}
        for data, leaf in said.items():
            await leaf.publish("claims", data)
        await at_hub.until(lambda: data_heard(at_hub) == said.keys())
        for leaf, twin in leaves:
            others = {data for data, author in said.items() if author is not leaf}
            await twin.until(lambda twin=twin, others=others: data_heard(twin) == others)  # type: ignore[misc]


@within(60)
async def test_a_burst_arrives_whole() -> None:
    async with AsyncExitStack() as stack:
        _, ((first, _), *others) = await star(stack, 3)
        burst = {b"burst %d" % n for n in range(300)}
        for data in burst:
            await first.publish("claims", data)
        for _, twin in others:
            await twin.until(lambda twin=twin: data_heard(twin) == burst)  # type: ignore[misc]


@within(60)
async def test_a_restarted_publisher_is_heard() -> None:
    identity = Identity.generate()
    async with node() as (a, at_a):
        for life in (b"first", b"second"):
            async with node(a.addresses[0], identity=identity) as (b, at_b):
                await at_b.met(a)
                for n in range(20):
                    await b.publish("claims", life + b" %d" % n)
                await at_a.until(lambda life=life: life + b" 19" in data_heard(at_a))  # type: ignore[misc]
        assert len(data_heard(at_a)) == 40


@within(60)
async def test_a_publisher_that_repeats_its_numbers_is_not_heard() -> None:
    """Why `Gossip` counts in nanoseconds: upstream starts at the second of the start, as here."""
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        counter = b._gossip.pubsub.counter
        await b.publish("claims", b"first life")
        b._gossip.pubsub.counter = counter
        await b.publish("claims", b"second life")
        await b.publish("claims", b"later")
        await at_a.until(lambda: b"later" in data_heard(at_a))
        assert data_heard(at_a) == {b"first life", b"later"}


@within(30)
async def test_ignored_is_not_relayed_and_costs_nobody() -> None:
    async with AsyncExitStack() as stack:
        (hub, at_hub), ((first, _), (_, at_second)) = await star(stack, 2)
        at_hub.verdicts[b"unknown author"] = Judgement.IGNORE
        await first.publish("claims", b"unknown author")
        await first.publish("claims", b"good")
        await at_second.until(lambda: b"good" in data_heard(at_second))
        assert data_heard(at_second) == {b"good"}
        assert all(peer.score == 0 for peer in hub.peers())


@within(30)
async def test_rejected_costs_the_relayer_and_in_the_end_its_place() -> None:
    async with AsyncExitStack() as stack:
        (hub, at_hub), ((first, _at_first), (second, at_second)) = await star(stack, 2)
        bad = [b"bad %d" % n for n in range(12)]
        at_hub.verdicts |= dict.fromkeys(bad, Judgement.REJECT)
        await first.publish("claims", bad[0])
        await at_hub.until(lambda: bad[0] in data_heard(at_hub))
        assert {peer.peer_id: round(peer.score) for peer in hub.peers()} == {first.peer_id: -10, second.peer_id: 0}
        for data in bad[1:]:
            await first.publish("claims", data)
        await at_hub.until(lambda: ("disconnect", first.peer_id) in at_hub.events)
        assert not data_heard(at_second)


@within(30)
async def test_an_oversized_message_is_refused_before_it_is_judged() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        with pytest.raises(SwarmError, match="at most"):
            await b.publish("claims", bytes(MAX_MESSAGE + 1))
        await b._gossip.pubsub.publish(b._gossip._names["claims"], bytes(MAX_MESSAGE + 1))
        await b.publish("claims", bytes(MAX_MESSAGE))
        await at_a.until(lambda: bool(at_a.heard))
        assert len(at_a.heard[0][2]) == MAX_MESSAGE
        assert round(a.peers()[0].score) == -10


@within(30)
async def test_a_peer_that_missed_the_subscription_hears_it_again() -> None:
    async with node() as (a, at_a), node(a.addresses[0], announce_every=0.05) as (b, at_b):
        await at_a.met(b)
        topics = a._gossip.pubsub.peer_topics
        while not any(topics.values()):
            await a.status(b.peer_id)
        topics.clear()  # as the race between subscribing and registering leaves it
        a._gossip.pubsub._peer_subscription_count.clear()
        a._gossip.router.mesh = {topic: set() for topic in a._gossip.router.mesh}
        while len(topics) < 2:
            await a.status(b.peer_id)
        await a.publish("claims", b"again")
        await at_b.until(lambda: b"again" in data_heard(at_b))


@within(30)
async def test_peers_in_back_off_are_told_what_is_new() -> None:
    async with node() as (a, _at_a), node(a.addresses[0], links=0) as (b, at_b), stranger(b) as other:
        await at_b.met(a)
        name = b._gossip._names["claims"]
        router = a._gossip.router
        while not a._gossip.pubsub.peer_topics.get(name):
            await a.status(b.peer_id)
        router.mcache.put(rpc_pb2.Message(data=b"x", topicIDs=[name], from_id=b"f", seqno=b"1"))
        peer = next(iter(a._gossip.pubsub.peer_topics[name]))
        router.mesh[name].discard(peer)
        router._add_back_off(peer, name, False)
        assert router.gossip_heartbeat() == {peer: {name: [b"f1"]}}
        assert not GossipSub.gossip_heartbeat(router), "upstream mends this: Router.gossip_heartbeat can go"
        assert other.peer_id != b.peer_id


@within(30)
async def test_each_peer_gets_its_own_control_message() -> None:
    sent: dict[str, rpc_pb2.ControlMessage] = {}

    class Recording(Router):
        async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: str) -> None:
            sent[to_peer] = control_msg

    router = Recording(8)
    await router._emit_control_msgs({"a": ["x"], "b": ["y"]}, {"c": ["x"]}, {"a": {"x": [b"1"]}, "d": {"y": [b"2"]}})
    assert {peer: [graft.topicID for graft in control.graft] for peer, control in sent.items()} == {
        "a": ["x"], "b": ["y"], "c": [], "d": [],
    }  # fmt: skip
    assert [ihave.messageIDs for ihave in sent["a"].ihave] == [[b"1"]]
    assert [prune.backoff for prune in sent["c"].prune] == [10]
    upstream: dict[str, int] = {}
    sent.clear()
    await GossipSub._emit_control_msgs(router, {"a": ["x"], "b": ["y"]}, {}, {})
    upstream = {peer: len(control.graft) for peer, control in sent.items()}
    assert upstream == {"a": 1, "b": 2}, "upstream mends this: Router._emit_control_msgs can go"
    assert ROOT
