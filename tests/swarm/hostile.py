"""Hostile peers: raw access to every layer, and a node that an honest peer keeps using while it is attacked.

ATTACKS says which attack is tried where; `test_hostile_table.py` checks that the tests are there.
"""

import contextlib
import functools
import itertools
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils.varint import encode_varint_prefixed
from nacl.signing import SigningKey

from p2pcap.identity import Identity
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.messages import Status
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.swarm import Swarm
from tests.swarm.twin import ROOT, Stranger, Twin, holds, node, stranger

CPU_SECONDS = 5.0
"""No attack takes so much work between two answers to an honest peer: on an idle machine the dearest takes half a
second. CPU time of the process, which holds the attackers as well, so that other programs on the machine do not count.
"""

ATTACKS = {
    "test_hostile_transport": {
        "TCP: garbage": "test_garbage_before_a_handshake",
        "TCP: a thousand half-open connections": "test_idle_connections_keep_nobody_out",
        "TCP: one byte at a time (slow loris)": "test_a_slow_loris_is_given_up",
        "multistream: a name of 2^40 bytes": "test_garbage_before_a_handshake",
        "Noise: garbage, oversized and truncated messages": "test_garbage_before_a_handshake",
        "Noise: a bad signature, an RSA key": "test_a_bad_identity_is_not_let_in",
        "connected: never a status": "test_strangers_that_never_say_who_they_are_are_sent_away",
    },
    "test_requests": {
        "multistream: a name that is not UTF-8": "test_garbage_while_naming_a_protocol_leaves_the_connection",
        "requests: garbage, oversized lengths": "test_garbage_costs_a_stream_and_standing_and_nothing_else",
        "requests: one that never ends": "test_a_request_that_never_comes_is_given_up",
        "gossip: garbage": "test_garbage_on_gossip_leaves_the_node_as_it_was",
    },
    "test_hostile_streams": {
        "Yamux: garbage, oversized frames": "test_garbage_between_the_streams",
        "Yamux: a flood of pings and empty frames": "test_a_flood_of_tiny_frames",
        "streams: thousands opened": "test_thousands_of_streams",
        "streams: opened and reset at once (rapid reset)": "test_rapid_reset",
        "streams: reset in the middle": "test_reset_in_mid_stream",
        "streams: much sent that is never read": "test_what_nobody_will_read_is_not_kept",
        "identify: garbage": "test_garbage_for_identify_and_ping",
        "requests: answers that are never read": "test_answers_that_nobody_reads_hold_up_nobody",
        "requests: faster than allowed": "test_asking_without_pause_holds_up_nobody",
        "requests: much asked, and hung up, again and again": "test_who_hangs_up_leaves_no_request_behind",
        "requests: more waiting than memory for it": "test_what_waits_is_bounded_at_the_cost_of_whoever_asks_for_most",
        "requests: an exception in an answer": "test_an_exception_in_an_answer",
    },
    "test_hardening": {
        "Yamux: more than its window": "test_a_peer_that_overruns_its_window_is_cut_off",
    },
    "test_hostile_gossip": {
        "gossip: limits of an RPC, topics that are not UTF-8": "test_an_rpc_that_breaks_a_limit",
        "gossip: a slow loris": "test_an_rpc_that_never_ends",
        "gossip: bad keys and signatures, foreign topics": "test_a_bad_message_is_held_against_its_relayer",
        "gossip: our own name": "test_what_we_said_in_our_last_life_costs_nobody",
        "gossip: an exception in the judge": "test_an_exception_while_judging_ignores_the_message",
        "gossip: replayed": "test_a_replayed_message_goes_no_further",
        "gossip: the same wrong message again": "test_a_wrong_message_costs_each_relayer_once",
        "gossip: a flood of valid-looking claims": "test_a_flood_of_claims",
        "gossip: much said, and hung up, again and again": "test_who_hangs_up_leaves_no_reader_behind",
        "gossip: streams without end": "test_a_new_stream_is_not_read_before_the_last_one_is_paid_for",
        "gossip: subscribing on and off": "test_subscribing_again_brings_nothing_again",
        "gossip: IHAVE and IWANT without end": "test_asking_and_promising_without_end",
        "gossip: nothing is read": "test_gossip_that_nobody_reads_is_dropped",
    },
    "test_hostile_content": {
        "content: wrong bytes": "test_wrong_bytes_and_stalls_do_not_keep_the_right_ones_away",
        "content: stalls in the middle": "test_wrong_bytes_and_stalls_do_not_keep_the_right_ones_away",
    },
    "test_sync_rules": {
        "sync: slow on purpose": "test_peers_that_are_slow_on_purpose_hold_no_place_for_ever",
    },
    "test_sync": {
        "sync: malformed answers": "test_a_malformed_answer_ends_a_conversation_and_costs_standing",
    },
    "test_eclipse": {
        "eclipse: 20 hostile peers, 3 honest ones": "test_among_twenty_hostile_peers_three_honest_ones_are_heard",
    },
}


