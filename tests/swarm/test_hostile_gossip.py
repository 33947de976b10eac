"""Attacks by gossip. An ignored message costs nobody, a wrong one each relayer once, and a flood its sender's time."""

import contextlib
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.pubsub.pb import rpc_pb2
from multiaddr import Multiaddr

from p2pcap.identity import Identity
from p2pcap.swarm import topics
from p2pcap.swarm.addresses import parse_endpoint
from p2pcap.swarm.limits import QUEUED_BYTES
from p2pcap.swarm.messages import MAX_MESSAGE
from p2pcap.swarm.rpcs import MAX_CONTROL, MAX_MESSAGES, MAX_RPC, MAX_SUBSCRIPTIONS
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.swarm import Swarm
from tests.swarm.hostile import (
    NAMES,
    SUBSCRIBED,
    TOPIC,
    Listening,
    Whisperer,
    control,
    delimited,
    message,
    rpc,
    scene,
    whisperer,
)
from tests.swarm.test_requests import ended
from tests.swarm.twin import node, stranger, within

SOMEBODY = Identity.from_seed(bytes(32))


def limits_broken() -> dict[str, bytes]:
    """RPCs that are refused as a whole."""
    subscribe = rpc_pb2.RPC.SubOpts(subscribe=True, topicid="x")
    broken = {
        "too-long": delimited(bytes(MAX_RPC + 1)),
        "messages": rpc(*[rpc_pb2.Message()] * (MAX_MESSAGES + 1)),
        "subscriptions": rpc(subscriptions=[subscribe] * (MAX_SUBSCRIPTIONS + 1)),
        "message-topic": delimited(b"\x12\x06\x22\x04\xff\xfe\xfd\xfc"),
        "endless-length": b"\xff" * 11,
    }
    kinds: dict[str, Any] = {
        "ihave": rpc_pb2.ControlIHave(topicID=TOPIC),
        "iwant": rpc_pb2.ControlIWant(),
        "graft": rpc_pb2.ControlGraft(topicID=TOPIC),
        "prune": rpc_pb2.ControlPrune(topicID=TOPIC),
    }
    return broken | {kind: control(**{kind: [entry] * (MAX_CONTROL + 1)}) for kind, entry in kinds.items()}


@within(60)
@pytest.mark.parametrize("kind", limits_broken())
async def test_an_rpc_that_breaks_a_limit(kind: str) -> None:
    async with scene() as it, whisperer(it.node) as rude:
        await rude.out.write(limits_broken()[kind])
        await ended(rude.out)
        assert round(it.score(rude.peer_id)) == -20


@within(60)
async def test_an_rpc_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "RPC_SECONDS", 0.5)
    async with scene() as it, whisperer(it.node) as rude:
        await rude.say(b"one")
        await it.at_node.until(lambda: b"one" in it.at_node.known)
        await rude.out.write(rpc(message(rude.identity, b"two"))[:50])
        await ended(rude.out)
        assert it.score(rude.peer_id) == 0


def wrong_messages() -> dict[str, Any]:
    """Messages that every relayer can see to be wrong."""
    by_rsa = message(SOMEBODY, b"x", from_id=b"\x12\x20" + bytes(32), key=b"\x08\x00\x12\x02ab")
    return {
        "no-signature": message(SOMEBODY, b"x", signature=b""),
        "bad-signature": message(SOMEBODY, b"x", signature=bytes(64)),
        "short-signature": message(SOMEBODY, b"x", signature=b"short"),
        "other-data": message(SOMEBODY, b"x", data=b"y"),
        "other-origin": message(SOMEBODY, b"x", from_id=message(Identity.generate(), b"").from_id),
        "no-origin": message(SOMEBODY, b"x", from_id=b""),
        "no-key-in-the-origin": by_rsa,
        "no-number": message(SOMEBODY, b"x", seqno=b"1"),
        "unknown-topic": message(SOMEBODY, b"x", topic="/p2pcap/1/other/claims"),
        "oversized": message(SOMEBODY, bytes(MAX_MESSAGE + 1)),
        "padded": message(SOMEBODY, b"x", key=bytes(70_000)),
    }


@within(60)
@pytest.mark.parametrize("kind", wrong_messages())
async def test_a_bad_message_is_held_against_its_relayer(kind: str) -> None:
    async with scene() as it, whisperer(it.node) as rude:
        await rude.out.write(rpc(wrong_messages()[kind]))
        await rude.say(b"and a good one")
        await it.at_node.until(lambda: b"and a good one" in it.at_node.known)
        assert round(it.score(rude.peer_id)) == -10
        assert not any(sender == rude.peer_id and data != b"and a good one" for _, sender, data in it.at_node.heard)


