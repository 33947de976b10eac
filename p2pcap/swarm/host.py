"""The libp2p host as we use it: TCP, Noise and Yamux only, and no connection that we did not ask for.

py-libp2p's own dialling is not used at all: it tries one address for each transport, drops loopback addresses when it
knows any other, sleeps 250 ms after each success, blocks a peer for a minute after one failure, and connects to every
peer it ever heard of. `p2pcap.swarm.dialer` decides whom to dial, and `Network.dial` dials one address.

Always holds: nothing opens a connection but `Network.dial`, and `Network.upgrade` for what came about in another way
(`p2pcap.swarm.nat`). An open connection is marked as relayed before anybody hears of it.
"""

import errno
import functools
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.host.ping import ID as PING
from libp2p.host.ping import handle_ping
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import identify_handler_for
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm as Libp2pSwarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from p2pcap.errors import AddressInUse, SwarmError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm import hardening, windows
from p2pcap.swarm.admission import AT_ONCE, Admission
from p2pcap.swarm.counters import Counters, Traffic
from p2pcap.swarm.nat.ports import SourcePorts
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.trimming import HOST, shared

UPGRADE_SECONDS = 10.0
"""For the handshakes of one connection, and for naming the protocol of one stream."""


UNSENT_BYTES = 16 * 1024


class Network(Libp2pSwarm):  # type: ignore[misc]  # libp2p comes without types
    """libp2p's connection table, without its own ideas of whom to connect to."""

    liveness = (hardening.PING_EVERY, hardening.PING_TIMEOUT)
    ports: SourcePorts
    traffic: Traffic
    counters: Counters
    admission: Admission
    blame: Callable[[str, float], None] = staticmethod(lambda peer, penalty: None)
    """Told what a connection as such is held against its peer for; whoever owns the host sets it."""

    async def dial(self, address: Multiaddr, peer: ID) -> None:
        """Connect to `peer` at `address`, from the port all our dials leave from. Raises SwarmException."""
        if peer == self.get_peer_id():
            raise SwarmException("this node itself is there")
        await self.dial_addr(address, peer)

    async def upgrade(self, raw: RawConnection, peer: ID) -> Any:
        """Make `raw`, which leads to `peer`, a connection of this network: Noise and Yamux, as its initiator or not.

        Returns the muxed connection. Raises SwarmException, and `raw` is closed, when that fails or somebody else than
        `peer` answers.
        """
        try:
            with trio.fail_after(UPGRADE_SECONDS):
                if raw.is_initiator:
                    return (await self.upgrade_outbound_raw_conn(raw, peer)).muxed_conn
                return await self._upgrade_as_responder(raw, peer)
        except BaseException as error:
            with trio.move_on_after(hardening.CLOSE_SECONDS, shield=True):
                await raw.close()
            if isinstance(error, Exception):  # handshakes with a stranger fail in any way
                raise SwarmException(f"no connection with {peer}: {error!r}") from error
            raise

    async def _upgrade_as_responder(self, raw: RawConnection, peer: ID) -> Any:
        address = Multiaddr("/ip4/0.0.0.0/tcp/0")  # upstream names it in its log only
        muxed_conn = await self._let_in(raw, address)
        if muxed_conn.peer_id != peer:
            await muxed_conn.close()
            raise SwarmException(f"{muxed_conn.peer_id} answers in its place")
        return muxed_conn

    def direct(self, peer: ID) -> list[Any]:
        """The open connections with `peer` that no relay carries."""
        return [conn for conn in self.get_connections(peer) if not conn.is_closed and not relayed(conn)]

    async def close_peer(self, peer_id: ID) -> None:
        """Close the connections with this peer. Each leaves the table by itself.

        Upstream drops the peer's whole entry at the end: a connection that came in meanwhile stays open, out of sight.
        """
        for connection in self.get_connections(peer_id):
            await connection.close()

    async def dial_peer(self, peer_id: ID) -> list[Any]:
        """Refused: opening a stream or an idle connection table never dials here."""
        raise SwarmException(f"not connected to {peer_id}")

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        """As upstream, with this swarm's idea of when a peer counts as silent, and its bytes counted.

        What a relay carries is counted on the connection with the relay.
        """
        muxed_conn.liveness = self.liveness
        if not relayed(muxed_conn):
            muxed_conn.secured_conn.tally = self.traffic.of(str(muxed_conn.peer_id))
            _keep_little_unsent(muxed_conn)
        return await super().add_conn(muxed_conn, direction)

    async def upgrade_inbound_raw_conn(self, raw_conn: Any, maddr: Multiaddr) -> Any:
        """As upstream, and wait until the connection ends.

        Upstream keeps each inbound connection's place until the host stops, so a node accepts max_connections
        connections in its whole life and then refuses everybody.
        """
        remote = _peer_name(raw_conn.stream.stream.socket)
        handshake = functools.partial(self._let_in, raw_conn, maddr)
        try:
            muxed_conn = await self.admission.run(shared(remote[0], HOST) if remote else "", handshake)
        except Unreachable as error:
            raise SwarmException(str(error)) from error
        await muxed_conn.event_closed.wait()
        raise SwarmException("the connection is closed")

    async def _let_in(self, raw_conn: Any, maddr: Multiaddr) -> Any:
        try:
            return await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        except SwarmException as error:
            self.counters.refused += "connections limit" in str(error)
            raise


