"""Who is connected, and what is known of them.

Listens to libp2p's connection events, keeps one record for each connected peer, holds misbehaviour against peers and
shows banned ones the door.

Always holds: `joined` and `left` (wholly) are called in turn for a peer, however many connections it has.
"""

import ipaddress
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
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
from p2pcap.swarm.discovery.names import dial_each, resolve_host
from p2pcap.swarm.host import Host, relayed, remote_address
from p2pcap.swarm.messages import Status
from p2pcap.swarm.peers import Standing
from p2pcap.swarm.trimming import Connection

log = structlog.get_logger(__name__)

DIAL_SECONDS = 8.0
"""For all IP addresses of one host together; less than `SwarmSettings.dial_timeout`, which ends it otherwise."""


@dataclass(frozen=True)
class PeerInfo:
    """A connected peer. `connected_since` is in unix seconds, `rtt` in seconds or None before the first answer.

    `addresses` are where it can be dialled, as far as it said or we dialled it, each ending in /p2p/ and its id.
    `score` is 0 for a clean peer and negative for one that misbehaved. `relayed`: through relays only. `sent` and
    `received` are bytes since it connected first.
    """

    peer_id: str
    addresses: tuple[str, ...]
    connected_since: float
    direction: Literal["in", "out"]
    status: Status | None
    rtt: float | None
    score: float
    relayed: bool = False
    sent: int = 0
    received: int = 0


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

    def outbound(self) -> list[str]:
        """The connected peers that this node dialled, longest connected first."""
        return [peer for peer, link in self._links.items() if link.direction == "out"]

    def connections(self, kept: Collection[str]) -> list[Connection]:
        """What counts about each connection when some must be closed; those with `kept` must not."""
        known = self._links.items()
        return [self._connection(peer, link, conn, peer in kept) for peer, link in known for conn in self._open(peer)]

    def _connection(self, peer: str, link: _Link, conn: Any, kept: bool) -> Connection:
        found = remote_address(conn)
        score = self.standing.score(peer, trio.current_time())
        age = max(0.0, time.time() - link.since)
        told = link.status is not None
        return Connection(peer, found[0] if found else "relay", link.direction, age, kept, told, score)

    def near(self, peer: str) -> bool:
        """Whether `peer` is connected directly, from a private address: it is on a network of ours."""
        remotes = [found[0] for conn in self._open(peer) if (found := remote_address(conn)) is not None]
        return any(not ipaddress.ip_address(remote).is_global for remote in remotes)

    def relayed(self, peer: str) -> bool:
        """Whether `peer` is connected through relays only."""
        return all(relayed(conn) for conn in self._open(peer))

    def _open(self, peer: str) -> list[Any]:
        return list(self._network.get_connections(ID.from_string(peer)))

    def members(self) -> list[str]:
        """The connected peers that showed themselves to be of our project."""
        return [peer for peer, link in self._links.items() if link.status is not None]

    def is_member(self, peer: str) -> bool:
        """Whether `peer` is connected and of our project."""
        return self.status(peer) is not None

    def relays(self) -> list[str]:
        """The members that carry connections for others, the nearest first."""
        offering = [peer for peer, link in self._links.items() if link.status is not None and link.status.relay]
        return sorted(offering, key=lambda peer: self._rtt(peer) or math.inf)

    def transports(self, peer: str) -> list[str]:
        """The transport addresses at which `peer` says it can be dialled directly."""
        status = self.status(peer)
        told = parse_endpoints(status.addresses, peer) if status is not None else []
        return [endpoint.transport for endpoint in told if endpoint.relay is None]

    def dialled(self, peer: str) -> list[str]:
        """The address that led to `peer`, if we dialled it."""
        link = self._links.get(peer)
        return [link.dialled] if link is not None and link.dialled is not None else []

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
        if self.standing.refused(endpoint.peer, trio.current_time()):
            raise Unreachable(f"Peer {endpoint.peer} is banned here for a while. Restart the node to forget it.")
        dials = self._network.counters.dials
        try:
            await dial_each(await resolve_host(endpoint.transport), partial(self._dial, endpoint.peer), DIAL_SECONDS)
        except Unreachable:
            dials["failed"] += 1
            raise
        dials["connected"] += 1
        self.reached(endpoint)

    async def _dial(self, peer: str, transport: str) -> None:
        try:
            await self._network.dial(Multiaddr(transport), ID.from_string(peer))
        except BaseLibp2pError as error:
            raise Unreachable(_why(Endpoint(transport, peer), error)) from error

    def reached(self, endpoint: Endpoint) -> None:
        """This address led to its peer."""
        if endpoint.peer in self._links:
            self._links[endpoint.peer].dialled = str(endpoint)

    async def close(self, peer: str) -> None:
        """Close every connection with `peer`."""
        await self._network.close_peer(ID.from_string(peer))

    def release(self, peer: str) -> None:
        """Keep the connection, but count the peer no more: it is here for the hash table only."""
        if self._links.pop(peer, None) is not None:
            self._left(peer, True)

    async def opened(self, conn: Any) -> None:
        """A connection is ready."""
        peer = str(conn.muxed_conn.peer_id)
        if peer == str(self._network.get_peer_id()) or self.standing.refused(peer, trio.current_time()):
            await conn.close()  # a stranger may give our own address for somebody else's
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
        tally = self._network.traffic.of(peer)
        return PeerInfo(
            peer_id=peer,
            addresses=tuple(known),
            connected_since=link.since,
            direction=link.direction,
            status=link.status,
            rtt=self._rtt(peer),
            score=score,
            relayed=self.relayed(peer),
            sent=tally.sent,
            received=tally.received,
        )

    def _rtt(self, peer: str) -> float | None:
        return min((conn.muxed_conn.rtt() for conn in self._open(peer) if conn.muxed_conn.rtt() > 0), default=None)


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
