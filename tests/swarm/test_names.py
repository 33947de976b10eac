"""Peers behind DNS names: a name server of the test's own on loopback, and the hosts file of the machine."""

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trio.testing

from p2pcap.errors import SwarmError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint
from p2pcap.swarm.discovery import names
from p2pcap.swarm.discovery.names import (
    MAX_DEPTH,
    MAX_LOOKUPS,
    MAX_NAMES,
    MAX_RESULTS,
    Lookup,
    Names,
    Texts,
    ask_txt,
    dial_each,
    parse_name,
    resolve_host,
    resolve_name,
)
from tests.swarm.twin import node, within

ANN, BOB = (Identity.from_seed(bytes([n]) * 32).peer_id for n in (2, 3))
ADDRESS = "/ip4/192.0.2.7/tcp/{}".format


class NameServer:
    """Answers TXT questions over UDP; `zone` maps a name to its texts, and may change while it runs."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.zone: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        self.ttl = 60
        self.garbage: Callable[[bytes], bytes] | None = None
        self._socket = socket

    async def run(self) -> None:
        while True:
            data, sender = await self._socket.recvfrom(4_096)
            await self._socket.sendto(self.garbage(data) if self.garbage else self._answer(data), sender)

    def _answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        name = query.question[0].name
        text = name.to_text(omit_final_dot=True).lower()
        self.asked.append(text)
        answer = dns.message.make_response(query)
        if text not in self.zone:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif self.zone[text]:
            answer.answer.append(dns.rrset.from_text_list(name, self.ttl, "IN", "TXT", self.zone[text]))
        wire = answer.to_wire(max_size=65_535)
        return bytes(wire)

    def lookup(self) -> Lookup:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self._socket.getsockname()[1]
        return functools.partial(ask_txt, resolver=resolver)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            server = NameServer(socket)
            nursery.start_soon(server.run)
            yield server
            nursery.cancel_scope.cancel()


def txt(*entries: str) -> list[str]:
    return [f'"dnsaddr={entry}"' for entry in entries]


def address(peer: str, port: int = 1) -> str:
    return f"{ADDRESS(port)}/p2p/{peer}"


@within(20)
async def test_a_name_stands_for_what_its_records_say() -> None:
    async with name_server() as server:
        server.zone["_dnsaddr.swarm.test"] = [
            *txt(address(ANN), address(ANN, 2), address(BOB), "junk", "/ip4/192.0.2.7/udp/1/p2p/" + ANN),
            '"v=spf1 -all"',
            '"dnsaddr=" "/ip6/2001:db8::1/tcp/9" "/p2p/' + BOB + '"',
        ]
        found, ttl = await resolve_name(parse_name("/dnsaddr/Swarm.test"), server.lookup())
        assert {str(endpoint) for endpoint in found} == {
            address(ANN), address(ANN, 2), address(BOB), f"/ip6/2001:db8::1/tcp/9/p2p/{BOB}",
        }  # fmt: skip
        assert ttl == 60
        found, _ = await resolve_name(parse_name(f"/dnsaddr/swarm.test/p2p/{ANN}"), server.lookup())
        assert {endpoint.peer for endpoint in found} == {ANN}


@within(20)
async def test_names_inside_names_are_followed_and_loops_end() -> None:
    async with name_server() as server:
        server.zone["_dnsaddr.a.test"] = txt("/dnsaddr/b.test", f"/dnsaddr/c.test/p2p/{BOB}", "/dnsaddr/gone.test")
        server.zone["_dnsaddr.b.test"] = txt("/dnsaddr/a.test", address(ANN))
        server.zone["_dnsaddr.c.test"] = txt(address(ANN, 2), address(BOB, 2))
        found, _ = await resolve_name(parse_name("/dnsaddr/a.test"), server.lookup())
        assert set(map(str, found)) == {address(ANN), address(BOB, 2)}
        assert sorted(server.asked) == [f"_dnsaddr.{name}.test" for name in ("a", "b", "c", "gone")]


@within(30)
async def test_a_hostile_zone_costs_only_so_much() -> None:
    async with name_server() as server:
        server.zone["_dnsaddr.wide.test"] = txt(*(f"/dnsaddr/{n}.test" for n in range(100)), address(ANN))
        for n in range(100):
            server.zone[f"_dnsaddr.{n}.test"] = txt(*(address(Identity.generate().peer_id) for _ in range(20)))
        found, _ = await resolve_name(parse_name("/dnsaddr/wide.test"), server.lookup())
        assert len(found) <= MAX_RESULTS
        assert len(server.asked) <= MAX_LOOKUPS
        server.asked.clear()
        for n in range(20):
            server.zone[f"_dnsaddr.deep{n}.test"] = txt(f"/dnsaddr/deep{n + 1}.test")
        with pytest.raises(Unreachable, match="hold no address"):
            await resolve_name(parse_name("/dnsaddr/deep0.test"), server.lookup())
        assert len(server.asked) == MAX_DEPTH + 1


@pytest.mark.parametrize("answer", [b"", b"\xff" * 3, bytes(4_000)], ids=["nothing", "short", "zeros"])
@within(30)
async def test_an_answer_that_is_none_is_no_answer(answer: bytes) -> None:
    async with name_server() as server:
        server.garbage = lambda query: query[:2] + answer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(names, "QUESTION_SECONDS", 0.2)
            with pytest.raises(Unreachable, match="No TXT records"):
                await server.lookup()("_dnsaddr.swarm.test")


@within(20)
async def test_a_name_nobody_knows_is_said() -> None:
    async with name_server() as server:
        with pytest.raises(Unreachable, match=r"No TXT records of _dnsaddr\.swarm\.test.*Check the name"):
            await resolve_name(parse_name("/dnsaddr/swarm.test"), server.lookup())
        server.zone["_dnsaddr.swarm.test"] = []
        with pytest.raises(Unreachable, match="No TXT records"):
            await resolve_name(parse_name("/dnsaddr/swarm.test"), server.lookup())


def test_names_are_asked_again_sooner_after_a_failure_and_with_changed_records_heard() -> None:
    asked: list[float] = []
    start = 0.0
    heard: list[tuple[float, str, list[str]]] = []
    up = False

    async def lookup(host: str) -> Texts:
        asked.append(trio.current_time() - start)
        if not up:
            raise Unreachable("down")
        return Texts((f"dnsaddr={address(ANN, len(asked))}",), 1e9)

    async def main() -> None:
        nonlocal up, start
        start = trio.current_time()
        known = Names(lambda teller, found: heard.append((trio.current_time(), teller, list(map(str, found)))), lookup)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(known.run)
            known.know("/dnsaddr/swarm.test")
            known.know("/dnsaddr/swarm.test")
            await trio.sleep(60)
            assert asked == [0, 5, 15, 35]
            up = True
            await trio.sleep(1_400)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert asked[4:] == [75, 675, 1_275]
    assert [teller for _, teller, _ in heard] == ["/dnsaddr/swarm.test"] * 3
    assert [found for *_, found in heard] == [[address(ANN, n)] for n in (5, 6, 7)]


def test_only_so_many_names_and_only_names() -> None:
    async def main() -> None:
        known = Names(lambda *_: None)
        for n in range(MAX_NAMES):
            known.know(f"/dnsaddr/{n}.test")
        with pytest.raises(SwarmError, match="16 DNS names already"):
            known.know("/dnsaddr/more.test")

    trio.run(main)
    bad = ("", "a..b", "-a", "a/tcp/1", "a/p2p/x", "a\n", "a" * 64, "a." * 121, f"ü/p2p/{ANN}")
    for text in (*(f"/dnsaddr/{rest}" for rest in bad), f"/dns4/a/tcp/1/p2p/{ANN}"):
        with pytest.raises(SwarmError, match="is not a DNS name of peers"):
            parse_name(text)


@within(30)
async def test_a_joiner_finds_its_peers_through_a_name_whose_addresses_have_changed() -> None:
    async with name_server() as server, node() as (a, _), node() as (b, at_b):
        server.zone["_dnsaddr.swarm.test"] = txt(a.addresses[-1])
        known = Names(b._dialer.hear, server.lookup())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(known.run)
            known.know("/dnsaddr/swarm.test")
            await at_b.met(a)
            nursery.cancel_scope.cancel()


# hosts


@within(20)
async def test_a_host_stands_for_all_of_its_addresses() -> None:
    assert await resolve_host("/ip4/192.0.2.7/tcp/1") == ["/ip4/192.0.2.7/tcp/1"]
    assert await resolve_host("/dns4/localhost/tcp/1") == ["/ip4/127.0.0.1/tcp/1"]
    assert "/ip4/127.0.0.1/tcp/1" in await resolve_host("/dns/localhost/tcp/1")
    assert await resolve_host("/dns/::1/tcp/1") == await resolve_host("/dns6/::1/tcp/1") == ["/ip6/::1/tcp/1"]


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64, "ü" * 80, "\x00"])
@within(20)
async def test_a_host_that_is_none_is_said(host: str) -> None:
    with pytest.raises(Unreachable, match="No address of the host"):
        await resolve_host(f"/dns/{host}/tcp/1")


@within(20)
async def test_every_address_of_a_host_gets_its_turn() -> None:
    dialled: list[str] = []

    async def dial(transport: str) -> None:
        dialled.append(transport)
        if transport == "refuses":
            raise Unreachable("refused")
        if transport == "silent":
            await trio.sleep_forever()

    await dial_each(["refuses", "good", "never"], dial, 10)
    assert dialled == ["refuses", "good"]
    with pytest.raises(Unreachable, match=r"refused Nobody answered at silent within 0\.01 s"):
        await _with_short_shares(dial)


async def _with_short_shares(dial: Callable[[str], object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "DIAL_AT_LEAST", 0.01)
        await dial_each(["refuses", "silent"], dial, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("listen", ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"])
@within(20)
async def test_a_named_host_is_dialled_at_whichever_of_its_addresses_answers(listen: str) -> None:
    async with node(listen=[listen]) as (a, _), node() as (b, at_b):
        port = a.addresses[0].split("/tcp/")[1].split("/")[0]
        hosts = await resolve_host(f"/dns/localhost/tcp/{port}")
        if len(hosts) < 2:
            hosts.append(f"/ip6/::1/tcp/{port}")  # a hosts file that gives localhost no IPv6 address

        async def dial(transport: str) -> None:
            await b._links.dial(Endpoint(transport, a.peer_id))

        await dial_each(hosts, dial, 10)
        await at_b.met(a)
