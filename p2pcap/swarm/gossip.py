"""Gossip: small announcements that reach every peer soon, or are repaired by sync.

GossipSub 1.1 with a router that mends what py-libp2p 0.8.1 leaves out or gets wrong, each named where it is mended.
There are three topics for each project. Messages are judged in the event loop, once each, by `Service.judge`.

Always holds: a message over MAX_MESSAGE bytes is refused before anything parses it; our own messages go to every
connected peer that listens, mesh or not; a wrong message costs its relayer, an ignored one costs nobody.
"""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from p2pcap.errors import SwarmError
from p2pcap.swarm import peers
from p2pcap.swarm.host import Host
from p2pcap.swarm.messages import MAX_MESSAGE, TOPICS
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.settings import SwarmSettings

log = structlog.get_logger(__name__)

SEEN_SECONDS = 300
PRUNE_BACK_OFF = 10
GOSSIP_SHARE = 0.25
GOSSIP_LEAST = 6
"""Peers outside the mesh told each second what is new: a quarter of them, but at least six (GossipSub's D_lazy)."""

Judge = Callable[[str, str, bytes], Judgement]
Blame = Callable[[str, float], None]


def topic_name(project: bytes, topic: str) -> str:
    """The name on the wire of `topic` in the project whose first 8 root hash bytes are `project`."""
    return f"/p2pcap/1/{project.hex()}/{topic}"


