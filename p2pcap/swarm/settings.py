"""The numbers a swarm is tuned by, in one place, each with its unit.

The defaults suit a volunteer's machine. A coordinator that many nodes dial raises `degree` and `max_connections`.
"""

import math
from dataclasses import dataclass
from typing import Literal

Relaying = Literal["no", "if reachable", "yes"]
"""A node that nobody can dial is of no use as a relay; one that is told to, need not find out."""


@dataclass(frozen=True)
class SwarmSettings:
    """How a swarm behaves; all times in seconds."""

    links: int = 8
    """Connections kept open by dialling others; more may come in."""
    max_connections: int = 64
    degree: int = 8
    """Peers each gossip message is pushed to. A hub needs one near the number of its leaves."""
    ping_every: float = 15.0
    ping_timeout: float = 15.0
    """A peer silent for so long after a ping is dropped."""
    dial_timeout: float = 10.0
    redial_after: float = 1.0
    """Wait after a failed dial; doubles with each further failure."""
    redial_at_most: float = 60.0
    sync_every: float = 30.0
    """Between two exchanges with a random peer."""
    seek_every: float = 5.0
    """Between two questions to a random peer whom else it knows, while fewer than `links` are connected."""
    announce_every: float = 10.0
    """Between two repetitions of this node's subscriptions, for peers that missed them."""
    request_timeout: float = 30.0
    """From opening a request's stream to the last byte of its answer, on both sides."""
    take_over_after: float = 2.0
    """Without a byte of a content answer until other peers are asked for the same items too."""
    stall_after: float = 5.0
    """Without a byte of a content answer until it is given up."""
    requests_per_second: float = 50.0
    """For each peer; four times as many from all together. What comes faster is answered later."""
    announce: tuple[str, ...] = ()
    """Multiaddrs others reach this node at, when they are not the ones it listens on."""
    relay: Relaying = "no"
    """Whether to carry connections for peers that cannot be dialled, within the limits of `p2pcap.swarm.nat.relay`."""
    traverse: bool = False
    """Find out whether others can dial this node; if not, take a place at relays and try to get through directly."""
    map_port: bool = False
    """Ask the router to forward the listening port (UPnP)."""
    mdns: bool = False
    """Find peers of the project on the local network, and be found."""
    dht: bool = False
    """Find peers through the distributed hash table, and serve it."""
    dht_entries: tuple[str, ...] = ()
    """Addresses of nodes, of whatever project, through which the hash table is entered."""
    upload: float = math.inf
    """Bytes of content and relayed traffic served a second, at most."""
    download: float = math.inf
    """Bytes of content fetched a second, at most."""
