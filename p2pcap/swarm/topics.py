"""What comes in by gossip: read, limited, judged, passed on.

libp2p's pubsub starts a task for every message it reads, as fast as they come, so that one peer that floods fills the
memory and the event loop. Here each peer has one reader, which takes the tokens for a message before it does the work,
from one bucket for all: whoever floods waits, and the others get their turns.

Always holds: a message over MAX_MESSAGE bytes, under a topic that is not ours or without a valid signature is refused
before it is judged; nothing but ACCEPT is passed on; a wrong message costs each relayer once, an ignored one costs
nobody and may come again; one stream is read for each peer, and no longer than its connection lasts; nothing is read of
a peer, by whatever stream, before what was read of it is paid for and heard.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
import trio
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

from p2pcap.errors import FrameError
from p2pcap.swarm import peers, rpcs
from p2pcap.swarm.counters import Counters
from p2pcap.swarm.frames import FrameReader
from p2pcap.swarm.host import Host
from p2pcap.swarm.lifetimes import while_connected
from p2pcap.swarm.messages import MAX_MESSAGE
from p2pcap.swarm.rates import TokenBucket
from p2pcap.swarm.router import Router
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.verdicts import Rejected, Seen

log = structlog.get_logger(__name__)

TOKENS_PER_SECOND = 600.0
TOKENS_SAVED = 1_200.0
"""A message that was not seen yet costs one token, an RPC RPC_TOKENS and one for each TOKEN_BYTES. A message costs 0.7
ms of CPU, so a flood takes less than half a core."""
RPC_TOKENS = 0.1
TOKEN_BYTES = 32 * 1024
RPC_SECONDS = 30.0
"""For the rest of an RPC once it has begun."""
LAST_WORDS_SECONDS = 0.5
"""For what has come of a peer that hung up: in peace all of it is heard, in a flood the next peers get their turns."""
MAX_AROUND = 1_024
"""Bytes around the data of a message: its topic, origin, number, signature and key, and fields we do not know."""
SEQNO_BYTES = 8

ED25519_ID = bytes.fromhex("002408011220")
"""What a peer id starts with that is an Ed25519 key."""

Judge = Callable[[str, str, bytes], Judgement]
Blame = Callable[[str, float], None]


class Reader:
    """Whoever reads one stream of a peer, in turn with those who read its other streams.

    A newer stream takes the place of an older one whose reader waits for its turn or for more to read, but not of one
    that still pays for what it has read: else a peer that opens streams without end is read without end.
    """

    def __init__(self, older: "Reader | None") -> None:
        self.turn: trio.Lock = older.turn if older is not None else trio.Lock()
        self._idle = trio.CancelScope()
        self._replaced = False
        if older is not None:
            older._replaced = True
            older._idle.cancel()

    @asynccontextmanager
    async def in_turn(self) -> AsyncIterator[None]:
        """Wait until nobody else reads or pays for this peer, and then be the one. Raises StreamEOF as `idle` does."""
        with self.idle():
            await self.turn.acquire()
        try:
            yield
        finally:
            self.turn.release()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Give way inside the block when a newer stream comes. Raises StreamEOF then."""
        if self._replaced:
            raise StreamEOF
        with trio.CancelScope() as self._idle:
            yield
        if self._idle.cancelled_caught:
            raise StreamEOF


