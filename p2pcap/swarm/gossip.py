"""Gossip: small announcements that reach every peer soon, or are repaired by sync.

There are three topics for each project. `p2pcap.swarm.topics` is what comes in, `p2pcap.swarm.router` decides whom to
send to; here they are put on a host.

Always holds: the subscriptions are in place before anybody can connect, and are repeated for whoever missed them.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from libp2p.tools.anyio_service import background_trio_service

from p2pcap.errors import SwarmError
from p2pcap.swarm.counters import Counters
from p2pcap.swarm.host import Host
from p2pcap.swarm.messages import MAX_MESSAGE, TOPICS
from p2pcap.swarm.peers import MAX_PEERS
from p2pcap.swarm.router import Router
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.topics import Blame, Judge, Topics


def topic_name(project: bytes, topic: str) -> str:
    """The name on the wire of `topic` in the project whose first 8 root hash bytes are `project`."""
    return f"/p2pcap/1/{project.hex()}/{topic}"


class Gossip:
    """The topics of one project on one host."""

    def __init__(self, host: Host, project: bytes, judge: Judge, blame: Blame, degree: int, counters: Counters) -> None:
        self._names = {topic: topic_name(project, topic) for topic in TOPICS}
        self._network = host.get_network()
        self.router = Router(degree, self._chosen)
        own_names = {name: topic for topic, name in self._names.items()}
        self.pubsub = Topics(host, self.router, own_names, judge, blame, counters)
        # upstream counts from the second: a node restarted within its message count repeats numbers and is ignored
        self.pubsub.counter = time.time_ns()

    async def publish(self, topic: str, data: bytes) -> None:
        """Send `data` to every connected peer that listens to `topic`. Raises SwarmError when it is too large."""
        if len(data) > MAX_MESSAGE:
            raise SwarmError(f"A message of {len(data)} bytes cannot be announced; at most {MAX_MESSAGE} are allowed.")
        await self.pubsub.publish(self._names[topic], data)

    def ban(self, peer: ID) -> None:
        """Take nothing more that `peer` wrote or relayed."""
        while len(self.pubsub.blacklisted_peers) >= MAX_PEERS:
            self.pubsub.blacklisted_peers.pop()
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

    def _chosen(self, peer: ID) -> bool:
        return any(conn.direction is Direction.OUTBOUND for conn in self._network.get_connections(peer))


@asynccontextmanager
async def open_gossip(
    host: Host,
    project: bytes,
    judge: Judge,
    blame: Blame,
    settings: SwarmSettings,
    counters: Counters | None = None,
) -> AsyncIterator[Gossip]:
    """Gossip on a host that does not listen yet: whoever connects first must already see the subscriptions."""
    gossip = Gossip(host, project, judge, blame, settings.degree, counters or Counters())
    async with background_trio_service(gossip.router), background_trio_service(gossip.pubsub):
        await gossip.pubsub.wait_until_ready()
        for name in gossip._names.values():
            await gossip.pubsub.subscribe(name)
        yield gossip
