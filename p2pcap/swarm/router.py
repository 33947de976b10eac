"""GossipSub 1.1 that loses no message it could deliver, and does no more work for a peer than is due to it.

Each method mends what py-libp2p 0.8.1 leaves out or gets wrong, and says what that is.

Always holds: our own messages go to every connected peer that listens, mesh or not; between two heartbeats a peer is
asked for ASKED_IDS messages at most and sent GIVEN_BYTES of what it asks for.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import structlog
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2

log = structlog.get_logger(__name__)

PRUNE_BACK_OFF = 10
GOSSIP_SHARE = 0.25
GOSSIP_LEAST = 6
"""Peers outside the mesh told each second what is new: a quarter of them, but at least six (GossipSub's D_lazy)."""
ASKED_IDS = 2_000
"""Ids of an IHAVE that are asked for, for each peer and heartbeat (GossipSub's MaxIHaveLength is 5,000)."""
GIVEN_BYTES = 1024 * 1024
"""Bytes of messages sent on IWANT, for each peer and heartbeat; upstream sends a message as often as it is asked."""


class Router(GossipSub):  # type: ignore[misc]  # libp2p comes without types
    """The router of one node. `chosen(peer)` says whether we connected to the peer, rather than it to us."""

    def __init__(self, degree: int, chosen: Callable[[ID], bool] = lambda peer: False) -> None:
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
        self._chosen = chosen
        self._asked: Counter[ID] = Counter()
        self._given: Counter[ID] = Counter()

    async def heartbeat(self) -> None:
        """As upstream, but an error costs one beat and not the service."""
        while True:
            try:
                await super().heartbeat()
            except Exception:
                log.exception("gossip_heartbeat_failed")

    async def publish(self, msg_forwarder: ID, pubsub_msg: Any) -> None:
        """Keep a message for a while and send it on.

        Upstream also keeps it for every connected peer that does not listen to its topic, 100 messages each, in lists
        that it copies with each message. Who subscribes late is sent what is kept here (`send_recent_messages`).
        """
        self.mcache.put(pubsub_msg)
        rpc = rpc_pb2.RPC(publish=[pubsub_msg])
        id = self.pubsub.get_message_id(pubsub_msg)
        for peer in self._get_peers_to_send(pubsub_msg.topicIDs, msg_forwarder, ID(pubsub_msg.from_id), id):
            self.send_rpc(peer, rpc)

    def _get_peers_to_send(self, topic_ids: Any, msg_forwarder: ID, origin: ID, msg_id: Any = None) -> Any:
        """Flood-publishing, which upstream lacks: a node whose mesh is empty would publish to nobody."""
        if msg_forwarder != self.pubsub.my_id:
            return super()._get_peers_to_send(topic_ids, msg_forwarder, origin, msg_id)
        return {peer for topic in topic_ids for peer in self.pubsub.peer_topics.get(topic, ()) if self._speaks(peer)}

    def gossip_heartbeat(self) -> Any:
        """IHAVE also to peers in prune back-off, which upstream passes over: they would hear nothing at all."""
        self._asked.clear()
        self._given.clear()
        gossip: defaultdict[ID, dict[str, list[bytes]]] = defaultdict(dict)
        for topic, mesh in self.mesh.items():
            recent = self.mcache.window(topic)
            others = [p for p in self.pubsub.peer_topics.get(topic, ()) if p not in mesh and self._speaks(p)]
            share = max(GOSSIP_LEAST, int(len(others) * GOSSIP_SHARE))
            for peer in self.select_from_minus(share, others, ()) if recent else ():
                gossip[peer][topic] = recent
        return gossip

    async def handle_ihave(self, ihave_msg: Any, sender_peer_id: ID) -> None:
        """Ask for what was not seen. Upstream asks for any number of ids, ten times a second for each topic name."""
        unknown = [id for id in ihave_msg.messageIDs if not self.pubsub.seen_messages.has(id)]
        unknown = unknown[: ASKED_IDS - self._asked[sender_peer_id]]
        if unknown:
            self._asked[sender_peer_id] += len(unknown)
            await self.emit_iwant(unknown, sender_peer_id)

    async def handle_iwant(self, iwant_msg: Any, sender_peer_id: ID) -> None:
        """Send what is asked for, each message by itself; upstream packs them all into one RPC, and counts nothing."""
        for message in map(self.mcache.get, iwant_msg.messageIDs):
            if message is None:
                continue
            size = message.ByteSize()
            if self._given[sender_peer_id] + size > GIVEN_BYTES:
                return
            self._given[sender_peer_id] += size
            self.send_rpc(sender_peer_id, rpc_pb2.RPC(publish=[message]))

    def _select_peers_for_pruning(self, topic: str, num_to_prune: int) -> list[ID]:
        """Half of the mesh stays with peers that we chose, as far as there are any (GossipSub's D_out).

        Upstream, without a scorer, picks any: who connects to us in numbers has the mesh to itself.
        """
        mesh = list(self.mesh.get(topic, ()))
        random.shuffle(mesh)
        kept = [peer for peer in mesh if self._chosen(peer)][: self.degree // 2]
        return [peer for peer in mesh if peer not in kept][:num_to_prune]

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
        """Nothing is kept for a peer whose subscriptions have not arrived (`publish`)."""

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
