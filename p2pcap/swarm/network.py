"""What a swarm says of its own place in the network: the value behind `p2pcap status` and the metrics.

Pure, and made in one go by `Swarm.network`, so that all of it is of one moment.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from p2pcap.swarm.counters import Counters

Reachability = Literal["unknown", "public", "private"]
"""Whether others can dial this node: not known yet, yes, or only through a relay."""

Way = Literal["direct", "port mapping", "relay"]


@dataclass(frozen=True)
class NetworkState:
    """The network as this node sees it now. Bytes are counted since the node started, rates are bytes a second."""

    reachability: Reachability = "unknown"
    reached: tuple[Way, ...] = ()
    """How others get through to this node; empty: not at all, or not known yet."""
    external: tuple[str, ...] = ()
    """Multiaddrs at which others have reached it, or which the router told."""
    port_mapping: str = ""
    """What became of asking the router to forward the port, in words; empty: it was not asked."""
    relays: tuple[str, ...] = ()
    """Ids of the peers that hold a place for this node."""
    circuits: int = 0
    """Connections between others that are carried now."""
    carried: int = 0
    """Bytes carried for others, both ways."""
    incoming: int = 0
    outgoing: int = 0
    relayed: int = 0
    """Connections through a relay; they are counted as incoming or outgoing too."""
    max_connections: int = 0
    sent: int = 0
    received: int = 0
    """Bytes on all connections (`p2pcap.swarm.counters.Traffic`)."""
    uploaded: int = 0
    downloaded: int = 0
    """Bytes of content, and of relayed traffic among those uploaded (`p2pcap.swarm.bandwidth`)."""
    upload: float = math.inf
    download: float = math.inf
    """The caps on these."""
    banned: int = 0
    """Peers that are banned now."""
    known: int = 0
    """Peers remembered for dialling."""
    synced: float | None = None
    """Unix seconds when this node and a peer last found their statements equal, or made them so."""
    troubles: tuple[str, ...] = ()
    """Why peers that the user named are not connected, a line each."""
    counters: Counters = field(default_factory=Counters)
