"""Small real routers on loopback: one that speaks UPnP (SSDP over multicast, SOAP over HTTP), one that speaks NAT-PMP.

They keep a table of mappings and forward nothing. What they say can be changed, to be any strange router.
"""

import ipaddress
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import h11
import pytest
import trio

from p2pcap.swarm.nat import upnp

LOOPBACK = "127.0.0.1"
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
DESCRIPTION = f"""<?xml version="1.0"?>
<!-- a description as routers have it -->
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>{DEVICE}</deviceType><friendlyName>router</friendlyName><UDN>uuid:1</UDN><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3f</controlURL>
<eventSubURL>/e</eventSubURL><SCPDURL>/l3f.xml</SCPDURL></service></serviceList><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList>
<device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/igd/ctl/ip</controlURL><eventSubURL>/e</eventSubURL><SCPDURL>/ip.xml</SCPDURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>"""


class UpnpRouter:
    """An Internet Gateway Device. `mappings` is {external port: (client, internal port, lease)}."""

    def __init__(self, port: int) -> None:
        self.external = "198.51.100.7"
        self.mappings: dict[int, tuple[str, int, int]] = {}
        self.asked: list[str] = []
        self.taken: set[int] = set()
        self.only_permanent = False
        self.location = f"http://{LOOPBACK}:{port}/igd/desc.xml"
        self.description = DESCRIPTION
        self.raw: Callable[[trio.SocketStream], object] | None = None
        self._news = trio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._news.wait()
            self._news = trio.Event()

    def search(self, data: bytes) -> bytes | None:
        """The answer to a search, if it is for us."""
        wanted = re.search(rb"(?im)^ST:\s*(\S+)", data)
        if not data.startswith(b"M-SEARCH") or wanted is None or wanted[1] not in (DEVICE.encode(), b"ssdp:all"):
            return None
        lines = ("HTTP/1.1 200 OK", "CACHE-CONTROL: max-age=120", f"ST: {DEVICE}", f"USN: uuid:1::{DEVICE}", "EXT:",
                 "SERVER: test UPnP/1.1", f"LOCATION: {self.location}")  # fmt: skip
        return "\r\n".join((*lines, "", "")).encode()

    async def serve(self, stream: trio.SocketStream) -> None:
        """One HTTP request."""
        async with stream:
            if self.raw is not None:
                self._tell("raw")
                await self.raw(stream)  # type: ignore[misc]
                return
            connection = h11.Connection(h11.SERVER)
            target, body = b"", b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(4_096))
                elif isinstance(event, h11.Request):
                    target = event.target
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return
            status, answer = self._answer(target.decode(), body.decode())
            head = f"HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(head.encode() + f"{len(answer):x}\r\n{answer}\r\n0\r\n\r\n".encode())

    def _answer(self, target: str, body: str) -> tuple[int, str]:
        if target == "/igd/desc.xml":
            return 200, self.description
        action = re.search(rf'<u:(\w+) xmlns:u="{re.escape(SERVICE)}"', body)
        if target != "/igd/ctl/ip" or action is None:
            return 404, ""
        fields = dict(re.findall(r"<New(\w+)>([^<]*)</New\w+>", body))
        result = self._act(action[1], fields)
        self._tell(action[1])
        if isinstance(result, int):
            return 500, _envelope(
                "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
                f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{result}</errorCode></UPnPError>'
                "</detail></s:Fault>"
            )
        inner = "".join(f"<New{name}>{value}</New{name}>" for name, value in result.items())
        return 200, _envelope(f'<u:{action[1]}Response xmlns:u="{SERVICE}">{inner}</u:{action[1]}Response>')

    def _act(self, action: str, fields: dict[str, str]) -> dict[str, str] | int:
        if action == "GetExternalIPAddress":
            return {"ExternalIPAddress": self.external}
        if action == "GetStatusInfo":
            return {"ConnectionStatus": "Connected", "LastConnectionError": "ERROR_NONE", "Uptime": "9"}
        if action == "AddPortMapping" and fields["Protocol"] == "TCP":
            port, lease = int(fields["ExternalPort"]), int(fields["LeaseDuration"])
            if port in self.taken:
                return 718
            if self.only_permanent and lease:
                return 725
            self.mappings[port] = (fields["InternalClient"], int(fields["InternalPort"]), lease)
            return {}
        if action == "DeletePortMapping":
            return {} if self.mappings.pop(int(fields["ExternalPort"]), None) else 714
        return 401

    def _tell(self, action: str) -> None:
        self.asked.append(action)
        self._news.set()


def _envelope(inner: str) -> str:
    return f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{inner}</s:Body></s:Envelope>'


@asynccontextmanager
async def upnp_router(port: int = 0) -> AsyncIterator[UpnpRouter]:
    """A UPnP router that answers searches on loopback.

    They go to a port of its own, unless 1900 is given: others may run these tests on this machine at the same time.
    """
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ssdp, pytest.MonkeyPatch.context() as patch:
        ssdp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await ssdp.bind(("239.255.255.250", port))
        patch.setattr(upnp, "SSDP", ssdp.getsockname())
        group = socket.inet_aton("239.255.255.250") + socket.inet_aton(LOOPBACK)
        ssdp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
            router = UpnpRouter(listeners[0].socket.getsockname()[1])
            nursery.start_soon(partial(trio.serve_listeners, partial(_contained, router.serve), listeners))
            nursery.start_soon(_answer_searches, ssdp, router)
            yield router
            nursery.cancel_scope.cancel()


async def _contained(serve: Callable[[trio.SocketStream], object], stream: trio.SocketStream) -> None:
    try:
        await serve(stream)  # type: ignore[misc]
    except trio.BrokenResourceError:
        return  # the node hung up on a strange answer


async def _answer_searches(ssdp: trio.socket.SocketType, router: UpnpRouter) -> None:
    while True:
        data, sender = await ssdp.recvfrom(2_048)
        if answer := router.search(data):
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                await sock.bind((LOOPBACK, 0))
                await sock.sendto(answer, sender)


class PmpRouter:
    """Speaks NAT-PMP. `mappings` is {internal port: (external port, lease)}; `answer` may be anything."""

    def __init__(self) -> None:
        self.external = "198.51.100.8"
        self.mappings: dict[int, tuple[int, int]] = {}
        self.asked = 0
        self.longest = 7_200
        self.answer: Callable[[bytes], bytes] = self.honest
        self._news = trio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._news.wait()
            self._news = trio.Event()

    def honest(self, data: bytes) -> bytes:
        if data == b"\0\0":
            return struct.pack("!BBHI", 0, 128, 0, 9) + ipaddress.IPv4Address(self.external).packed
        _, code, _, inside, outside, lease = struct.unpack("!BBHHHI", data)
        if lease:
            self.mappings[inside] = outside, lease = outside or 5_000, min(lease, self.longest)
        else:
            self.mappings.pop(inside, None)
        return struct.pack("!BBHIHHI", 0, 128 + code, 0, 9, inside, outside, lease)

    async def run(self, sock: trio.socket.SocketType) -> None:
        while True:
            data, sender = await sock.recvfrom(64)
            answer = self.answer(data)
            self.asked += 1
            self._news.set()
            if answer:
                await sock.sendto(answer, sender)


@asynccontextmanager
async def pmp_router(ip: str) -> AsyncIterator[PmpRouter]:
    """A NAT-PMP router at this loopback address."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind((ip, 5_351))
        async with trio.open_nursery() as nursery:
            router = PmpRouter()
            nursery.start_soon(router.run, sock)
            yield router
            nursery.cancel_scope.cancel()
