"""Bare libp2p hosts for what is tested below the swarm: each listens on 127.0.0.1, and echoes."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from p2pcap.identity import Identity
from p2pcap.swarm.host import Host, build_host, close_host, listen_on
from p2pcap.swarm.nat.circuits import Circuits
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.nat.relay import HOP, Relay, RelayLimits
from p2pcap.swarm.nat.reservations import Reservations
from p2pcap.swarm.settings import SwarmSettings


class Bare:
    """A host that keeps what its parts hold against peers in `blamed`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.network = host.get_network()
        self.id = str(host.get_id())
        self.blamed: list[tuple[str, float]] = []

    @property
    def address(self) -> str:
        """Where it listens, whole."""
        return f"{self.transport}/p2p/{self.id}"

    @property
    def transport(self) -> str:
        """Where it listens."""
        return str(self.host.get_transport_addrs()[0])

    def blame(self, peer: str, penalty: float) -> None:
        self.blamed.append((peer, penalty))

    async def dial(self, other: "Bare") -> None:
        await self.network.dial(Multiaddr(other.transport), other.host.get_id())

    async def ask(self, other: "Bare", data: bytes) -> bytes:
        """What `other` echoes."""
        stream = await self.host.new_stream(other.host.get_id(), [ECHO])
        await stream.write(data)
        await stream.close_write()
        return await everything(stream)

    def connections(self, other: "Bare") -> list[Any]:
        return list(self.network.get_connections(ID.from_string(other.id)))


ECHO = "/echo"


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    while not true():  # noqa: ASYNC110 - there is no event to wait for
        await trio.sleep(0.01)


async def everything(stream: Any) -> bytes:
    """All bytes until the stream's end."""
    data = b""
    while True:
        try:
            data += await stream.read(65_536)
        except EOFError:
            return data


async def echo(stream: Any) -> None:
    await stream.write(await everything(stream))
    await stream.close()


@asynccontextmanager
async def bare(
    settings: SwarmSettings | None = None, listen: str = "/ip4/127.0.0.1/tcp/0", identity: Identity | None = None
) -> AsyncIterator[Bare]:
    """A host that echoes."""
    host = build_host(identity or Identity.generate(), settings or SwarmSettings())
    host.set_stream_handler(ECHO, echo)
    async with background_trio_service(host.get_network()):
        await listen_on(host, Multiaddr(listen))
        try:
            yield Bare(host)
        finally:
            await close_host(host)


class Between:
    """A relay, and two peers of which the second has a place there."""

    def __init__(self, relay: Bare, caller: Bare, called: Bare, limits: RelayLimits) -> None:
        self.relay, self.caller, self.called = relay, caller, called
        self.members = {caller.id, called.id}
        self.server = Relay(relay.host, self.members.__contains__, lambda: [relay.address], relay.blame, limits=limits)
        self.changed = trio.Event()
        self.places = Reservations(called.host, lambda: [relay.id], called.blame, self.change)
        self.circuits = Circuits(called.host, self.places.holds, called.blame)
        self.callers = Circuits(caller.host, lambda relay: False, caller.blame)

    def change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def call(self) -> None:
        await self.callers.dial(self.relay.id, self.called.id)


@asynccontextmanager
async def between(limits: RelayLimits | None = None, settings: SwarmSettings | None = None) -> AsyncIterator[Between]:
    """Both peers connected to the relay, and the place taken."""
    async with AsyncExitStack() as stack:
        relay, caller, called = [await stack.enter_async_context(bare(settings)) for _ in range(3)]
        parts = Between(relay, caller, called, limits or RelayLimits())
        parts.server.serve()
        parts.circuits.serve()
        await caller.dial(relay)
        await called.dial(relay)
        nursery = await stack.enter_async_context(trio.open_nursery())
        taken = parts.changed
        nursery.start_soon(parts.places.run)
        await taken.wait()
        try:
            yield parts
        finally:
            nursery.cancel_scope.cancel()


async def closed(conn: Any) -> None:
    await conn.muxed_conn.event_closed.wait()


async def request(peer: Bare, relay: Bare, message: pb.HopMessage) -> pb.HopMessage:
    """What the relay answers."""
    stream = await peer.host.new_stream(relay.host.get_id(), [HOP])
    await write_message(stream, message)
    return await read_message(stream, pb.HopMessage)


def connect_to(peer: Bare) -> pb.HopMessage:
    return pb.HopMessage(type=pb.HopMessage.CONNECT, peer=pb.PeerId(id=peer.host.get_id().to_bytes()))


RESERVE = pb.HopMessage(type=pb.HopMessage.RESERVE)
