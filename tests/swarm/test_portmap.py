"""Asking routers to forward a port: real UPnP and NAT-PMP on loopback, and routers of every strange kind."""

import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import miniupnpc  # type: ignore[import-not-found]  # comes with libp2p, without types
import pytest
import trio

from p2pcap.errors import Unreachable
from p2pcap.swarm.nat import natpmp, portmap, upnp
from p2pcap.swarm.nat.natpmp import default_gateway
from p2pcap.swarm.nat.portmap import Mapping, PortMap, is_inside
from p2pcap.swarm.nat.upnp import MAX_ANSWER, describe, find_gateway, read_answer
from tests.swarm.routers import DESCRIPTION, LOOPBACK, SERVICE, UpnpRouter, pmp_router, upnp_router
from tests.swarm.twin import within

PORT = 4_321
NOBODY = "127.0.0.9"
"""Where no router listens: refused at once."""


class Kept:
    """A port map that runs, and every mapping it had."""

    def __init__(self, gateway: str) -> None:
        self.map = PortMap(PORT, self._changed, interface=LOOPBACK, gateway=gateway)
        self.had: list[Mapping | None] = []
        self._news = trio.Event()

    def _changed(self) -> None:
        self.had.append(self.map.mapping)
        self._news.set()

    async def changed(self) -> None:
        await self._news.wait()
        self._news = trio.Event()

    async def says(self, words: str) -> None:
        while words not in self.map.state:
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def kept(gateway: str = NOBODY) -> AsyncIterator[Kept]:
    kept = Kept(gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.map.run)
        yield kept
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "SSDP", ("239.255.255.250", 9))
    monkeypatch.setattr(upnp, "SEARCH_SECONDS", 0.5)
    monkeypatch.setattr(upnp, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(natpmp, "WAITS", (0.05, 0.1))


@within(20)
async def test_a_upnp_router_forwards_while_the_node_runs() -> None:
    async with upnp_router() as router:
        async with kept() as node:
            await node.changed()
            assert node.map.mapping == Mapping(f"/ip4/198.51.100.7/tcp/{PORT}", 3_600.0, "UPnP")
            assert node.map.state == f"the router forwards 198.51.100.7 port {PORT} (UPnP)"
            assert router.mappings == {PORT: (LOOPBACK, PORT, 3_600)}
        assert router.mappings == {}
        assert node.map.mapping is None


@within(20)
async def test_a_nat_pmp_router_is_asked_first() -> None:
    async with upnp_router() as other, pmp_router("127.0.0.2") as router:
        async with kept("127.0.0.2") as node:
            await node.changed()
            assert node.map.mapping == Mapping(f"/ip4/198.51.100.8/tcp/{PORT}", 3_600.0, "NAT-PMP")
            assert router.mappings == {PORT: (PORT, 3_600)}
        assert router.mappings == {}
        assert not other.asked


@within(20)
async def test_a_mapping_is_renewed_at_half_of_its_lease_and_a_new_address_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(portmap, "RENEW_AT_LEAST", 0.01)
    async with pmp_router("127.0.0.2") as router:
        router.longest = 1
        async with kept("127.0.0.2") as node:
            await node.changed()
            router.mappings.clear()
            await router.until(lambda: PORT in router.mappings)
            router.external = "203.0.113.5"
            await node.changed()
            assert [mapping.external if mapping else "" for mapping in node.had] == [
                f"/ip4/198.51.100.8/tcp/{PORT}", f"/ip4/203.0.113.5/tcp/{PORT}",
            ]  # fmt: skip


@within(20)
async def test_a_port_that_is_taken_is_replaced_and_a_lease_that_is_refused_left_out() -> None:
    async with upnp_router() as router:
        router.taken = {PORT}
        router.only_permanent = True
        async with kept() as node:
            await node.changed()
            (external,) = router.mappings
            assert external != PORT
            assert node.map.mapping == Mapping(f"/ip4/198.51.100.7/tcp/{external}", 0.0, "UPnP")
        assert router.mappings == {}


@pytest.mark.parametrize("inside", ["192.168.1.2", "10.0.0.1", "100.64.3.4", "172.31.0.1", "169.254.1.1", "0.0.0.0"])
@within(20)
async def test_a_router_behind_a_router_is_recognised(inside: str) -> None:
    async with upnp_router() as router:
        router.external = inside
        async with kept() as node:
            await node.says(f"its own address {inside} is not one of the internet")
            assert node.map.mapping is None
        assert router.mappings == {}
    assert not is_inside("172.32.0.1")


@within(20)
async def test_a_router_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portmap, "RETRY_SECONDS", 0.01)
    async with kept() as node:
        await node.says("No router answers UPnP")
        async with upnp_router():
            await node.changed()
            assert node.map.mapping is not None


@within(20)
async def test_the_router_of_these_tests_is_one_for_another_program_too() -> None:
    def ask() -> tuple[str, bool]:
        other = miniupnpc.UPnP(multicastif=LOOPBACK, discoverdelay=300)
        other.discover()
        other.selectigd()
        return other.externalipaddress(), other.addportmapping(PORT, "TCP", LOOPBACK, PORT, "x", "", 60)

    async with upnp_router(1_900) as router:
        assert await trio.to_thread.run_sync(ask) == (router.external, True)
        assert router.mappings == {PORT: (LOOPBACK, PORT, 60)}


# strange routers

Raw = Callable[[trio.SocketStream], Awaitable[None]]


