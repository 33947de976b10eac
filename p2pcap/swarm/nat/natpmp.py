"""NAT-PMP, the small protocol for port mapping (RFC 6886): a few bytes of UDP to the router.

Always holds: an answer counts only when it comes from the router asked and belongs to the question; a router that does
not speak it costs PATIENCE in all.
"""

import ipaddress
import socket
import struct
from pathlib import Path
from typing import Literal

import trio

from p2pcap.errors import Unreachable

PORT = 5351
WAITS = (0.25, 0.5, 1.0)
"""Seconds for an answer to each repetition (RFC 6886, 3.1, cut short: UPnP is asked next)."""
PATIENCE = sum(WAITS)

_ADDRESS, _TCP, _ANSWER = 0, 2, 128
_REASONS = {1: "it speaks another version", 2: "it refuses", 3: "it has no connection", 4: "it has no room"}
_ROUTES = Path("/proc/net/route")


class NatPmp:
    """One router, by default the one of the default route."""

    by: Literal["NAT-PMP", "UPnP"] = "NAT-PMP"

    def __init__(self, gateway: str | None = None, port: int = PORT) -> None:
        self._gateway = gateway
        self._port = port

    async def answers(self) -> bool:
        """Whether the router speaks NAT-PMP and has an address of its own."""
        try:
            await self.external()
        except Unreachable:
            return False
        return True

    async def forward(self, port: int, external: int, lease: float) -> tuple[str, int, float]:
        """As `Router.forward`: the router may choose another external port."""
        inside, outside, granted = await self._map(port, external, int(lease))
        if inside != port or not outside or not granted:
            raise Unreachable("The router's answer to NAT-PMP is none. Forward the port by hand.")
        return await self.external(), outside, float(granted)

    async def remove(self, port: int, external: int) -> None:
        """As `Router.remove`."""
        await self._map(port, 0, 0)

    async def _map(self, port: int, external: int, lease: int) -> tuple[int, int, int]:
        body = await self._ask(_TCP, struct.pack("!HHHI", 0, port, external, lease), 16)
        return struct.unpack("!HHI", body)

    async def external(self) -> str:
        """The router's own address towards the outside. Raises Unreachable."""
        return str(ipaddress.IPv4Address(await self._ask(_ADDRESS, b"", 12)))

    async def _ask(self, code: int, body: bytes, size: int) -> bytes:
        """The answer's body after its time, of `size` bytes with the header. Raises Unreachable."""
        gateway = self._gateway or default_gateway()
        if gateway is None:
            raise Unreachable("There is no default route, so no router to ask. Check the network.")
        try:
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                await sock.connect((gateway, self._port))
                for wait in WAITS:
                    await sock.send(bytes([0, code]) + body)
                    with trio.move_on_after(wait):
                        return await _answer(sock, code, size)
        except OSError as error:
            raise Unreachable(f"The router does not answer NAT-PMP: {error.strerror}. Turn it on there.") from error
        raise Unreachable("The router does not answer NAT-PMP. Turn it on there.")


async def _answer(sock: trio.socket.SocketType, code: int, size: int) -> bytes:
    while True:
        answer = await sock.recv(64)
        if len(answer) < 4 or answer[:2] != bytes([0, _ANSWER + code]):
            continue
        result = int.from_bytes(answer[2:4], "big")
        if result:
            raise Unreachable(f"The router forwards no port: {_REASONS.get(result, result)}. Forward it by hand.")
        if len(answer) == size:
            return answer[8:]


def default_gateway() -> str | None:
    """The IPv4 router of the default route, where the kernel tells it (Linux: proc(5), /proc/net/route)."""
    try:
        lines = _ROUTES.read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & 2:
            return socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
    return None
