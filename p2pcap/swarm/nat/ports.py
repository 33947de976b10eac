"""The one local TCP port of each address family that every connection we open leaves from.

A router that maps a local port to the same outside port for every destination (RFC 4787, endpoint-independent mapping)
lets a hole be punched only from a port whose mapping somebody has seen: since all dials leave from one port, what any
peer observes of us is the mapping that `p2pcap.swarm.nat.punch` needs. It is not the listening port, which stays
exclusive: no mapping of it comes about by dialling, so whoever reaches it was let in on purpose.

Always holds: the port belongs to this process from the first dial until `close`; a dial that cannot share it (the
second one to the same destination) leaves from any other.
"""

import errno
import ipaddress
import random
import socket

import trio

ANYWHERE = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
TAKEN = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)
RETRY_SECONDS = 0.2, 0.4
"""Between two SYNs of our own to a port that refuses, at random: its side may be about to dial, and a router may refuse
for it. No faster, as the address is a stranger's word."""


class SourcePorts:
    """The shared ports of one host, taken when first needed."""

    def __init__(self) -> None:
        self._held: dict[socket.AddressFamily, socket.socket] = {}
        self._closed = False

    def close(self) -> None:
        """Give the ports back; later dials leave from any port."""
        self._closed = True
        for held in self._held.values():
            held.close()
        self._held.clear()

    def owns(self, port: int) -> bool:
        """Whether connections from local `port` are ours to dial from."""
        return any(held.getsockname()[1] == port for held in self._held.values())

    async def connect(self, ip: str, port: int) -> trio.SocketStream:
        """Connect from the shared port, or from any when that cannot be. Raises OSError."""
        try:
            bound = await self._bound(_family(ip))
        except OSError:
            return await trio.open_tcp_stream(ip, port)
        try:
            return await _connect(bound, ip, port)
        except OSError as error:
            if error.errno in TAKEN:
                return await trio.open_tcp_stream(ip, port)
            raise

    async def punch(self, ip: str, port: int) -> trio.SocketStream:
        """Connect from the shared port and no other, again and again until the other side does so too; for ever."""
        while True:
            try:
                return await _connect(await self._bound(_family(ip)), ip, port)
            except OSError:
                await trio.sleep(random.uniform(*RETRY_SECONDS))

    async def _bound(self, family: socket.AddressFamily) -> trio.socket.SocketType:
        """A new socket on the shared port. Raises OSError."""
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            _share(sock)
            await sock.bind((ANYWHERE[family], self._port(family)))
        except BaseException:
            sock.close()
            raise
        return sock

    def _port(self, family: socket.AddressFamily) -> int:
        if self._closed:
            raise OSError("the host is closed")
        if family not in self._held:
            held = socket.socket(family, socket.SOCK_STREAM)
            try:
                _share(held)
                held.bind((ANYWHERE[family], 0))
            except OSError:
                held.close()
                raise
            self._held[family] = held
        return int(self._held[family].getsockname()[1])


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET if ipaddress.ip_address(ip).version == 4 else socket.AF_INET6


def _share(sock: "socket.socket | trio.socket.SocketType") -> None:
    """Let several sockets of this user be bound to one port. Raises OSError where the system has no such thing."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise OSError("this system cannot share a port")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


async def _connect(sock: trio.socket.SocketType, ip: str, port: int) -> trio.SocketStream:
    try:
        await sock.connect((ip, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)
