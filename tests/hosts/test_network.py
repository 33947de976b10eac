"""The network that the tests across hosts stand on: that it delays, loses, translates and parts as it says."""

import hashlib
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from tests.hosts.namespaces import NAMESPACES, in_namespace, ip, skip_unless_allowed
from tests.hosts.nat import IDLE_SECONDS, Nat
from tests.hosts.network import Host, network
from tests.hosts.packets import TCP, UDP, Endpoint, Packet, parse, readdressed
from tests.swarm.twin import within

DATAGRAMS, STREAM = socket.SOCK_DGRAM, socket.SOCK_STREAM
INNER, OUTER, OTHER = Endpoint("192.168.1.2", 4001), Endpoint("45.0.0.1", 80), Endpoint("45.0.0.2", 80)


def ones_sum(data: bytes) -> int:
    """0xffff for anything with a right checksum in it (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packet(protocol: int, source: Endpoint, target: Endpoint, body: bytes = b"even") -> Packet:
    """A packet as the kernel would send it, checksums and all."""
    head = {TCP: 20, UDP: 8}[protocol]
    data = bytearray(20 + head) + body
    struct.pack_into("!BxHIBB", data, 0, 0x45, len(data), 0, 64, protocol)
    data[12:20] = socket.inet_aton(source.ip) + socket.inet_aton(target.ip)
    struct.pack_into("!HH", data, 20, source.port, target.port)
    if protocol == UDP:
        struct.pack_into("!H", data, 24, 8 + len(body))
    struct.pack_into("!H", data, 10, ones_sum(bytes(data[:20])) ^ 0xFFFF)
    at = {TCP: 36, UDP: 26}[protocol]
    struct.pack_into("!H", data, at, ones_sum(_covered(bytes(data))) ^ 0xFFFF)
    made = parse(bytes(data))
    assert made is not None
    return made


def _covered(data: bytes) -> bytes:
    """What the checksum of TCP or UDP covers: the pseudo header, and all after the IP header."""
    return data[12:20] + struct.pack("!BBH", 0, data[9], len(data) - 20) + data[20:]


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("target", [OTHER, Endpoint("255.255.255.255", 65_535), Endpoint("0.0.0.0", 1)])
def test_a_readdressed_packet_has_right_checksums(protocol: int, target: Endpoint) -> None:
    sent = readdressed(packet(protocol, INNER, OUTER), Endpoint("45.0.1.1", 30_000), target)
    assert parse(sent.data) == sent
    assert (ones_sum(sent.data[:20]), ones_sum(_covered(sent.data))) == (0xFFFF, 0xFFFF)


def test_a_datagram_without_checksum_stays_without() -> None:
    sent = packet(UDP, INNER, OUTER)
    bare = parse(sent.data[:26] + b"\0\0" + sent.data[28:])
    assert bare is not None
    assert readdressed(bare, OTHER, OUTER).data[26:28] == b"\0\0"


def test_what_is_no_ipv4_is_no_packet() -> None:
    assert parse(b"") is None
    assert parse(b"\x60" + bytes(39)) is None


def test_a_nat_maps_by_inner_end_and_admits_by_outer_end() -> None:
    nat = Nat("45.0.1.1")
    first = nat.outbound(packet(TCP, INNER, OUTER), 0.0)
    again = nat.outbound(packet(TCP, INNER, OTHER), 1.0)
    assert first is not None
    assert again is not None
    assert first.source == again.source
    back = nat.inbound(packet(TCP, OUTER, first.source), 2.0)
    assert back is not None
    assert (back.source, back.target) == (OUTER, INNER)
    assert nat.inbound(packet(TCP, Endpoint(OUTER.ip, 81), first.source), 2.0) is None, "another port of that host"
    assert nat.inbound(packet(UDP, OUTER, first.source), 2.0) is None
    assert nat.inbound(packet(TCP, OUTER, first.source), IDLE_SECONDS) is None, "nothing went out for so long"


def test_a_symmetric_nat_maps_by_both_ends() -> None:
    nat = Nat("45.0.1.1", symmetric=True)
    ports = [nat.outbound(packet(UDP, INNER, target), 0.0) for target in (OUTER, OTHER, OUTER)]
    assert len({sent.source for sent in ports if sent is not None}) == 2


def test_an_idle_mapping_gives_way_to_a_new_one() -> None:
    nat = Nat("45.0.1.1")
    first = nat.outbound(packet(UDP, INNER, OUTER), 0.0)
    later = nat.outbound(packet(UDP, INNER, OTHER), IDLE_SECONDS)
    assert first is not None
    assert later is not None
    assert nat.inbound(packet(UDP, OTHER, first.source), IDLE_SECONDS + 1) is None
    assert nat.inbound(packet(UDP, OTHER, later.source), IDLE_SECONDS + 1) is not None


def test_a_forwarded_port_is_open_to_all_and_answers_from_itself() -> None:
    nat = Nat("45.0.1.1", symmetric=True)
    nat.forward(TCP, INNER)
    public = Endpoint("45.0.1.1", INNER.port)
    came = nat.inbound(packet(TCP, OUTER, public), 0.0)
    answer = nat.outbound(packet(TCP, INNER, OUTER), 0.0)
    assert came is not None
    assert answer is not None
    assert (came.target, answer.source) == (INNER, public)
    assert nat.inbound(packet(UDP, OUTER, public), 0.0) is None


# the real thing


async def echo(datagrams: trio.socket.SocketType) -> None:
    """Answer every datagram with itself."""
    while True:
        data, source = await datagrams.recvfrom(2_048)
        await datagrams.sendto(data, source)


async def source_of(datagrams: trio.socket.SocketType, expected: bytes) -> tuple[str, int]:
    """Who the next datagram is from; it must be `expected`."""
    data, source = await datagrams.recvfrom(2_048)
    assert data == expected
    return str(source[0]), int(source[1])


@within(60)
async def test_a_round_trip_takes_twice_the_delay() -> None:
    async with network(delay=0.05) as net, trio.open_nursery() as nursery:
        here, there = net.host("a").socket(DATAGRAMS), net.host("b").socket(DATAGRAMS, 7)
        nursery.start_soon(echo, there)
        trips = []
        for n in range(20):
            start = trio.current_time()
            await here.sendto(b"%d" % n, ("45.0.0.2", 7))
            assert await source_of(here, b"%d" % n) == ("45.0.0.2", 7)
            trips.append(trio.current_time() - start)
        assert min(trips) >= 0.1
        assert statistics.median(trips) < 0.2, "whatever the machine is busy with, most of it is the delay"
        nursery.cancel_scope.cancel()


@within(60)
async def test_one_datagram_in_twenty_is_lost() -> None:
    count = 2_000
    heard: set[bytes] = set()
    async with network(loss=0.05, seed=1) as net:
        here, there = net.host("a").socket(DATAGRAMS), net.host("b").socket(DATAGRAMS, 7)
        for n in range(count):
            await here.sendto(b"%d" % n, ("45.0.0.2", 7))
            while net.carried + net.lost <= n:
                await trio.lowlevel.checkpoint()
            if net.carried > len(heard):
                heard.add(await there.recv(2_048))
        assert 60 < net.lost < 140
        assert len(heard) == count - net.lost


@within(60)
async def test_a_stream_comes_whole_over_delay_and_loss() -> None:
    sent = os.urandom(200_000)
    async with network(delay=0.01, loss=0.05, seed=2) as net, trio.open_nursery() as nursery:
        listener, here = net.host("a").socket(STREAM, 80), net.host("b").socket(STREAM)
        listener.listen()
        await here.connect(("45.0.0.1", 80))
        there, _ = await listener.accept()
        nursery.start_soon(trio.SocketStream(here).send_all, sent)
        got = bytearray()
        with there:
            while len(got) < len(sent):
                got += await there.recv(65_536)
        assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
        assert net.lost > 0


@within(60)
async def test_sides_of_a_partition_hear_only_themselves() -> None:
    async with network() as net:
        a, b, c = (net.host(name).socket(DATAGRAMS, 7) for name in "abc")
        net.partition("ab", "c")
        await c.sendto(b"from the other side", ("45.0.0.1", 7))
        await b.sendto(b"from the same side", ("45.0.0.1", 7))
        assert await source_of(a, b"from the same side") == ("45.0.0.2", 7)
        net.heal()
        await c.sendto(b"healed", ("45.0.0.1", 7))
        assert await source_of(a, b"healed") == ("45.0.0.3", 7)


@within(60)
@pytest.mark.parametrize("symmetric", [False, True])
async def test_behind_a_router_one_is_heard_only_by_whom_one_spoke_to(symmetric: bool) -> None:
    async with network() as net:
        inner = net.host("inner", net.home(symmetric)).socket(DATAGRAMS, 4001)
        first, second = (net.host(name).socket(DATAGRAMS, 7) for name in ("first", "second"))
        await inner.sendto(b"hello", ("45.0.0.1", 7))
        public = await source_of(first, b"hello")
        assert public[0] == "45.0.1.1"
        await second.sendto(b"unasked", public)
        await first.sendto(b"answer", public)
        assert await source_of(inner, b"answer") == ("45.0.0.1", 7)
        await inner.sendto(b"hello", ("45.0.0.2", 7))
        assert (await source_of(second, b"hello") == public) is not symmetric


@within(60)
async def test_two_hosts_of_one_home_meet_inside_and_by_their_public_address() -> None:
    async with network() as net:
        home = net.home()
        one, other = (net.host(name, home).socket(DATAGRAMS, 4001) for name in ("one", "other"))
        outside = net.host("outside").socket(DATAGRAMS, 7)
        await one.sendto(b"inside", ("192.168.1.3", 4001))
        assert await source_of(other, b"inside") == ("192.168.1.2", 4001)
        public = []
        for inner in (one, other):
            await inner.sendto(b"hello", ("45.0.0.1", 7))
            public.append(await source_of(outside, b"hello"))
        await one.sendto(b"opens the way", public[1])
        await other.sendto(b"round the corner", public[0])
        assert await source_of(one, b"round the corner") == public[1]


@within(60)
async def test_nobody_connects_to_a_host_behind_a_router_unasked() -> None:
    async with network() as net, trio.open_nursery() as nursery:
        home = net.home()
        host, server, stranger = net.host("inner", home), net.host("server"), net.host("stranger")
        listener, listening = host.socket(STREAM, 4001), server.socket(STREAM, 80)
        listener.listen()
        listening.listen()
        async with mapped(host, listening, ("45.0.0.1", 80)) as public:
            nursery.start_soon(stranger.socket(STREAM).connect, public)
            await net.turned_away(stranger.address, home)
            assert public[0] == home.public
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def mapped(host: Host, server: trio.socket.SocketType, at: tuple[str, int]) -> AsyncIterator[tuple[str, int]]:
    """Keep a connection from port 4001 of `host` to the listening `server`: where the outside sees that port."""
    with host.socket(STREAM, 4001) as connection:
        await connection.connect(at)
        accepted, public = await server.accept()
        with accepted:
            yield public[0], public[1]


async def punched(symmetric: bool) -> bool:
    """Whether two hosts behind a router each connect by dialling each other at once from the ports that are mapped."""
    async with network(delay=0.02) as net, AsyncExitStack() as kept:
        server = net.host("server").socket(STREAM, 80)
        server.listen()
        left, right = net.host("left", net.home()), net.host("right", net.home(symmetric))
        at = {
            host.name: await kept.enter_async_context(mapped(host, server, ("45.0.0.1", 80))) for host in (left, right)
        }
        with left.socket(STREAM, 4001) as here, right.socket(STREAM, 4001) as there, trio.move_on_after(4):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(here.connect, at["right"])
                nursery.start_soon(there.connect, at["left"])
            await here.send(b"through both")
            return await there.recv(100) == b"through both"
    return False


@within(60)
async def test_two_routers_let_a_hole_be_punched() -> None:
    assert await punched(symmetric=False)


@within(60)
async def test_a_symmetric_router_does_not() -> None:
    assert not await punched(symmetric=True)


@within(60)
async def test_nothing_is_left_behind() -> None:
    skip_unless_allowed()
    finished = await trio.lowlevel.open_process(["true"])
    await finished.wait()
    stale = f"p2pcap-{finished.pid}-crashed"
    ip("netns", "add", stale)
    stays = [*in_namespace(stale), sys.executable, "-c", "input('up\\n')"]
    left = await trio.lowlevel.open_process(stays, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert left.stdin is not None
    assert left.stdout is not None
    async with left.stdin, left.stdout:
        assert await left.stdout.receive_some() == b"up\n"
        async with network() as net:
            own = net.host("a").namespace
            assert await left.wait() == -signal.SIGKILL
            assert (NAMESPACES / own).exists()
    assert not (NAMESPACES / stale).exists()
    assert not (NAMESPACES / own).exists()