class Topics(Pubsub):  # type: ignore[misc]  # libp2p comes without types
    """libp2p's pubsub with a way in of our own. `names` are the topics' names on the wire with their own names."""

    seen_messages: Any

    def __init__(
        self, host: Host, router: Router, names: Mapping[str, str], judge: Judge, blame: Blame, counters: Counters
    ) -> None:
        super().__init__(host, router, allowed_topics=frozenset(names), max_subscriptions_per_peer=len(names))
        self.seen_messages.stop()  # upstream's grows without limit, and has a thread
        self.seen_messages = Seen(trio.current_time)
        self._names = names
        self._judge = judge
        self._blame = blame
        self._counters = counters
        self._rejected = Rejected()
        self._bucket = TokenBucket(TOKENS_PER_SECOND, TOKENS_SAVED)
        self._reading: dict[ID, Reader] = {}

    async def stream_handler(self, stream: Any) -> None:
        """Read a peer's gossip until the stream ends; a newer stream of the same peer takes its place."""
        peer = stream.muxed_conn.peer_id
        async with while_connected(stream, LAST_WORDS_SECONDS):
            self._reading[peer] = reader = Reader(self._reading.get(peer))
            try:
                async with reader.in_turn():
                    await self._read(peer, reader, FrameReader(stream))
            except FrameError as error:
                log.info("bad_gossip", peer=str(peer), error=str(error))
                self._blame(str(peer), peers.BAD_FRAME)
            except (BaseLibp2pError, trio.TooSlowError) as error:
                log.debug("gossip_broke_off", peer=str(peer), error=repr(error))
            finally:
                if not reader.turn.locked():  # it was the last
                    self._reading.pop(peer, None)
        await stream.reset()

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """Send a message of our own; those of others come in by `stream_handler`."""
        self.seen_messages.add(self.get_message_id(msg))
        await self.router.publish(msg_forwarder, msg)

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Nothing to do; upstream fills a queue of 32 that nobody reads."""

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """As upstream, which never forgets what a peer left with the router that had no stream for our gossip."""
        super()._handle_dead_peer(peer_id)
        if peer_id not in self.peers:
            self.router.remove_peer(peer_id)

    def _forget_subscription(self, peer_id: ID, topic: str) -> None:
        """As upstream, which then sends all recent messages again to a peer that subscribes and unsubscribes."""
        sent = self._replayed_recent_topics.pop(peer_id, None)
        super()._forget_subscription(peer_id, topic)
        if sent is not None:
            self._replayed_recent_topics[peer_id] = sent

    async def _read(self, peer: ID, reader: Reader, frames: FrameReader) -> None:
        while True:
            with reader.idle():
                data = await frames.read_delimited(rpcs.MAX_RPC, RPC_SECONDS)
            await self._bucket.take(RPC_TOKENS + len(data) / TOKEN_BYTES)
            rpc = rpcs.parse(data, self._names)
            for option in rpc.subscriptions:
                self.handle_subscription(peer, option)
            for message in rpc.publish:
                await self._hear(peer, message)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer)

    async def _hear(self, peer: ID, message: Any) -> None:
        """Judge one message that `peer` relayed, in its turn."""
        id = self.get_message_id(message)
        if self.seen_messages.has(id):
            return
        await self._bucket.take()
        if self.seen_messages.has(id) or self.is_peer_blacklisted(peer):  # by somebody else meanwhile; since then
            return
        judgement = self._verdict(str(peer), message)
        self._counters.gossip[judgement.name.lower()] += 1
        if judgement is Judgement.ACCEPT:
            self.seen_messages.add(id)
            await self.router.publish(peer, message)

    def _verdict(self, relayer: str, message: Any) -> Judgement:
        digest = hashlib.sha256(message.SerializeToString()).digest()
        judgement = Judgement.REJECT
        if digest not in self._rejected and self._sound(message):
            judgement = self._judged(relayer, message)
        if judgement is Judgement.REJECT and self._rejected.charge(digest, relayer):
            self._blame(relayer, peers.INVALID_MESSAGE)
        return judgement

    def _sound(self, message: Any) -> bool:
        """What every relayer can see for itself."""
        ours = len(message.topicIDs) == 1 and message.topicIDs[0] in self._names
        small = len(message.data) <= MAX_MESSAGE and message.ByteSize() <= MAX_MESSAGE + MAX_AROUND
        return ours and small and len(message.seqno) == SEQNO_BYTES and signed(message)

    def _judged(self, relayer: str, message: Any) -> Judgement:
        origin = ID(message.from_id)
        if origin == self.my_id or self.is_peer_blacklisted(origin):  # of our last life, or of somebody banned
            return Judgement.IGNORE
        try:
            return self._judge(self._names[message.topicIDs[0]], relayer, message.data)
        except Exception:
            log.exception("judging_failed", peer=relayer)
            return Judgement.IGNORE


def signed(message: Any) -> bool:
    """Whether a message is signed by the Ed25519 key that is its origin's peer id, as every node's is.

    Upstream takes any key that comes with the message; an RSA key of 4,096 bits with a large exponent takes 60 ms.
    """
    if len(message.from_id) != len(ED25519_ID) + 32 or not message.from_id.startswith(ED25519_ID):
        return False
    said = rpc_pb2.Message(
        data=message.data, topicIDs=message.topicIDs, from_id=message.from_id, seqno=message.seqno
    ).SerializeToString()
    key = Ed25519PublicKey.from_bytes(message.from_id[len(ED25519_ID) :])
    try:
        return bool(key.verify(PUBSUB_SIGNING_PREFIX.encode() + said, message.signature))
    except ValueError:  # it has not the length of a signature
        return False