class OnePortTCP(TCP):  # type: ignore[misc]  # libp2p comes without types
    """libp2p's TCP, with dials that leave from one port."""

    def __init__(self, ports: SourcePorts) -> None:
        super().__init__()
        self._ports = ports

    async def _dial_resolved(self, maddr: Multiaddr, source: tuple[str, int] | None = None) -> RawConnection:
        _, _, ip, _, port, *_ = str(maddr).split("/")
        try:
            stream = await self._ports.connect(ip, int(port))
        except (OSError, ValueError) as error:
            raise OpenConnectionError(f"no TCP connection to {maddr}: {error}") from error
        return RawConnection(TrioTCPStream(stream), True)


def relayed(conn: Any) -> bool:
    """Whether a relay carries this connection, given as libp2p's or as its muxer."""
    return bool(conn.get_connection_type() is ConnectionType.RELAYED)


def remote_address(conn: Any) -> tuple[str, int] | None:
    """The other end of a direct connection, IP and port; None for a relayed or closed one."""
    sock = _socket(conn)
    return None if sock is None else _peer_name(sock)


def _peer_name(sock: Any) -> tuple[str, int] | None:
    """The other end of a socket; libp2p's own way knows no IPv6. An IPv4 end seen by an IPv6 socket is an IPv4 end."""
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return None
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address), port


def left_from(conn: Any) -> int | None:
    """The local port of a direct connection; None for a relayed or closed one."""
    sock = _socket(conn)
    try:
        return None if sock is None else int(sock.getsockname()[1])
    except OSError:
        return None


def _keep_little_unsent(muxed_conn: Any) -> None:
    """Let the system take only so much that the line has not: else megabytes wait there for a slow line, pings and
    gossip behind them, and no writer learns that it is slow."""
    sock = muxed_conn.secured_conn.conn.conn.stream.stream.socket
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _socket(conn: Any) -> Any:
    """The socket under a connection: Yamux on a Noise session, on its reader, on a raw connection, on a stream."""
    return None if relayed(conn) else conn.muxed_conn.secured_conn.conn.conn.stream.stream.socket


class Host(BasicHost):  # type: ignore[misc]  # libp2p comes without types
    """libp2p's host without asking peers who they are: what we need to know is in their status.

    Upstream runs identify as a system task of trio, where an error ends the process. Being asked is answered.
    """

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        pass

    async def _push_identify_to_all_peers(self) -> None:
        pass


def build_host(identity: Identity, settings: SwarmSettings) -> Host:
    """A host for this identity that neither listens nor runs yet."""
    hardening.install()
    windows.install()
    keys = create_new_key_pair(identity.seed)
    peer_id = ID.from_pubkey(keys.public_key)
    peers = PeerStore()
    peers.add_key_pair(peer_id, keys)
    noise = Noise(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    ports = SourcePorts()
    network = Network(
        peer_id,
        peers,
        TransportUpgrader({NOISE: noise}, {YAMUX: Yamux}, negotiate_timeout=int(UPGRADE_SECONDS)),
        transports=[OnePortTCP(ports)],
        retry_config=RetryConfig(max_retries=0),
        connection_config=_connection_config(settings),
    )
    network.ports = ports
    network.traffic = Traffic()
    network.counters = Counters()
    network.admission = Admission()
    # upstream counts handshakes and connections in one limiter
    network._inbound_limiter = trio.CapacityLimiter(settings.max_connections + AT_ONCE)
    network.liveness = (settings.ping_every, settings.ping_timeout)
    host = Host(network, disable_identify_address_discovery=True)
    host.set_stream_handler(IDENTIFY, identify_handler_for(host, use_varint_format=True))
    host.set_stream_handler(PING, handle_ping)
    host.remove_stream_handler("/ipfs/id/push/1.0.0")
    return host


def _connection_config(settings: SwarmSettings) -> ConnectionConfig:
    return ConnectionConfig(
        max_connections=settings.max_connections,
        min_connections=0,
        low_watermark=0,
        high_watermark=settings.max_connections,
        max_connections_per_peer=2,
        dial_timeout=settings.dial_timeout,
        inbound_upgrade_timeout=UPGRADE_SECONDS,
        outbound_upgrade_timeout=UPGRADE_SECONDS,
        inbound_stream_protocol_negotiation_timeout=UPGRADE_SECONDS,
        outbound_stream_protocol_negotiation_timeout=UPGRADE_SECONDS,
        auto_connect_interval=3_600.0,
    )


async def listen_on(host: Host, address: Multiaddr) -> None:
    """Listen on one TCP address. Raises AddressInUse or SwarmError; libp2p only logs why it could not."""
    if await host.get_network().listen(address):
        return
    try:
        _, family, ip, _, port = str(address).split("/")
        with socket.socket(socket.AF_INET6 if family == "ip6" else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ip, int(port)))
            probe.listen()
        reason = "it was taken a moment ago"
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            text = f"Another program listens on {address} already. Stop it, or choose another port."
            raise AddressInUse(text) from error
        reason = str(error)
    raise SwarmError(f"Cannot listen on {address}: {reason}. Use an address of this machine, or port 0 for any port.")


async def close_host(host: Host) -> None:
    """Close every connection at the same time, then the host. Libp2p's own way takes 0.3 s for each, one by one."""
    host.get_network().ports.close()
    async with trio.open_nursery() as nursery:
        for connection in host.get_network().get_connections():
            nursery.start_soon(connection.close)
    await host.close()