class Listening(Twin):
    """A twin that finds quickly what it has heard, and ignores what it holds already, as a ledger does."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[bytes] = set()

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        if data in self.known:
            self.heard.append((topic, sender, data))
            self._changed()
            return Judgement.IGNORE
        if self.verdicts.get(data, Judgement.ACCEPT) is Judgement.ACCEPT:
            self.known.add(data)
        return super().judge(topic, sender, data)


@dataclass
class Scene:
    """A node, and an honest peer that publishes to it, asks it and fetches from it all the time."""

    node: Swarm
    at_node: Listening
    honest: Swarm
    at_honest: Twin
    rounds: int = 0
    slowest: float = 0.0
    dearest: float = 0.0
    _turned: trio.Condition = field(default_factory=trio.Condition)

    def score(self, peer: str) -> float:
        """What the node holds against a peer, connected or not."""
        return self.node._links.standing.score(peer, trio.current_time())

    async def lives(self, rounds: int = 3) -> None:
        """Wait for so many whole rounds more of the honest peer's questions, each within CPU_SECONDS."""
        wanted = self.rounds + rounds + 1  # the one under way may have begun before
        async with self._turned:
            while self.rounds < wanted:
                await self._turned.wait()
        assert self.dearest < CPU_SECONDS, f"a round took {self.dearest:.2f} s of CPU"

    async def ask_on(self) -> None:
        """Ask for ever."""
        (hash,) = self.at_node.offer(b"content" * 10_000)
        for number in itertools.count():
            wall, cpu = time.perf_counter(), time.process_time()
            await self._round(b"round %d" % number, hash)
            self.slowest = max(self.slowest, time.perf_counter() - wall)
            self.dearest = max(self.dearest, time.process_time() - cpu)
            async with self._turned:
                self.rounds += 1
                self._turned.notify_all()

    async def _round(self, data: bytes, hash: bytes) -> None:
        await self.honest.publish("claims", data)
        await self.at_node.until(lambda: data in self.at_node.known)
        assert (await self.honest.status(self.node.peer_id)).root == ROOT
        async with aclosing(self.honest.fetch("blob", [hash], [self.node.peer_id], holds, 10**6)) as items:
            assert [item async for item in items]


@asynccontextmanager
async def scene(**changes: object) -> AsyncIterator[Scene]:
    """A node with the default limits, in use by an honest peer. Prints how long that one's slowest round took."""
    settings: dict[str, Any] = {"requests_per_second": 50.0, **changes}
    async with AsyncExitStack() as stack:
        at_node = Listening()
        a, _ = await stack.enter_async_context(node(twin=at_node, **settings))
        b, at_b = await stack.enter_async_context(node(a.addresses[0], **settings))
        await at_b.met(a)
        await at_node.met(b)
        it = Scene(a, at_node, b, at_b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.ask_on)
            await it.lives(1)
            it.slowest = it.dearest = 0.0
            yield it
            await it.lives()
            assert it.score(b.peer_id) == 0, "nothing is held against the honest peer"
            assert b.peer_id in {peer.peer_id for peer in a.peers()}
            print(f"{it.rounds} rounds; the slowest took {it.slowest:.3f} s, {it.dearest:.3f} s of CPU")
            nursery.cancel_scope.cancel()


# below libp2p's streams


async def raw(target: Swarm) -> trio.SocketStream:
    """A TCP connection to a node on which nothing has been said."""
    _, _, ip, _, port, *_ = target.addresses[0].split("/")
    return await trio.open_tcp_stream(ip, int(port))


def delimited(data: bytes) -> bytes:
    """These bytes with their length in front."""
    return bytes(encode_varint_prefixed(data))


