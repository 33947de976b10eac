"""The two ends of a circuit through a relay: opening one, and taking one in.

A circuit is a stream on the connection with the relay; Noise and Yamux run on it as on a TCP connection, so the relay
sees only ciphertext and everything that holds for a connection (windows, pings, write order) holds here too. Of
libp2p's own `CircuitV2Transport` nothing is used: it takes circuits from any relay that comes along, believes the
relay who is at the other end, and leaves a blocked reader behind when a circuit is closed.

Always holds: only the direct connection with a relay carries circuits; a circuit is taken in only from a relay at
which this node has a place; a circuit that became no connection is reset.
"""

from collections.abc import Callable
from typing import Any

import structlog
import trio
from libp2p.abc import ConnectionType
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from multiaddr import Multiaddr

from p2pcap.errors import FrameError, Unreachable
from p2pcap.swarm import peers
from p2pcap.swarm.host import Host, relayed
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.nat.relay import HOP, STOP
from p2pcap.swarm.requests import Blame

log = structlog.get_logger(__name__)

OPEN_SECONDS = 15.0
"""From asking a relay for a circuit to the peer's answer through it; the relay itself waits 10 s for that."""
OFFER_SECONDS = 10.0
"""For a relay to say who calls."""
MAX_TAKING_IN = 8
"""Circuits whose handshakes are under way; further ones are declined."""

_REASONS: "dict[pb.Status.ValueType, str]" = {
    pb.Status.RESERVATION_REFUSED: "it has no place left",
    pb.Status.RESOURCE_LIMIT_EXCEEDED: "it carries as much as it may",
    pb.Status.PERMISSION_DENIED: "it does not work for this node",
    pb.Status.CONNECTION_FAILED: "the peer behind it did not answer",
    pb.Status.NO_RESERVATION: "the peer is not behind it",
}


def reason(status: "pb.Status.ValueType") -> str:
    """What a relay means by a status that is not OK."""
    return _REASONS.get(status, f"it answered with status {status}")


class CircuitStream(ReadWriteCloser):  # type: ignore[misc]  # libp2p comes without types
    """A circuit as something a connection can run on. One task reads at a time."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._closed = False
        self._reading: trio.CancelScope | None = None

    async def read(self, n: int | None = None) -> bytes:
        """The next bytes, at most `n`; none at the end, or when it is closed meanwhile."""
        if self._closed:
            return b""
        with trio.CancelScope() as self._reading:
            try:
                return bytes(await self._stream.read(n))
            except StreamEOF:
                return b""
            except BaseLibp2pError as error:
                raise ConnectionClosedError(f"the circuit broke off: {error!r}") from error
        return b""

    async def write(self, data: bytes) -> None:
        """Send `data`. Raises ConnectionClosedError."""
        try:
            await self._stream.write(data)
        except BaseLibp2pError as error:
            raise ConnectionClosedError(f"the circuit broke off: {error!r}") from error

    async def close(self) -> None:
        """End the circuit for both ends. Libp2p wakes no reader of a stream that is reset on its own side."""
        if self._closed:
            return
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()
        await self._stream.reset()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Nobody knows: the address below is the relay's."""
        return None


class Circuits:
    """The circuits that end at one host. `trusted` says at which relays it has a place."""

    def __init__(self, host: Host, trusted: Callable[[str], bool], blame: Blame) -> None:
        self._host = host
        self._trusted = trusted
        self._blame = blame
        self._taking_in = 0

    def serve(self) -> None:
        """Take circuits in from now on."""
        self._host.set_stream_handler(STOP, self._answer)

    async def dial(self, relay: str, peer: str) -> None:
        """Connect to `peer` through `relay`, to which there is a direct connection. Raises Unreachable."""
        try:
            with trio.fail_after(OPEN_SECONDS):
                stream = await self._open(relay, ID.from_string(peer))
        except trio.TooSlowError as error:
            raise Unreachable(f"Relay {relay} did not answer within {OPEN_SECONDS:g} s. Try another one.") from error
        except (BaseLibp2pError, FrameError, ValueError) as error:
            raise Unreachable(f"Relay {relay} opened no circuit to {peer}: {error!r}. Try another one.") from error
        raw = _raw(stream, relay, peer, initiator=True)
        try:
            await self._host.get_network().upgrade(raw, ID.from_string(peer))
        except BaseLibp2pError as error:
            raise Unreachable(f"No connection to {peer} through relay {relay}: {error}.") from error

    async def _open(self, relay: str, peer: ID) -> Any:
        network = self._host.get_network()
        if not network.direct(ID.from_string(relay)):
            raise Unreachable(f"Relay {relay} is not connected. Wait for the connection, or connect to it.")
        stream = await self._host.new_stream(ID.from_string(relay), [HOP])
        try:
            await write_message(stream, pb.HopMessage(type=pb.HopMessage.CONNECT, peer=pb.PeerId(id=peer.to_bytes())))
            answer = await read_message(stream, pb.HopMessage)
            if answer.type != pb.HopMessage.STATUS or answer.status != pb.Status.OK:
                raise Unreachable(f"Relay {relay} opens no circuit to {peer}: {reason(answer.status)}. Try another.")
        except BaseException:
            await _reset(stream)
            raise
        return stream

    async def _answer(self, stream: Any) -> None:
        """One circuit that a relay offers, for as long as it lasts."""
        relay = str(stream.muxed_conn.peer_id)
        if relayed(stream.swarm_conn) or not self._trusted(relay) or self._taking_in >= MAX_TAKING_IN:
            await _decline(stream, pb.Status.PERMISSION_DENIED)
            return
        self._taking_in += 1
        try:
            muxed_conn = await self._take_in(relay, stream)
        except FrameError:
            self._blame(relay, peers.BAD_FRAME)
            await _decline(stream, pb.Status.MALFORMED_MESSAGE)
            return
        except (BaseLibp2pError, trio.TooSlowError, ValueError) as error:
            log.debug("circuit_not_taken_in", relay=relay, error=repr(error))
            await _reset(stream)
            return
        finally:
            self._taking_in -= 1
        await muxed_conn.event_closed.wait()  # when this returns, libp2p counts the stream as done with

    async def _take_in(self, relay: str, stream: Any) -> Any:
        with trio.fail_after(OFFER_SECONDS):
            offer = await read_message(stream, pb.StopMessage)
            if offer.type != pb.StopMessage.CONNECT:
                raise FrameError(f"Relay {relay} offered no circuit.")
            peer = ID(offer.peer.id)
            await write_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.Status.OK))
        return await self._host.get_network().upgrade(_raw(stream, relay, str(peer), initiator=False), peer)


def _raw(stream: Any, relay: str, peer: str, initiator: bool) -> RawConnection:
    address = Multiaddr(f"/p2p/{relay}/p2p-circuit/p2p/{peer}")
    return RawConnection(CircuitStream(stream), initiator, ConnectionType.RELAYED, [address])


async def _decline(stream: Any, status: "pb.Status.ValueType") -> None:
    with trio.fail_after(OFFER_SECONDS):
        await write_message(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=status))
        await stream.close()


async def _reset(stream: Any) -> None:
    with trio.CancelScope(shield=True):  # one frame of 12 bytes; `hardening.write_whole_frames` bounds it
        await stream.reset()