@within(60)
async def test_what_we_said_in_our_last_life_costs_nobody() -> None:
    identity = Identity.generate()
    async with node(identity=identity) as (a, at_a), whisperer(a) as relayer:
        await relayer.out.write(rpc(message(identity, b"before the restart")))
        await relayer.say(b"later")
        await at_a.until(lambda: any(data == b"later" for _, _, data in at_a.heard))
        assert [data for _, _, data in at_a.heard] == [b"later"]
        assert a.peers()[0].score == 0
        await relayer.out.write(rpc(message(identity, b"never said", signature=bytes(64))))
        await relayer.say(b"last")
        await at_a.until(lambda: any(data == b"last" for _, _, data in at_a.heard))
        assert round(a.peers()[0].score) == -10


@within(60)
async def test_an_exception_while_judging_ignores_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as it, whisperer(it.node) as rude:
        judge = it.node._gossip.pubsub._judge

        def failing(topic: str, sender: str, data: bytes) -> Judgement:
            if data == b"deadly":
                raise ZeroDivisionError
            return judge(topic, sender, data)

        monkeypatch.setattr(it.node._gossip.pubsub, "_judge", failing)
        await rude.say(b"deadly", b"harmless")
        await it.at_node.until(lambda: b"harmless" in it.at_node.known)
        assert it.score(rude.peer_id) == 0, "it is our fault"


@within(60)
async def test_an_ignored_message_may_come_again() -> None:
    async with scene() as it, whisperer(it.node) as first, whisperer(it.node) as second:
        early = message(first.identity, b"early")
        it.at_node.verdicts[b"early"] = Judgement.IGNORE
        for relayer in (first, second, first):
            await relayer.out.write(rpc(early))
            await relayer.say(b"mark")
            await it.at_node.until(lambda: b"mark" in it.at_node.known)
            it.at_node.known.discard(b"mark")
        assert [data for _, _, data in it.at_node.heard].count(b"early") == 3
        assert not any(data == b"early" for _, _, data in it.at_honest.heard)
        del it.at_node.verdicts[b"early"]
        await second.out.write(rpc(early))
        await it.at_honest.until(lambda: any(data == b"early" for _, _, data in it.at_honest.heard))
        assert it.score(first.peer_id) == it.score(second.peer_id) == 0


@within(60)
async def test_a_wrong_message_costs_each_relayer_once() -> None:
    async with scene() as it, whisperer(it.node) as first, whisperer(it.node) as second:
        wrong = message(first.identity, b"wrong")
        it.at_node.verdicts[b"wrong"] = Judgement.REJECT
        for relayer in (first, first, second, first, second):
            await relayer.out.write(rpc(wrong))
            await relayer.say(b"mark")
            await it.at_node.until(lambda: b"mark" in it.at_node.known)
            it.at_node.known.discard(b"mark")
        assert [data for _, _, data in it.at_node.heard].count(b"wrong") == 1, "judged once"
        assert [round(it.score(relayer.peer_id)) for relayer in (first, second)] == [-10, -10]


@within(60)
async def test_a_forged_message_does_not_keep_the_true_one_out() -> None:
    async with scene() as it, whisperer(it.node) as rude, whisperer(it.node) as relayer:
        true = message(SOMEBODY, b"true", seqno=bytes(8))
        await rude.out.write(rpc(message(SOMEBODY, b"true", seqno=bytes(8), signature=bytes(64))))
        await rude.say(b"mark")
        await it.at_node.until(lambda: b"mark" in it.at_node.known)
        await relayer.out.write(rpc(true))
        await it.at_node.until(lambda: b"true" in it.at_node.known)


@within(60)
async def test_a_replayed_message_goes_no_further() -> None:
    """When the cache has forgotten it, the ledger says that it holds it."""
    async with scene() as it, whisperer(it.node) as rude:
        old = message(rude.identity, b"old")
        await rude.out.write(rpc(old))
        await it.at_honest.until(lambda: any(data == b"old" for _, _, data in it.at_honest.heard))
        for pubsub in (it.node._gossip.pubsub, it.honest._gossip.pubsub):
            pubsub.seen_messages._until.clear()
        for _ in range(50):
            await rude.out.write(rpc(old))
        await rude.say(b"mark")
        await it.at_honest.until(lambda: any(data == b"mark" for _, _, data in it.at_honest.heard))
        assert [data for _, _, data in it.at_honest.heard].count(b"old") == 1
        assert it.score(rude.peer_id) == 0


@within(60)
async def test_one_stream_is_read_for_each_peer() -> None:
    async with scene() as it, whisperer(it.node) as twofold:
        await twofold.say(b"by the first")
        await it.at_node.until(lambda: b"by the first" in it.at_node.known)
        first, twofold.out = twofold.out, await twofold.host.open("/meshsub/1.1.0")
        await twofold.say(b"by the second")
        await ended(first)
        await it.at_node.until(lambda: b"by the second" in it.at_node.known)
        assert it.score(twofold.peer_id) == 0


