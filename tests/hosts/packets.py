"""IPv4 packets as bytes: who sends to whom, and another sender or receiver put in.

Pure. Checksums are mended as RFC 1624 says, so a packet that was damaged stays damaged for its receiver to see.
"""

import socket
import struct
from dataclasses import dataclass

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_CHECKSUM_AT = {TCP: 16, UDP: 6}
_FRAGMENT = 0x3FFF
"""More fragments to come, or an offset: such a packet may have no ports."""


@dataclass(frozen=True)
class Endpoint:
    """An address and a port."""

    ip: str
    port: int


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet; `source` and `target` have port 0 where it carries none (ICMP, fragments)."""

    data: bytes
    protocol: int
    source: Endpoint
    target: Endpoint

    @property
    def ported(self) -> bool:
        """Whether it is a whole TCP segment or UDP datagram."""
        return self.source.port != 0


def parse(data: bytes) -> Packet | None:
    """The packet in `data`; None when it is no IPv4 (a namespace sends some IPv6 of its own accord)."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    protocol, head = data[9], _head(data)
    source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    whole = not struct.unpack_from("!H", data, 6)[0] & _FRAGMENT
    ports = struct.unpack_from("!HH", data, head) if whole and protocol in _CHECKSUM_AT else (0, 0)
    return Packet(data, protocol, Endpoint(source, ports[0]), Endpoint(target, ports[1]))


def readdressed(packet: Packet, source: Endpoint, target: Endpoint) -> Packet:
    """The packet with these ends."""
    head = _head(packet.data)
    data = bytearray(packet.data)
    data[12:20] = socket.inet_aton(source.ip) + socket.inet_aton(target.ip)
    struct.pack_into("!HH", data, head, source.port, target.port)
    _mend(data, 10, packet.data[12:20], bytes(data[12:20]))
    at = head + _CHECKSUM_AT[packet.protocol]
    if packet.protocol != UDP or data[at : at + 2] != b"\0\0":  # a datagram may go without a checksum
        old, new = packet.data[12:20] + packet.data[head : head + 4], bytes(data[12:20] + data[head : head + 4])
        _mend(data, at, old, new)
        if packet.protocol == UDP and data[at : at + 2] == b"\0\0":
            data[at : at + 2] = b"\xff\xff"
    return Packet(bytes(data), packet.protocol, source, target)


def _head(data: bytes) -> int:
    return (data[0] & 0x0F) * 4


def _mend(data: bytearray, at: int, old: bytes, new: bytes) -> None:
    """The checksum at `at`, after `old` among what it covers became `new`."""
    (checksum,) = struct.unpack_from("!H", data, at)
    total = ~checksum & 0xFFFF
    total += sum(~word & 0xFFFF for word in _words(old)) + sum(_words(new))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", data, at, ~total & 0xFFFF)


def _words(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"!{len(data) // 2}H", data)
