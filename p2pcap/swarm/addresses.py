"""Multiaddrs as text: reading them, and saying where this node can be reached.

Always holds: an `Endpoint` names an IPv4, IPv6 or DNS host, a TCP port and a peer id, and nothing else but, for a peer
behind a relay, the relay's id between them.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2pcap.errors import SwarmError
from p2pcap.identity import public_of

MAX_LENGTH = 256
CIRCUIT = "/p2p-circuit"
_HOST = r"/(?:ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/\d{1,5}"
_SHAPE = re.compile(rf"({_HOST}(?:/p2p/([0-9A-Za-z]+){CIRCUIT})?)(?:/p2p/([0-9A-Za-z]+))?")
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Endpoint:
    """Where a peer is found: `transport` is its multiaddr without the peer id.

    For a peer behind a relay that is the relay's whole address and /p2p-circuit.
    """

    transport: str
    peer: str

    def __str__(self) -> str:
        return f"{self.transport}/p2p/{self.peer}"

    @property
    def relay(self) -> "Endpoint | None":
        """The relay that leads to the peer; None when it can be dialled directly."""
        if not self.transport.endswith(CIRCUIT):
            return None
        transport, peer = self.transport.removesuffix(CIRCUIT).split("/p2p/")
        return Endpoint(transport, peer)


def parse_endpoint(text: str) -> Endpoint:
    """An address to dial, such as /ip4/192.0.2.7/tcp/4001/p2p/12D3…. Raises SwarmError."""
    transport, peer = _parse(text)
    if peer is None:
        raise SwarmError(f"The address {text!r} names no peer. It must end in /p2p/ and the peer's id.")
    return Endpoint(transport, peer)


def parse_endpoints(texts: Iterable[str], peer: str | None = None) -> list[Endpoint]:
    """Those of a stranger's addresses that can be dialled, and that are `peer`'s if one is named."""
    endpoints = []
    for text in texts:
        try:
            endpoint = parse_endpoint(text)
        except SwarmError:
            continue
        if peer in (None, endpoint.peer):
            endpoints.append(endpoint)
    return endpoints


def parse_listen(text: str) -> Multiaddr:
    """An address to listen on, such as /ip4/0.0.0.0/tcp/4001. Raises SwarmError."""
    transport, _ = _parse(text)
    if transport.startswith("/dns") or transport.endswith(CIRCUIT):
        raise SwarmError(
            f"Nobody can listen on a name or a relay, as in {text!r}. Use /ip4/ or /ip6/ and an own address."
        )
    return Multiaddr(transport)


def _parse(text: str) -> tuple[str, str | None]:
    match = _SHAPE.fullmatch(text) if len(text) <= MAX_LENGTH else None
    try:
        if match is None:
            raise ValueError
        Multiaddr(match[1])
        for peer in (match[2], match[3]):
            if peer is not None:
                public_of(peer)
    except (ValueError, MultiaddrError) as error:
        raise _unusable(text) from error
    return match[1], match[3]


def _unusable(text: str) -> SwarmError:
    form = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…"
    return SwarmError(f"{text[:MAX_LENGTH]!r} is not an address of a peer. Write it like {form}")


def worth_telling(addresses: Iterable[str], count: int) -> list[str]:
    """The `count` addresses of one peer, or fewer, that help others most: public hosts and names first, then relays,
    then private ones; loopback only when there is no other, and a relay there counts as loopback: nobody comes through
    it who could not come directly."""
    ranked = sorted(dict.fromkeys(addresses), key=lambda address: (_seclusion(address), CIRCUIT in address))
    open_ = [address for address in ranked if _seclusion(address) < _LOOPBACK]
    return (open_ or ranked)[:count]


def is_public(address: str) -> bool:
    """Whether the host, or the relay's, is one that anybody may reach: a name, or an IP address of the Internet."""
    return _host_seclusion(address) == _PUBLIC


_PUBLIC, _DETOUR, _PRIVATE, _LOOPBACK = range(4)


def _seclusion(address: str) -> int:
    host = _host_seclusion(address)
    return _DETOUR if CIRCUIT in address and host != _LOOPBACK else host


def _host_seclusion(address: str) -> int:
    """How far the host of the address, which is the relay's if there is one, can be reached from."""
    _, family, host, *_ = address.split("/", 3)
    if family.startswith("dns"):
        return _PUBLIC
    ip = ipaddress.ip_address(host)
    if ip.is_loopback:
        return _LOOPBACK
    return _PUBLIC if ip.is_global else _PRIVATE


def reachable(listening: Multiaddr) -> list[str]:
    """What to tell others for a socket that listens: the machine's own addresses when it listens on all of them."""
    text = str(listening)
    _, family, host, rest = text.split("/", 3)
    if host not in ANYWHERE:
        return [text]
    return [f"/{family}/{own}/{rest}" for own in _own_addresses(socket.AF_INET if family == "ip4" else socket.AF_INET6)]


def _own_addresses(family: socket.AddressFamily) -> list[str]:
    outside, loopback = ("192.0.2.1", "127.0.0.1") if family == socket.AF_INET else ("2001:db8::1", "::1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))  # asks the routing table; a datagram socket sends nothing by connecting
            own = str(probe.getsockname()[0])
        except OSError:
            return [loopback]
    return [own, loopback] if own != loopback else [own]