def _says(data: bytes) -> Raw:
    async def raw(stream: trio.SocketStream) -> None:
        await stream.receive_some(4_096)
        await stream.send_all(data)

    return raw


async def _silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def _trickling(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"<a>")
        await trio.sleep(0.01)


async def _endless(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"<a>" * 10_000)


async def _endless_head(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X: y\r\n" * 10_000)


BOMB = '<!DOCTYPE a [<!ENTITY x0 "xxxxxxxxxx">' + "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 9))
STRANGE: dict[str, Raw] = {
    "silent": _silent,
    "trickling": _trickling,
    "endless": _endless,
    "endless head": _endless_head,
    "hangs up": _says(b""),
    "no HTTP": _says(b"\xff\x00\r\n\r\n" * 9),
    "half": _says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<root>"),
    "huge length": _says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n<root>"),
    "empty": _says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "elsewhere": _says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "no XML": _says(b"HTTP/1.1 200 OK\r\n\r\n<root><service></root>"),
    "bomb": _says(b"HTTP/1.1 200 OK\r\n\r\n" + BOMB.encode() + b"]><root>&x8;</root>"),
    "strange encoding": _says(b'HTTP/1.1 200 OK\r\n\r\n<?xml version="1.0" encoding="utf-99"?><root/>'),
    "deep": _says(b"HTTP/1.1 200 OK\r\n\r\n" + b"<a>" * (MAX_ANSWER // 7) + b"</a>" * (MAX_ANSWER // 7)),
}


@pytest.mark.parametrize("raw", STRANGE.values(), ids=STRANGE)
@within(20)
async def test_a_strange_router_costs_a_moment_and_a_line(raw: Raw) -> None:
    tracemalloc.start()
    async with upnp_router() as router:
        router.raw = raw
        async with kept() as node:
            await node.says("router")
            assert node.map.mapping is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


@within(20)
async def test_an_answer_is_read_only_so_far() -> None:
    async with upnp_router() as router:
        router.raw = _endless
        async with kept() as node:
            await node.says(f"has more than {MAX_ANSWER} bytes")


@pytest.mark.parametrize(
    ("break_", "words"),
    [
        (lambda r: setattr(r, "external", "not an address"), "no external address"),
        (lambda r: setattr(r, "external", "<a/>"), "no external address"),
        (lambda r: setattr(r, "taken", set(range(65_536))), "UPnP error 718"),
        (lambda r: setattr(r, "_act", lambda *_: 501), "UPnP error 501"),
        (lambda r: setattr(r, "description", "<root/>"), "offers no port mapping"),
        (lambda r: setattr(r, "location", "http://192.0.2.1:1/"), "No router answers UPnP"),
        (lambda r: setattr(r, "location", "http://127.0.0.1:99999/"), "No router answers UPnP"),
        (lambda r: setattr(r, "location", "file:///etc/passwd"), "No router answers UPnP"),
    ],
)  # fmt: skip
@within(20)
async def test_what_a_router_refuses_is_said(break_: Callable[[UpnpRouter], None], words: str) -> None:
    async with upnp_router() as router:
        break_(router)
        async with kept() as node:
            await node.says(words)
            assert node.map.mapping is None


def test_nobody_but_the_one_that_answered_is_talked_to() -> None:
    answer = b"HTTP/1.1 200 OK\r\nLOCATION: http://192.0.2.1:80/d.xml\r\n\r\n"
    assert read_answer(answer, "192.0.2.1") == "http://192.0.2.1:80/d.xml"
    assert read_answer(answer, "192.0.2.2") is None
    assert read_answer(answer.replace(b"200", b"404"), "192.0.2.1") is None
    elsewhere = DESCRIPTION.replace("/igd/ctl/ip", "http://192.0.2.9/ctl")
    with pytest.raises(Unreachable, match="offers no port mapping"):
        describe(elsewhere.encode(), "http://192.0.2.1/d.xml")
    relative = DESCRIPTION.replace("/igd/ctl/ip", "ctl/ip").encode()
    assert describe(relative, "http://192.0.2.1/x/d.xml") == upnp.Gateway(SERVICE, "http://192.0.2.1/x/ctl/ip")


PMP_LIES = {
    "nothing": b"",
    "short": b"\0",
    "another version": b"\2\200\0\1" + bytes(8),
    "refused": struct.pack("!BBHIHHI", 0, 130, 2, 9, PORT, PORT, 3_600),
    "too short": b"\0\202\0\0" + bytes(3),
    "no port": b"\0\202\0\0" + bytes(12),
    "another port": b"\0\202\0\0" + bytes(4) + b"\0\7\0\7\0\0\0\7",
}


@pytest.mark.parametrize("lie", PMP_LIES.values(), ids=PMP_LIES)
@within(20)
async def test_a_nat_pmp_router_that_lies_is_not_believed(lie: bytes) -> None:
    async with pmp_router("127.0.0.2") as router:
        router.answer = lambda data: router.honest(data) if data == b"\0\0" else lie
        async with kept("127.0.0.2") as node:
            await node.says("router")
            assert node.map.mapping is None


@within(20)
async def test_a_machine_without_multicast_is_said() -> None:
    with pytest.raises(Unreachable, match="No router answers UPnP"):
        await find_gateway("192.0.2.1")


def test_the_default_route_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    routes = tmp_path / "route"
    monkeypatch.setattr(natpmp, "_ROUTES", routes)
    assert default_gateway() is None
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n"
    other = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n"
    routes.write_text(head + other)
    assert default_gateway() is None
    routes.write_text(head + other + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\n")
    assert default_gateway() == "192.0.2.1"
