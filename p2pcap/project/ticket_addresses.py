"""Addresses as few bytes, for tickets: the kinds that a node dials in binary, any other as text.

One byte says the kind, whether a relay leads there, and which of the keys it is: keys are written once, where they are
first named, because a peer mostly has several addresses. Then the relay's key, the host, and the TCP port.

    kind 4 bits (relay: the highest of them) ‖ key 4 bits, [32 bytes of a key that is new]
    [relay's key 1 byte, [32 bytes]]  host (4 or 16 bytes, or length and name)  port 2 bytes
    text: kind 0, length 2 bytes, UTF-8

Always holds: `read(write(addresses)) == addresses`, for any texts.
"""

import ipaddress
import re
from collections.abc import Sequence

from p2pcap.errors import TicketError
from p2pcap.identity import peer_id_of, public_of

MAX_ADDRESSES, MAX_ADDRESS = 8, 256
"""Addresses of a ticket, and characters of one."""

_TEXT = 0
_FAMILIES = ("text", "ip4", "ip6", "dns", "dns4", "dns6")
_RELAYED = 8
_SHAPE = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]{1,255})/tcp/([0-9]{1,5})(?:/p2p/([^/]+)/p2p-circuit)?/p2p/([^/]+)")


def write(addresses: Sequence[str]) -> bytes:
    """The addresses, one after the other."""
    keys: list[bytes] = []
    return b"".join(_compact(address, keys) or _as_text(address) for address in addresses)


def _compact(address: str, keys: list[bytes]) -> bytes:
    """The address in binary; nothing when that would not give the same text again."""
    match = _SHAPE.fullmatch(address)
    if match is None:
        return b""
    family, host, port, relay, peer = match.groups()
    named = list(keys)
    try:
        kind = _FAMILIES.index(family) | (_RELAYED if relay else 0)
        number, key = _named(peer, named)
        written = bytes((kind << 4 | number,)) + key
        if relay:
            number, key = _named(relay, named)
            written += bytes((number,)) + key
        written += _host_bytes(family, host) + int(port).to_bytes(2, "big")
        same = _Reading(written, list(keys)).address() == address
    except (ValueError, OverflowError, TicketError):
        return b""
    if same:
        keys[:] = named
    return written if same else b""


def _named(peer: str, keys: list[bytes]) -> tuple[int, bytes]:
    """The key's number among `keys`, and its bytes when it is new there."""
    public = public_of(peer)
    if public in keys:
        return keys.index(public), b""
    keys.append(public)
    return len(keys) - 1, public


def _host_bytes(family: str, host: str) -> bytes:
    if family == "ip4":
        return ipaddress.IPv4Address(host).packed
    if family == "ip6":
        return ipaddress.IPv6Address(host).packed
    return bytes((len(host),)) + host.encode("ascii")


def _as_text(address: str) -> bytes:
    data = address.encode()
    return bytes((_TEXT,)) + len(data).to_bytes(2, "big") + data


def read(data: bytes) -> tuple[str, ...]:
    """The addresses in `data`. Raises TicketError for what are none, or too many."""
    reading = _Reading(data, [])
    addresses = []
    while reading.left:
        addresses.append(reading.address())
        if len(addresses) > MAX_ADDRESSES or not 0 < len(addresses[-1]) <= MAX_ADDRESS:
            raise TicketError("The ticket names more or longer addresses than one may. Ask for another ticket.")
    return tuple(addresses)


class _Reading:
    """What is left to read, and the keys that were named so far."""

    def __init__(self, data: bytes, keys: list[bytes]) -> None:
        self._data = data
        self._at = 0
        self._keys = keys

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def address(self) -> str:
        """The next one. Raises TicketError."""
        first = self._take(1)[0]
        family, relayed = first >> 4 & 7, bool(first >> 4 & _RELAYED)
        if first == _TEXT:
            return self._text(int.from_bytes(self._take(2), "big"))
        if not 0 < family < len(_FAMILIES):
            raise _unknown()
        peer = self._peer(first & 15)
        relay = f"/p2p/{self._peer(self._take(1)[0])}/p2p-circuit" if relayed else ""
        host = self._host(_FAMILIES[family])
        return f"/{_FAMILIES[family]}/{host}/tcp/{int.from_bytes(self._take(2), 'big')}{relay}/p2p/{peer}"

    def _peer(self, number: int) -> str:
        if number == len(self._keys):
            self._keys.append(self._take(32))
        if number >= len(self._keys):
            raise _unknown()
        return peer_id_of(self._keys[number])

    def _host(self, family: str) -> str:
        if family == "ip4":
            return str(ipaddress.IPv4Address(self._take(4)))
        if family == "ip6":
            return str(ipaddress.IPv6Address(self._take(16)))
        return self._text(self._take(1)[0])

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise _unknown() from error

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise _unknown()
        self._at += count
        return taken


def _unknown() -> TicketError:
    return TicketError("The ticket is of a kind this version does not know. Update p2pcap.")
