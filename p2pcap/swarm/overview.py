"""One look at a whole swarm, for its owner: every figure of `p2pcap.swarm.network` from the part that knows it."""

import trio

from p2pcap.swarm.bandwidth import Bandwidth
from p2pcap.swarm.counters import Counters, Traffic
from p2pcap.swarm.discovery.discovery import Discovery
from p2pcap.swarm.links import Links
from p2pcap.swarm.nat.traversal import Traversal
from p2pcap.swarm.network import NetworkState
from p2pcap.swarm.settings import SwarmSettings


def overview(
    settings: SwarmSettings,
    links: Links,
    traversal: Traversal,
    discovery: Discovery,
    bandwidth: Bandwidth,
    traffic: Traffic,
    counters: Counters,
    synced: float | None,
) -> NetworkState:
    """The state now; `synced` is when a comparison with a peer last ended well, in unix seconds."""
    infos = links.infos()
    carried = traversal.relay.traffic
    return NetworkState(
        reachability=traversal.reach.reachability.state,
        reached=traversal.ways(),
        external=traversal.external(),
        port_mapping=traversal.port_mapping,
        relays=traversal.relays(),
        circuits=carried.circuits,
        carried=carried.bytes,
        incoming=sum(info.direction == "in" for info in infos),
        outgoing=sum(info.direction == "out" for info in infos),
        relayed=sum(info.relayed for info in infos),
        max_connections=settings.max_connections,
        sent=traffic.sent,
        received=traffic.received,
        uploaded=bandwidth.up.passed,
        downloaded=bandwidth.down.passed,
        upload=settings.upload,
        download=settings.download,
        banned=links.standing.bans(trio.current_time()),
        known=len(discovery.book.entries),
        synced=synced,
        troubles=discovery.troubles(),
        counters=counters,
    )
