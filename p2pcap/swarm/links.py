"""Who is connected, and what is known of them.

Listens to libp2p's connection events, keeps one record for each connected peer, holds misbehaviour against peers and
shows banned ones the door.

Always holds: `joined` and `left` (wholly) are called in turn for a peer, however many connections it has.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import structlog
import trio
from libp2p.abc import INotifee
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from multiaddr import Multiaddr

from p2pcap.errors import Unreachable
from p2pcap.swarm.addresses import Endpoint, parse_endpoints
from p2pcap.swarm.host import Host
from p2pcap.swarm.messages import Status
from p2pcap.swarm.peers import Standing

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PeerInfo:
    """A connected peer. `connected_since` is in unix seconds, `rtt` in seconds or None before the first answer.

    `addresses` are where it can be dialled, as far as it said or we dialled it, each ending in /p2p/ and its id.
    `score` is 0 for a clean peer and negative for one that misbehaved.
    """

    peer_id: str
    addresses: tuple[str, ...]
    connected_since: float
    direction: Literal["in", "out"]
    status: Status | None
    rtt: float | None
    score: float


@dataclass
class _Link:
    since: float
    direction: Literal["in", "out"]
    dialled: str | None = None
    status: Status | None = None


class Links:
    """The connections of one host."""

    def __init__(self, host: Host, joined: Callable[[str], None], left: Callable[[str, bool], None]) -> None:
        self._network = host.get_network()
        self._joined = joined
        self._left = left
        self._links: dict[str, _Link] = {}
        self.standing = Standing()
        self._network.register_notifee(_Events(self))

    def connected(self) -> frozenset[str]:
        """The ids of the connected peers."""
        return frozenset(self._links)

    def chosen(self) -> int:
        """How many of the connected peers this node dialled."""
        return sum(link.direction == "out" for link in self._links.values())

    def infos(self) -> tuple[PeerInfo, ...]:
        """What is known of the connected peers, longest connected first."""
        return tuple(self._info(peer, link) for peer, link in self._links.items())

    def status(self, peer: str) -> Status | None:
        """The newest status of a connected peer."""
        link = self._links.get(peer)
        return link.status if link else None

    def heard(self, peer: str, status: Status) -> None:
        """Keep the newest status of `peer`."""
        if peer in self._links:
            self._links[peer].status = status

    async def dial(self, endpoint: Endpoint) -> None:
        """Open a connection unless there is one. Raises Unreachable."""
        if endpoint.peer in self._links:
            return
        if self.standing.banned(endpoint.peer, trio.current_time()):
            raise Unreachable(f"Peer {endpoint.peer} is banned here. Restart the node to forget it.")
        try:
            await self._network.dial(Multiaddr(endpoint.transport), ID.from_string(endpoint.peer))
        except BaseLibp2pError as error:
            raise Unreachable(_why(endpoint, error)) from error
        if endpoint.peer in self._links:
            self._links[endpoint.peer].dialled = str(endpoint)

    async def close(self, peer: str) -> None:
        """Close every connection with `peer`."""
        await self._network.close_peer(ID.from_string(peer))

    async def opened(self, conn: Any) -> None:
        """A connection is ready."""
        peer = str(conn.muxed_conn.peer_id)
        if self.standing.banned(peer, trio.current_time()):
            await conn.close()
        elif peer not in self._links:
            direction: Literal["in", "out"] = "in" if conn.direction is Direction.INBOUND else "out"
            self._links[peer] = _Link(time.time(), direction)
            self._joined(peer)

    def closed(self, conn: Any) -> None:
        """A connection is gone."""
        peer = str(conn.muxed_conn.peer_id)
        if peer in self._links:
            wholly = not self._network.get_connections(conn.muxed_conn.peer_id)
            if wholly:
                del self._links[peer]
            self._left(peer, wholly)

    def _info(self, peer: str, link: _Link) -> PeerInfo:
        said = [str(endpoint) for endpoint in parse_endpoints(link.status.addresses, peer)] if link.status else []
        known = dict.fromkeys([link.dialled, *said] if link.dialled else said)
        score = self.standing.score(peer, trio.current_time())
        return PeerInfo(peer, tuple(known), link.since, link.direction, link.status, self._rtt(peer), score)

    def _rtt(self, peer: str) -> float | None:
        connections = self._network.get_connections(ID.from_string(peer))
        return min((conn.muxed_conn.rtt() for conn in connections if conn.muxed_conn.rtt() > 0), default=None)


def _why(endpoint: Endpoint, error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, PeerIDMismatchesPubkey):
        return f"Another peer than {endpoint.peer} answers at {endpoint.transport}. Ask for the right address."
    reason = str(error) or type(error).__name__
    return f"No connection to {endpoint}: {reason.rstrip('.')}. Check that the peer runs there."


class _Events(INotifee):  # type: ignore[misc]  # libp2p comes without types
    """Hands libp2p's connection events to `Links`."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def connected(self, network: Any, conn: Any) -> None:
        await self._links.opened(conn)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._links.closed(conn)

    async def opened_stream(self, network: Any, stream: Any) -> None: ...
    async def closed_stream(self, network: Any, stream: Any) -> None: ...
    async def listen(self, network: Any, multiaddr: Any) -> None: ...
    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...
