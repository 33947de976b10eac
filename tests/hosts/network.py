"""A small internet in userspace: hosts in network namespaces, and between them delay, loss, routers and partitions.

Whatever a host sends is read from its TUN device, carried by this module and written to the device of whoever has the
address. It works on every kernel that has namespaces and TUN, with no netem and no packet filter.

The hosts' addresses are of ranges that a program takes for public ones, which documentation ranges are not; nothing
leaves the namespaces. Homes all use the same private addresses, as they do.

Always holds: packets between two hosts stay in order; at most QUEUE of them are on their way, and more are lost.
"""

import os
import random
import socket
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from tests.hosts.namespaces import in_namespace, namespace, skip_unless_allowed, socket_in, sweep
from tests.hosts.nat import Nat
from tests.hosts.packets import Packet, parse

QUEUE = 20_000
AT_ONCE = 64
"""Packets taken from one device before the others have their turn."""
PACKET = 65_536


@dataclass(eq=False)
class Host:
    """A host: its address as itself sees it, and the router it is behind, if any."""

    name: str
    address: str
    home: Nat | None
    namespace: str
    device: int
    exits: ExitStack

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs on this host."""
        return in_namespace(self.namespace)

    def socket(self, kind: socket.SocketKind, port: int = 0) -> trio.socket.SocketType:
        """A socket on this host, bound to `port` (0: any) and free to share it; closed with the network."""
        made = self.exits.enter_context(socket_in(self.namespace, kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("0.0.0.0", port))
        return self.exits.enter_context(trio.socket.from_stdlib_socket(made))


class Network:
    """Hosts, and what is between any two of them: `delay` in seconds one way, `loss` from 0 to 1."""

    def __init__(self, delay: float, loss: float, seed: int) -> None:
        self.delay = delay
        self.loss = loss
        self.lost = 0
        self.carried = 0
        self._random = random.Random(seed)
        self._hosts: list[Host] = []
        self._homes: dict[str, Nat] = {}
        self._sides: dict[str, int] = {}
        self._drops: defaultdict[tuple[str, str], trio.Event] = defaultdict(trio.Event)
        self._under_way: deque[tuple[float, Host, bytes]] = deque()
        self._sent = trio.Event()
        self._nursery: trio.Nursery
        self._exits = ExitStack()

    def home(self, symmetric: bool = False) -> Nat:
        """A home router with a public address of its own; hosts are put behind it with `host`."""
        public = f"45.0.1.{len(self._homes) + 1}"
        self._homes[public] = Nat(public, symmetric)
        return self._homes[public]

    def host(self, name: str, home: Nat | None = None) -> Host:
        """A new host, on the open internet or behind the router `home`."""
        beside = sum(host.home is home for host in self._hosts)
        address = f"45.0.0.{beside + 1}" if home is None else f"192.168.1.{beside + 2}"
        made, device = self._exits.enter_context(namespace(name, address))
        host = Host(name, address, home, made, device, self._exits)
        self._hosts.append(host)
        self._nursery.start_soon(self._carry_from, host)
        return host

    def partition(self, *sides: Collection[str]) -> None:
        """From now on hosts (by name) hear only those of their own side; who is named on none is
        on one more."""
        self._sides = {name: number for number, side in enumerate(sides, 1) for name in side}

    def heal(self) -> None:
        """From now on everybody hears everybody."""
        self._sides = {}

    def route(self, packet: Packet, origin: Host, now: float) -> tuple[Host, Packet] | None:
        """Who gets what `origin` sends, and how it looks there; None when nobody does."""
        neighbour = self._at(packet.target.ip, origin.home)
        if neighbour is not None:
            return neighbour, packet
        if origin.home is not None:
            translated = origin.home.outbound(packet, now)
            if translated is None:
                return None
            packet = translated
        home = self._homes.get(packet.target.ip)
        if home is not None:
            return self._through(home, packet, now)
        target = self._at(packet.target.ip, None)
        return None if target is None else (target, packet)

    async def turned_away(self, source: str, router: Nat) -> None:
        """Wait until a router has dropped something from that public address that nobody inside had asked for."""
        await self._drops[source, router.public].wait()

    def _through(self, home: Nat, packet: Packet, now: float) -> tuple[Host, Packet] | None:
        arrived = home.inbound(packet, now)
        if arrived is None:
            self._drops[packet.source.ip, home.public].set()
            return None
        inner = self._at(arrived.target.ip, home)
        return None if inner is None else (inner, arrived)

    def _at(self, address: str, home: Nat | None) -> Host | None:
        return next((host for host in self._hosts if host.address == address and host.home is home), None)

    async def _carry_from(self, host: Host) -> None:
        while True:
            await trio.lowlevel.wait_readable(host.device)
            for _ in range(AT_ONCE):
                try:
                    packet = parse(os.read(host.device, PACKET))
                except BlockingIOError:
                    break
                if packet is not None:
                    self._send(packet, host)

    def _send(self, packet: Packet, origin: Host) -> None:
        now = trio.current_time()
        routed = self.route(packet, origin, now)
        if routed is None or self._sides.get(origin.name, 0) != self._sides.get(routed[0].name, 0):
            return
        if self._random.random() < self.loss or len(self._under_way) >= QUEUE:
            self.lost += 1
            return
        self.carried += 1
        self._under_way.append((now + self.delay, routed[0], routed[1].data))
        self._sent.set()

    async def _deliver(self) -> None:
        while True:
            while self._under_way:
                due, host, data = self._under_way[0]
                if due > trio.current_time():
                    await trio.sleep_until(due)
                self._under_way.popleft()
                _write(host.device, data)
            self._sent = trio.Event()
            await self._sent.wait()


def _write(device: int, data: bytes) -> None:
    try:
        os.write(device, data)
    except BlockingIOError:
        return  # the host takes no more now: it is lost, as with any network card


@asynccontextmanager
async def network(delay: float = 0.0, loss: float = 0.0, seed: int = 0) -> AsyncIterator[Network]:
    """A network without hosts yet; skips the test where the kernel forbids it. In the end nothing of it is left."""
    skip_unless_allowed()
    sweep()
    made = Network(delay, loss, seed)
    with made._exits:
        async with trio.open_nursery() as made._nursery:
            made._nursery.start_soon(made._deliver)
            try:
                yield made
            finally:
                made._nursery.cancel_scope.cancel()