@within(60)
async def test_nothing_is_kept_of_a_peer_that_is_gone() -> None:
    async with scene() as it:
        gossip = it.node._gossip
        async with stranger(it.node) as mute:  # it has no stream handler for our gossip
            out = await mute.open("/meshsub/1.1.0")
            await out.write(SUBSCRIBED + control(prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=3_600)]))
            await out.write(rpc(message(SOMEBODY, b"mark")))
            await it.at_node.until(lambda: b"mark" in it.at_node.known)
            assert mute.peer_id in map(str, gossip.router.back_off[TOPIC])
        await it.at_node.until(lambda: ("disconnect", mute.peer_id) in it.at_node.events)
        await it.lives()
        kept = [gossip.router.back_off[TOPIC], gossip.router.graft_flood_tracking, gossip.router.peer_protocol]
        kept += [gossip.pubsub.peer_queues, gossip.pubsub._replayed_recent_topics, gossip.pubsub._reading]
        assert not any(mute.peer_id in map(str, table) for table in kept)


# floods


@within(120)
async def test_a_flood_of_claims() -> None:
    """Three peers say all they can, well signed and new each time. Their share is theirs, and no more."""
    async with scene() as it, trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:

        async def flood(rude: Whisperer) -> None:
            ready = [rpc(*[message(rude.identity, b"claim") for _ in range(20)]) for _ in range(100)]
            with contextlib.suppress(BaseLibp2pError):
                while True:
                    for number, data in enumerate(ready):
                        await rude.out.write(data)
                        ready[number] = rpc(*[message(rude.identity, b"claim") for _ in range(20)])

        for _ in range(3):
            nursery.start_soon(flood, await stack.enter_async_context(whisperer(it.node)))
        counted = it.node._gossip.pubsub._counters.gossip
        await it.lives(10)
        before, began = counted.total(), trio.current_time()
        await it.lives(30)
        rate = (counted.total() - before) / (trio.current_time() - began)
        print(f"{rate:.0f} messages a second were judged")
        assert rate < 1.5 * topics.TOKENS_PER_SECOND
        nursery.cancel_scope.cancel()


@within(120)
async def test_a_burst_of_a_thousand_and_a_stream_of_two_hundred_a_second_arrive_whole() -> None:
    async with node(twin=Listening()) as (a, at_a), node(a.addresses[0]) as (b, at_b):
        assert isinstance(at_a, Listening)
        await at_b.met(a)
        await at_a.met(b)
        said = {b"burst %d" % n for n in range(1_000)}
        while not b._gossip.pubsub.peer_topics.get(NAMES[1]):
            await b.status(a.peer_id)
        for data in said:
            await b.publish("results", data)
        await at_a.until(lambda: said <= at_a.known)
        began = trio.current_time()
        for n in range(600):
            await trio.sleep_until(began + n / 200)  # the rate
            await b.publish("results", b"steady %d" % n)
            said.add(b"steady %d" % n)
        await at_a.until(lambda: said <= at_a.known)
        print(f"600 at 200 a second arrived {trio.current_time() - began - 3:.3f} s after the last")
        assert a.peers()[0].score == 0


@within(60)
async def test_who_hangs_up_leaves_no_reader_behind() -> None:
    """What ten peers said before they hung up would take two minutes to be heard."""
    async with scene() as it:
        pubsub = it.node._gossip.pubsub
        pubsub._bucket._tokens, pubsub._bucket._rate = 20.0, 20.0
        for number in range(10):
            async with whisperer(it.node) as rude:
                await rude.out.write(rpc(*[message(rude.identity, b"much %d" % number) for _ in range(250)]))
                await it.at_node.until(lambda rude=rude: rude.peer_id in {at[1] for at in it.at_node.heard})  # type: ignore[misc]
        while set(map(str, pubsub._reading)) - {it.honest.peer_id}:
            await it.lives(1)
        assert pubsub._bucket._tokens > -5, "nobody else pays for what they did not get"


async def connected_twice(rude: Whisperer, node: Swarm) -> tuple[Any, Any]:
    """The only connection of `rude` with the node, and a new one."""
    network, target = rude.host.host.get_network(), rude.host.target
    (first,) = network.get_connections(target)
    await network.dial(Multiaddr(parse_endpoint(node.addresses[0]).transport), target)
    (second,) = set(network.get_connections(target)) - {first}
    return first, second