class Router(GossipSub):  # type: ignore[misc]  # libp2p comes without types
    """GossipSub 1.1 that loses no message it could deliver."""

    def __init__(self, degree: int) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V11],
            degree=degree,
            degree_low=max(1, degree * 3 // 4),
            degree_high=degree * 3 // 2,
            heartbeat_interval=1,  # upstream: 120 s, and adaptive gossip makes it 30 s
            prune_back_off=PRUNE_BACK_OFF,
            spam_protection_enabled=False,  # upstream: over 10 messages a second of a relayer are not passed on
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.scorer = None  # upstream's scores make it graft and prune every second; ours are in `p2pcap.swarm.peers`

    async def heartbeat(self) -> None:
        """As upstream, but an error costs one beat and not the service."""
        while True:
            try:
                await super().heartbeat()
            except Exception:
                log.exception("gossip_heartbeat_failed")

    async def publish(self, msg_forwarder: ID, pubsub_msg: Any) -> None:
        """As upstream, without the record of every delivery that only adaptive gossip would clear."""
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()

    def _check_equivocation(self, msg: Any) -> bool:
        return True  # upstream keeps up to 1,000 whole messages for it; statements are signed by their authors

    def _get_peers_to_send(self, topic_ids: Any, msg_forwarder: ID, origin: ID, msg_id: Any = None) -> Any:
        """Flood-publishing, which upstream lacks: a node whose mesh is empty would publish to nobody."""
        if msg_forwarder != self.pubsub.my_id:
            return super()._get_peers_to_send(topic_ids, msg_forwarder, origin, msg_id)
        return {peer for topic in topic_ids for peer in self.pubsub.peer_topics.get(topic, ()) if self._speaks(peer)}

    def gossip_heartbeat(self) -> Any:
        """IHAVE also to peers in prune back-off, which upstream passes over: they would hear nothing at all."""
        gossip: defaultdict[ID, dict[str, list[bytes]]] = defaultdict(dict)
        for topic, mesh in self.mesh.items():
            recent = self.mcache.window(topic)
            others = [p for p in self.pubsub.peer_topics.get(topic, ()) if p not in mesh and self._speaks(p)]
            share = max(GOSSIP_LEAST, int(len(others) * GOSSIP_SHARE))
            for peer in self.select_from_minus(share, others, ()) if recent else ():
                gossip[peer][topic] = recent
        return gossip

    def _notify_mesh_peer_added(self, peer_id: ID, topic: str) -> None:
        """Tell a new mesh peer what is recent: what was relayed just before it came in, IHAVE would pass over."""
        super()._notify_mesh_peer_added(peer_id, topic)
        if recent := self.mcache.window(topic):
            have = rpc_pb2.ControlIHave(topicID=topic, messageIDs=recent)
            self.send_rpc(peer_id, rpc_pb2.RPC(control=rpc_pb2.ControlMessage(ihave=[have])), priority=True)

    async def _emit_control_msgs(self, graft: Any, prune: Any, gossip: Any) -> None:
        """One message for each peer; upstream's lists run on from peer to peer, and its PRUNE names no back-off."""
        for peer in {*graft, *prune, *gossip}:
            for topic in prune.get(peer, ()):
                self._add_back_off(peer, topic, False)
            control = self.pack_control_msgs(
                [rpc_pb2.ControlIHave(topicID=t, messageIDs=ids) for t, ids in gossip.get(peer, {}).items()],
                [rpc_pb2.ControlGraft(topicID=topic) for topic in graft.get(peer, ())],
                [rpc_pb2.ControlPrune(topicID=topic, backoff=PRUNE_BACK_OFF) for topic in prune.get(peer, ())],
            )
            await self.emit_control_message(control, peer)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Through the peer's queue; upstream writes beside it, and two writers garble the stream (open issue #793)."""
        for message in map(self.mcache.get, self.mcache.window(topic)):
            if message is not None:
                self.send_rpc(peer_id, rpc_pb2.RPC(publish=[message]))

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Messages kept for a peer whose subscriptions had not arrived; through its queue, as above."""
        self._prune_pending_messages(peer_id)
        topics = {topic for topic, peers in self.pubsub.peer_topics.items() if peer_id in peers}
        if topics:
            for _, rpc in self._pending_messages.pop(peer_id, ()):
                self.send_rpc(peer_id, rpc)

    def send_rpc(self, peer_id: ID, rpc: Any, priority: bool = False) -> None:
        """As upstream, without the address record (`hardening.skip_sender_records`)."""
        rpc.ClearField("senderRecord")
        super().send_rpc(peer_id, rpc, priority)

    def remove_peer(self, peer_id: ID) -> None:
        """As upstream, which forgets no peer's back-off."""
        super().remove_peer(peer_id)
        for waiting in self.back_off.values():
            waiting.pop(peer_id, None)

    def _speaks(self, peer: ID) -> bool:
        return bool(self._is_gossipsub_peer(peer))


class Topics(Pubsub):  # type: ignore[misc]  # libp2p comes without types
    """libp2p's pubsub without its delivery queues: the validator has already handed the message over."""

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Nothing to do; upstream fills a queue of 32 that nobody reads."""


class Gossip:
    """The topics of one project on one host."""

    def __init__(self, host: Host, project: bytes, judge: Judge, blame: Blame, degree: int) -> None:
        self._names = {topic: topic_name(project, topic) for topic in TOPICS}
        self._judge = judge
        self._blame = blame
        self.router = Router(degree)
        self.pubsub = Topics(host, self.router, seen_ttl=SEEN_SECONDS, allowed_topics=frozenset(self._names.values()))
        # upstream counts from the second: a node restarted within its message count repeats numbers and is ignored
        self.pubsub.counter = time.time_ns()
        for topic, name in self._names.items():
            self.pubsub.set_topic_validator(name, self._validator(topic, name), False)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send `data` to every connected peer that listens to `topic`. Raises SwarmError when it is too large."""
        if len(data) > MAX_MESSAGE:
            raise SwarmError(f"A message of {len(data)} bytes cannot be announced; at most {MAX_MESSAGE} are allowed.")
        await self.pubsub.publish(self._names[topic], data)

    def ban(self, peer: ID) -> None:
        """Take nothing more that `peer` wrote or relayed."""
        self.pubsub.blacklisted_peers.add(peer)

    def lost_connection(self, peer: ID) -> None:
        """One of several connections with `peer` is gone. If gossip used that one, open a stream on another.

        Upstream keeps the dead stream until a write fails, and does not greet a peer that reconnects meanwhile.
        """
        stream = self.pubsub.peers.get(peer)
        if stream is not None and stream.muxed_conn.event_shutting_down.is_set():
            self.pubsub._handle_dead_peer(peer)

    def pardon(self, peer: ID) -> None:
        """A ban is over."""
        self.pubsub.blacklisted_peers.discard(peer)

    async def announce(self) -> None:
        """Tell all peers again what we listen to: an announcement that races a peer's registration is lost for good."""
        for name in self._names.values():
            packet, option = self.pubsub._build_announce_rpc(name, subscribe=True)
            packet.ClearField("senderRecord")
            await self.pubsub.message_all_peers(packet.SerializeToString(), announce=option)

    async def announce_loop(self, every: float) -> None:
        """`announce` for ever."""
        while True:
            await trio.sleep(every)
            await self.announce()

    def _validator(self, topic: str, name: str) -> Callable[[ID, Any], bool]:
        def valid(relayer: ID, message: Any) -> bool:
            if relayer == self.pubsub.my_id:
                return True
            judgement = Judgement.REJECT
            if len(message.data) <= MAX_MESSAGE and list(message.topicIDs) == [name]:
                judgement = self._judge(topic, str(relayer), message.data)
            if judgement is Judgement.REJECT:
                self._blame(str(relayer), peers.INVALID_MESSAGE)
            return judgement is Judgement.ACCEPT

        return valid


@asynccontextmanager
async def open_gossip(
    host: Host, project: bytes, judge: Judge, blame: Blame, settings: SwarmSettings
) -> AsyncIterator[Gossip]:
    """Gossip on a host that does not listen yet: whoever connects first must already see the subscriptions."""
    gossip = Gossip(host, project, judge, blame, settings.degree)
    try:
        async with background_trio_service(gossip.router), background_trio_service(gossip.pubsub):
            await gossip.pubsub.wait_until_ready()
            for name in gossip._names.values():
                await gossip.pubsub.subscribe(name)
            yield gossip
    finally:
        gossip.pubsub.seen_messages.stop()
