"""UPnP port mapping: find the router by SSDP, read what it offers, tell it by SOAP (UPnP IGD 1 and 2).

Ours rather than miniupnpc's: that one reads an answer of any length into memory (360 MB taken from a fake router on the
LAN, measured with 2.3.3), waits as long as bytes trickle in, and cannot be interrupted.

Always holds: an answer has at most MAX_ANSWER bytes and takes ANSWER_SECONDS at most; only the address that answered
the search is ever connected to; XML with entities of its own is refused.
"""

import ipaddress
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import h11
import structlog
import trio

from p2pcap.errors import Unreachable

SSDP = ("239.255.255.250", 1900)
SEARCH_SECONDS = 2.5
MAX_ROUTERS = 8
MAX_ANSWER = 64 * 1024
ANSWER_SECONDS = 4.0
OTHER_PORTS = 4
"""External ports tried after one that the router has given to somebody else."""

_DEVICES = tuple(f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2))
_SERVICE = re.compile(r"urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[1-9]")
_CONFLICT, _ONLY_PERMANENT = 718, 725
_NOBODY = "No router answers UPnP. Turn it on there, or forward the port by hand."

log = structlog.get_logger(__name__)


class Refused(Unreachable):
    """The router answered with a UPnP error `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The router forwards no port (UPnP error {code}). Allow it there, or forward it by hand.")
        self.code = code


@dataclass(frozen=True)
class Gateway:
    """A router's service for mappings: its kind, and where to talk to it."""

    service: str
    url: str
    by: Literal["NAT-PMP", "UPnP"] = "UPnP"

    async def forward(self, port: int, external: int, lease: float) -> tuple[str, int, float]:
        """As `Router.forward`; the lease is 0 when the router knows only mappings that last."""
        for candidate in (external, *(_other(port, n) for n in range(OTHER_PORTS))):
            try:
                granted = await self._map(port, candidate, int(lease))
            except Refused as error:
                if error.code != _CONFLICT:
                    raise
            else:
                return await self.external(), candidate, float(granted)
        raise Refused(_CONFLICT)

    async def remove(self, port: int, external: int) -> None:
        """As `Router.remove`."""
        await self._call("DeletePortMapping", RemoteHost="", ExternalPort=external, Protocol="TCP")

    async def _map(self, port: int, external: int, lease: int) -> int:
        try:
            await self._call(
                "AddPortMapping", RemoteHost="", ExternalPort=external, Protocol="TCP", InternalPort=port,
                InternalClient=await self._own_ip(), Enabled=1, PortMappingDescription="p2pcap", LeaseDuration=lease,
            )  # fmt: skip
        except Refused as error:
            if error.code != _ONLY_PERMANENT or not lease:
                raise
            return await self._map(port, external, 0)
        return lease

    async def external(self) -> str:
        """The router's own address towards the outside. Raises Unreachable."""
        answer = await self._call("GetExternalIPAddress")
        text = next((_text(element) for element in answer.iter() if _tag(element) == "NewExternalIPAddress"), "")
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError as error:
            raise Unreachable("The router has no external address. Check that it is connected.") from error

    async def _own_ip(self) -> str:
        """Our address as the router sees it."""
        host, port = _authority(self.url)
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                await probe.connect((host, port))
            except OSError as error:
                raise Unreachable(f"The router {host} cannot be reached: {error.strerror}. Try again.") from error
            return str(probe.getsockname()[0])

    async def _call(self, action: str, **arguments: str | int) -> ElementTree.Element:
        inner = "".join(f"<New{name}>{escape(str(value))}</New{name}>" for name, value in arguments.items())
        body = (
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
            's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
            f'<u:{action} xmlns:u="{self.service}">{inner}</u:{action}></s:Body></s:Envelope>'
        ).encode()
        headers = {"SOAPAction": f'"{self.service}#{action}"', "Content-Type": 'text/xml; charset="utf-8"'}
        status, answer = await _http(self.url, body, headers)
        if status != 200:
            codes = [_text(e) for e in _xml(answer).iter() if _tag(e) == "errorCode"] if status == 500 else []
            raise Refused(int(codes[0]) if codes and re.fullmatch(r"\d{1,5}", codes[0]) else status)
        return _xml(answer)


def _other(port: int, n: int) -> int:
    """Another port than `port`, the same ones each time."""
    return 49_152 + (port * 31 + n * 4_099) % 16_384


