"""The libp2p host as we use it: TCP, Noise and Yamux only, and no connection that we did not ask for.

py-libp2p's own dialling is not used at all: it tries one address for each transport, drops loopback addresses when it
knows any other, sleeps 250 ms after each success, blocks a peer for a minute after one failure, and connects to every
peer it ever heard of. `p2pcap.swarm.dialer` decides whom to dial, and `Network.dial` dials one address.

Always holds: nothing but `Network.dial` opens a connection.
"""

import errno
import socket
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.host.ping import ID as PING
from libp2p.host.ping import handle_ping
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import identify_handler_for
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm as Libp2pSwarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from p2pcap.errors import AddressInUse, SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm import hardening
from p2pcap.swarm.settings import SwarmSettings

UPGRADE_SECONDS = 10.0
"""For the handshakes of one connection, and for naming the protocol of one stream."""


class Network(Libp2pSwarm):  # type: ignore[misc]  # libp2p comes without types
    """libp2p's connection table, without its own ideas of whom to connect to."""

    liveness = (hardening.PING_EVERY, hardening.PING_TIMEOUT)

    async def dial(self, address: Multiaddr, peer: ID) -> None:
        """Connect to `peer` at `address`. Raises SwarmException."""
        await self.dial_addr(address, peer)

    async def dial_peer(self, peer_id: ID) -> list[Any]:
        """Refused: opening a stream or an idle connection table never dials here."""
        raise SwarmException(f"not connected to {peer_id}")

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        """As upstream, with this swarm's idea of when a peer counts as silent."""
        muxed_conn.liveness = self.liveness
        return await super().add_conn(muxed_conn, direction)

    async def upgrade_inbound_raw_conn(self, raw_conn: Any, maddr: Multiaddr) -> Any:
        """As upstream, and wait until the connection ends.

        Upstream keeps each inbound connection's place until the host stops, so a node accepts max_connections
        connections in its whole life and then refuses everybody.
        """
        muxed_conn = await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        await muxed_conn.event_closed.wait()
        raise SwarmException("the connection is closed")


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
    keys = create_new_key_pair(identity.seed)
    peer_id = ID.from_pubkey(keys.public_key)
    peers = PeerStore()
    peers.add_key_pair(peer_id, keys)
    noise = Noise(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    network = Network(
        peer_id,
        peers,
        TransportUpgrader({NOISE: noise}, {YAMUX: Yamux}, negotiate_timeout=int(UPGRADE_SECONDS)),
        transports=[TCP()],
        retry_config=RetryConfig(max_retries=0),
        connection_config=_connection_config(settings),
    )
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
    async with trio.open_nursery() as nursery:
        for connection in host.get_network().get_connections():
            nursery.start_soon(connection.close)
    await host.close()