def named(*names: bytes) -> bytes:
    """Messages of multistream-select."""
    return b"".join(delimited(name + b"\n") for name in names)


HELLO = named(b"/multistream/1.0.0", b"/noise")


async def hung_up(stream: trio.SocketStream) -> None:
    """Wait until the other side closes the connection, whatever it says before."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some(65_536):
            pass


def frame(kind: int, flags: int, id: int, length: int, data: bytes = b"") -> bytes:
    """One Yamux frame; `length` need not be that of the data."""
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, id, length) + data


OPEN = functools.partial(frame, yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN)
RESET = functools.partial(frame, yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_RST)


class Intruder:
    """A connected stranger that writes Yamux frames as it likes, and swallows what comes back."""

    def __init__(self, host: Stranger) -> None:
        self.peer_id = host.peer_id
        (connection,) = host.host.get_network().get_connections(host.target)
        self.muxed = connection.muxed_conn

    async def send(self, data: bytes) -> None:
        """Write these bytes into the secured connection. Raises when it is gone."""
        await self.muxed.secured_conn.write(data)

    async def flood(self, data: bytes) -> None:
        """Write them again and again, until the connection is gone."""
        with contextlib.suppress(BaseLibp2pError, trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self.send(data)

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        await self.muxed.event_closed.wait()


@asynccontextmanager
async def intruder(target: Swarm) -> AsyncIterator[Intruder]:
    """An intruder connected to `target`."""
    async with stranger(target) as host:
        yield Intruder(host)


# gossip

TOPIC = topic_name(ROOT[:8], "claims")
_numbers = itertools.count(time.time_ns())


def message(identity: Identity, data: bytes, /, topic: str = TOPIC, seqno: bytes = b"", **changed: bytes) -> Any:
    """A gossip message signed by `identity`; fields in `changed` are put in after it was signed."""
    plain = rpc_pb2.Message(
        from_id=bytes.fromhex("002408011220") + identity.public,
        data=data,
        topicIDs=[topic],
        seqno=seqno or next(_numbers).to_bytes(8, "big"),
    )
    said = b"libp2p-pubsub:" + plain.SerializeToString()
    plain.signature = SigningKey(identity.seed).sign(said).signature
    for name, value in changed.items():
        setattr(plain, name, value)
    return plain


def rpc(*messages: Any, **fields: Any) -> bytes:
    """An RPC as it is written to the stream."""
    return delimited(rpc_pb2.RPC(publish=messages, **fields).SerializeToString())


def control(**fields: Any) -> bytes:
    """An RPC with control entries."""
    return rpc(control=rpc_pb2.ControlMessage(**fields))


NAMES = [topic_name(ROOT[:8], name) for name in ("claims", "results", "control")]
SUBSCRIBED = rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name) for name in NAMES])


class Whisperer:
    """A stranger on the gossip protocol, with an identity to sign by."""

    def __init__(self, host: Stranger, identity: Identity, out: Any) -> None:
        self.host = host
        self.identity = identity
        self.peer_id = host.peer_id
        self.out = out
        self.heard = bytearray()

    async def say(self, *datas: bytes) -> None:
        """Publish these under "claims", each in an RPC of its own."""
        for data in datas:
            await self.out.write(rpc(message(self.identity, data)))

    async def listen(self, stream: Any) -> None:
        """Keep what the node sends by gossip."""
        with contextlib.suppress(BaseLibp2pError):
            while True:
                self.heard += await stream.read(65_536)


@asynccontextmanager
async def whisperer(target: Swarm, status: Status | None = None, listens: bool = True) -> AsyncIterator[Whisperer]:
    """A stranger with a gossip stream to `target`. Unless it `listens`, it never reads what `target` sends."""
    identity = Identity.generate()
    async with stranger(target, identity) as host:
        it = Whisperer(host, identity, None)
        host.host.set_stream_handler("/meshsub/1.1.0", it.listen if listens else deaf)
        it.out = await host.open("/meshsub/1.1.0")
        yield it


async def deaf(stream: Any) -> None:
    """Read nothing."""
    await trio.sleep_forever()


async def swallow(stream: Any) -> None:
    """Read everything, and do nothing about it."""
    with contextlib.suppress(BaseLibp2pError):
        while True:
            await stream.read(65_536)