async def find_gateway(interface: str | None = None) -> Gateway:
    """The first router that offers mappings. Raises Unreachable."""
    reasons = []
    async with aclosing(_search(interface)) as found:
        async for location in found:
            try:
                return describe((await _http(location))[1], location)
            except Unreachable as error:
                log.debug("router_unusable", location=location, reason=str(error))
                reasons.append(str(error))
    raise Unreachable(reasons[0] if reasons else _NOBODY)


async def _search(interface: str | None) -> AsyncGenerator[str, None]:
    """Where the routers that answer the search describe themselves. Raises Unreachable."""
    seen: set[str] = set()
    limit = trio.current_time() + SEARCH_SECONDS
    try:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if interface is not None:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
                await sock.bind((interface, 0))
            for device in _DEVICES:
                await sock.sendto(_question(device), SSDP)
            while len(seen) < MAX_ROUTERS and (answer := await _receive(sock, limit)) is not None:
                location = read_answer(*answer)
                if location is not None and location not in seen:
                    seen.add(location)
                    yield location
    except OSError as error:
        raise Unreachable(f"{_NOBODY} ({error.strerror})") from error


def _question(device: str) -> bytes:
    lines = ("M-SEARCH * HTTP/1.1", f"HOST: {SSDP[0]}:{SSDP[1]}", 'MAN: "ssdp:discover"', "MX: 2", f"ST: {device}")
    return "\r\n".join((*lines, "", "")).encode()


async def _receive(sock: trio.socket.SocketType, limit: float) -> tuple[bytes, str] | None:
    with trio.move_on_at(limit):
        data, sender = await sock.recvfrom(2_048)
        return data, str(sender[0])
    return None


def read_answer(data: bytes, sender: str) -> str | None:
    """The URL in an answer to the search, if it is one of whoever sent it."""
    head = data.decode("latin-1")
    location = re.search(r"(?im)^location:[ \t]*(http://[!-~]{1,512})[ \t]*\r?$", head)
    if not head.startswith("HTTP/1.1 200") or location is None:
        return None
    return location[1] if _authority(location[1])[0] == sender else None


def _authority(url: str) -> tuple[str, int]:
    """Host and port of a URL; ("", 0) when it has none that can be used."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "", parts.port or 80) if parts.scheme == "http" else ("", 0)
    except ValueError:
        return "", 0


def describe(data: bytes, location: str) -> Gateway:
    """The service for mappings that a device's description names. Raises Unreachable."""
    root = _xml(data)
    base = next((_text(element) for element in root if _tag(element) == "URLBase"), "") or location
    for element in root.iter():
        fields = {_tag(child): _text(child) for child in element} if _tag(element) == "service" else {}
        if _SERVICE.fullmatch(fields.get("serviceType", "")):
            url = _join(base, fields.get("controlURL", ""))
            if _authority(url)[0] == _authority(location)[0]:
                return Gateway(fields["serviceType"], url)
    raise Unreachable("The router offers no port mapping by UPnP. Turn it on there, or forward the port by hand.")


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return ""


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def _xml(data: bytes) -> ElementTree.Element:
    try:
        if b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
            raise ValueError("it declares a document type")
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Unreachable(f"The router's answer is no XML: {error}. Forward the port by hand.") from error


async def _http(url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """GET, or POST a body; returns the status and the answer's body. Raises Unreachable."""
    host, port = _authority(url)
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    all_headers = {"Host": f"{host}:{port}", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_tcp_stream(host, port) as stream:
                request = h11.Request(
                    method="POST" if body else "GET", target=target, headers=list(all_headers.items())
                )
                return await _exchange(stream, request, body)
    except (OSError, ValueError, h11.ProtocolError, trio.BrokenResourceError, trio.TooSlowError) as error:
        reason = "it took too long" if isinstance(error, trio.TooSlowError) else str(error)
        raise Unreachable(f"The router at {host} does not answer UPnP: {reason}. Forward the port by hand.") from error


async def _exchange(stream: trio.SocketStream, request: h11.Request, body: bytes) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    parts = (connection.send(request), connection.send(h11.Data(data=body)), connection.send(h11.EndOfMessage()))
    await stream.send_all(b"".join(part for part in parts if part))
    status, data = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(4_096))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            data += event.data
            if len(data) > MAX_ANSWER:
                raise ValueError(f"its answer has more than {MAX_ANSWER} bytes")
        elif not isinstance(event, h11.InformationalResponse):
            return status, bytes(data)