@within(60)
async def test_a_reader_ends_with_the_connection_it_reads_from_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "LAST_WORDS_SECONDS", 0.0)
    async with node() as (a, at_a), whisperer(a) as twofold:
        reading, connections = a._gossip.pubsub._reading, a._host.get_network().get_connections
        a._gossip.pubsub._bucket._tokens, a._gossip.pubsub._bucket._rate = 1.5, 1e-3
        await twofold.say(b"heard", b"in a quarter of an hour")
        await at_a.until(lambda: bool(at_a.heard))
        for used in (False, True):
            connection = (await connected_twice(twofold, a))[0 if used else 1]
            while len(connections()) < 2:
                await a.status(twofold.peer_id)
            await connection.close()
            while len(connections()) > 1:
                await a.status(twofold.peer_id)
            await a.status(twofold.peer_id)
            assert bool(reading) is not used
        assert twofold.peer_id in {info.peer_id for info in a.peers()}


@within(60)
async def test_nothing_more_is_heard_of_who_is_banned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "LAST_WORDS_SECONDS", 3_600.0)
    async with node() as (a, at_a), whisperer(a) as banned, whisperer(a) as other:
        a._gossip.pubsub._bucket._tokens, a._gossip.pubsub._bucket._rate = 1.5, 2.0
        await banned.out.write(rpc(*[message(SOMEBODY, data) for data in (b"one", b"two", b"three")]))
        await at_a.until(lambda: bool(at_a.heard))
        a.ban(banned.peer_id)
        await other.say(b"four")
        await at_a.until(lambda: b"four" in {data for _, _, data in at_a.heard})
        assert [data for _, _, data in at_a.heard] == [b"one", b"four"]


@within(60)
async def test_a_new_stream_is_not_read_before_the_last_one_is_paid_for() -> None:
    """A peer that stays connected writes an RPC on a new stream each time."""
    async with scene() as it, whisperer(it.node) as rude:
        bucket = it.node._gossip.pubsub._bucket
        bucket._tokens, bucket._rate = 5.0, 20.0
        for number in range(40):
            said = [message(rude.identity, b"%d of %d" % (n, number)) for n in range(10)]
            await rude.out.write(rpc(*said))
            if not number:
                await it.at_node.until(lambda: b"0 of 0" in it.at_node.known)
            rude.out = await rude.host.open("/meshsub/1.1.0")
        for _ in range(5):
            await it.lives(1)
            assert bucket._first.statistics().tasks_waiting <= 1, "of each peer one"
        await rude.say(b"last")
        await it.at_node.until(lambda: b"last" in it.at_node.known)
        assert {b"%d of 0" % n for n in range(10)} <= it.at_node.known, "what was read was heard"
        assert b"0 of 20" not in it.at_node.known, "and what was replaced unread was not"
        assert it.score(rude.peer_id) == 0


@within(60)
async def test_asking_and_promising_without_end() -> None:
    async with scene() as it, whisperer(it.node) as rude:
        await rude.out.write(SUBSCRIBED + control(graft=[rpc_pb2.ControlGraft(topicID=name) for name in NAMES]))
        ids = [number.to_bytes(40, "big") for number in range(2_500)]
        for _ in range(4):
            await rude.out.write(control(ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=ids)]))
        for number in range(200):
            await rude.say(b"%d" % number + bytes(8_000))
        await it.lives()
        known = list(it.node._gossip.router.mcache.msgs)[-100:]
        for _ in range(20):
            await rude.out.write(control(iwant=[rpc_pb2.ControlIWant(messageIDs=known)] * 5))
        await it.lives()
        assert it.score(rude.peer_id) == 0


@within(60)
async def test_subscribing_again_brings_nothing_again() -> None:
    off = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=False, topicid=name) for name in NAMES])
    async with scene() as it, whisperer(it.node) as rude:
        for number in range(20):
            await it.honest.publish("results", b"%d" % number + bytes(5_000))
        await it.lives()
        for _ in range(50):
            await rude.out.write(SUBSCRIBED + off)
        await rude.say(b"mark")
        await it.at_node.until(lambda: b"mark" in it.at_node.known)
        await it.lives(10)
        assert len(rude.heard) < 3 * 20 * 5_000


@within(60)
async def test_gossip_that_nobody_reads_is_dropped() -> None:
    async with scene() as it, whisperer(it.node, listens=False) as deaf:
        await deaf.out.write(SUBSCRIBED)
        await it.lives()
        for number in range(400):
            await it.node.publish("results", b"%d" % number + bytes(50_000))
        await it.lives()
        (queue,) = [queue for peer, queue in it.node._gossip.pubsub.peer_queues.items() if str(peer) == deaf.peer_id]
        assert 0 < queue._bytes <= QUEUED_BYTES
        assert queue._bytes == sum(rpc.ByteSize() for rpc in (*queue._queue._priority, *queue._queue._non_priority))
