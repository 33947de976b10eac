"""Finding each other on the LAN with real multicast: on loopback, and in a network namespace of the test's own."""

import functools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from zeroconf import ServiceInfo, Zeroconf

from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint
from p2pcap.swarm.discovery import mdns
from p2pcap.swarm.discovery.mdns import (
    MAX_ADDRESSES,
    MAX_PEERS,
    MAX_TXT,
    SERVICE,
    TELLER,
    Mdns,
    announced,
    read_txt,
)
from tests.swarm.bare import until
from tests.swarm.twin import node, within

PROJECT, OTHER = os.urandom(8), os.urandom(8)
"""Others may run these tests on this machine at the same time."""
LOOPBACK = ("127.0.0.1",)
ME, ANN, BOB = (Identity.from_seed(bytes([n]) * 32).peer_id for n in (1, 2, 3))


def own_network(*setup: str) -> Callable[[Callable[[], Awaitable[None]]], Callable[[], None]]:
    """Run an async test in a process and network namespace of its own, made by these commands of `ip`."""

    def decorate(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        code = f"import trio; from {__name__} import {test.__name__} as test; trio.run(test.inside)"
        lines = [*(f"ip {line}" for line in setup), f'exec "{sys.executable}" -c "{code}"']

        @functools.wraps(test, updated=())
        def run() -> None:
            if subprocess.run(["unshare", "-rn", "ip", "link", "show"], capture_output=True, check=False).returncode:
                pytest.skip("this kernel lets nobody make a network namespace")
            command = ["unshare", "-rn", "sh", "-ec", "\n".join(lines)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr + done.stdout

        del run.__wrapped__  # pytest would look for the inner test's arguments
        run.inside = test  # type: ignore[attr-defined]
        return run

    return decorate


class Listener:
    """One node's discovery, and everything it was handed."""

    def __init__(
        self, peer: str, *addresses: str, project: bytes = PROJECT, interfaces: Sequence[str] | None = LOOPBACK
    ) -> None:
        self.peer = peer
        self.addresses = addresses
        self.heard: list[tuple[str, str]] = []
        self._news = trio.Event()
        self.mdns = Mdns(project, peer, lambda: self.addresses, self._hear, interfaces)

    def _hear(self, teller: str, endpoints: Sequence[Endpoint]) -> None:
        self.heard += [(teller, str(endpoint)) for endpoint in endpoints]
        self._news.set()

    async def hears(self, *addresses: str) -> None:
        while not set(addresses) <= {address for _, address in self.heard}:
            await self._news.wait()
            self._news = trio.Event()


@asynccontextmanager
async def running(*listeners: Listener) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(listener.mdns.run)
        yield
        nursery.cancel_scope.cancel()


def at(peer: str, port: int = 1, ip: str = "192.0.2.7") -> str:
    return f"/ip4/{ip}/tcp/{port}/p2p/{peer}"


@within(30)
async def test_nodes_of_one_project_hear_of_each_other_and_of_nobody_else() -> None:
    ann, bob, other = Listener(ANN, at(ANN)), Listener(BOB, at(BOB)), Listener(ME, at(ME), project=OTHER)
    async with running(ann, bob, other):
        await ann.hears(at(BOB))
        await bob.hears(at(ANN))
        await until(lambda: ann.mdns.state == "announced on the LAN")
    assert {*ann.heard, *bob.heard, *other.heard} == {(TELLER, at(ANN)), (TELLER, at(BOB))}


@within(30)
async def test_two_nodes_connect_without_any_address() -> None:
    async with node() as (a, at_a), node() as (b, at_b):
        # 127.0.0.1 is all that these two listen on, so it is announced
        found = [
            Mdns(PROJECT, swarm.peer_id, functools.partial(_addresses, swarm), swarm._dialer.hear, LOOPBACK)
            for swarm in (a, b)
        ]
        async with trio.open_nursery() as nursery:
            for each in found:
                nursery.start_soon(each.run)
            await at_a.met(b)
            await at_b.met(a)
            nursery.cancel_scope.cancel()


def _addresses(swarm: object) -> Sequence[str]:
    addresses: Sequence[str] = swarm.addresses  # type: ignore[attr-defined]
    return addresses


@within(30)
async def test_a_new_address_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "LOOK_SECONDS", 0.05)
    ann, bob = Listener(ANN, at(ANN)), Listener(BOB, at(BOB))
    async with running(ann, bob):
        await bob.hears(at(ANN))
        ann.addresses = (at(ANN, 2),)
        await bob.hears(at(ANN, 2))


@within(30)
async def test_a_node_that_comes_later_is_heard_and_one_that_left_is_not_waited_for() -> None:
    ann, bob = Listener(ANN, at(ANN)), Listener(BOB, at(BOB))
    async with running(ann):
        async with running(bob):
            await ann.hears(at(BOB))
        again = Listener(ME, at(ME))
        async with running(again):
            await again.hears(at(ANN))
            await ann.hears(at(ME))


@within(30)
async def test_other_networks_are_joined_when_the_machine_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = frozenset({"192.0.2.1"})
    opened: list[Zeroconf] = []

    def open_(*arguments: Any) -> Zeroconf:
        opened.append(real(*arguments))
        return opened[-1]

    real = mdns._open
    monkeypatch.setattr(mdns, "_open", open_)
    monkeypatch.setattr(mdns, "_networks", lambda: networks)
    monkeypatch.setattr(mdns, "LOOK_SECONDS", 0.05)
    ann = Listener(ANN, at(ANN))
    async with running(ann):
        await until(lambda: ann.mdns.state == "announced on the LAN")
        networks = frozenset({"192.0.2.2"})
        await until(lambda: len(opened) == 2)
        assert opened[0].done
        bob = Listener(BOB, at(BOB))
        async with running(bob):
            await bob.hears(at(ANN))
            await ann.hears(at(BOB))


# strangers on the LAN


@asynccontextmanager
async def announcing(*records: tuple[str, bytes]) -> AsyncIterator[None]:
    """Somebody else's announcements: instance name and the bytes of the TXT record."""
    zeroconf = await trio.to_thread.run_sync(Zeroconf, list(LOOPBACK))
    try:
        async with trio.open_nursery() as registering:  # each is said three times, and takes half a second
            for name, text in records:
                info = ServiceInfo(SERVICE, f"{name}.{SERVICE}", port=1, properties=text)
                register = functools.partial(zeroconf.register_service, info, cooperating_responders=True)
                registering.start_soon(trio.to_thread.run_sync, register)
        yield
    finally:
        await trio.to_thread.run_sync(zeroconf.close)


def txt(*entries: str, project: bytes = PROJECT) -> bytes:
    texts = [f"project={project.hex()}", *(f"dnsaddr={entry}" for entry in entries)]
    return b"".join(bytes([len(text)]) + text.encode() for text in texts)


HOSTILE = {
    "nothing": b"",
    "a length beyond the end": b"\xff" + b"project=" + PROJECT.hex().encode(),
    "no address": txt(),
    "no addresses": txt("junk", "/ip4/1.2.3.4/udp/1/p2p/" + ANN, "/dnsaddr/evil.test", "é" * 40, "\x00"),
    "our own": txt(at(ME)),
    "too long": txt(*(at(ANN, n) for n in range(30))),
    "another project": txt(at(ANN), project=OTHER),
}


@within(30)
async def test_what_strangers_announce_is_looked_at_with_care() -> None:
    me = Listener(ME, at(ME))
    spread = txt(at(ANN), at(BOB, 99))
    many = txt(*(at(BOB, n) for n in range(12)))
    assert len(HOSTILE["too long"]) > MAX_TXT >= len(many)
    records = [(f"hostile{n}", text) for n, text in enumerate(HOSTILE.values())]
    async with running(me), announcing(*records, ("spread", spread), ("many", many)):
        await me.hears(at(ANN), *(at(BOB, n) for n in range(MAX_ADDRESSES)))
    assert len(me.heard) == 1 + MAX_ADDRESSES
    assert {teller for teller, _ in me.heard} == {TELLER}, "never as the word of the peer itself"


def test_a_flood_of_announcements_is_heard_in_part() -> None:
    me = Listener(ME)
    peers = [Identity.from_seed(n.to_bytes(32, "big")).peer_id for n in range(1, MAX_PEERS + 100)]
    for second in range(3):
        for peer in peers:
            me.mdns._hear_of([at(peer, port) for port in range(5)], float(second))
    assert len({address.rpartition("/")[2] for _, address in me.heard}) == MAX_PEERS
    assert len(me.heard) == 5 * MAX_PEERS
    me.mdns._hear_of([at(ANN)], 1_000.0)
    assert me.heard[-1] == (TELLER, at(ANN))


def test_only_addresses_that_help_on_a_lan_are_announced() -> None:
    loopback = [at(ME, ip="127.0.0.1"), f"/ip6/::1/tcp/1/p2p/{ME}"]
    assert announced([*loopback, at(ME)]) == (at(ME),)
    assert announced(loopback) == tuple(loopback)
    long = [f"/dns4/{'x' * 150}/tcp/{n}/p2p/{ME}" for n in range(20)]
    assert 0 < len(announced(long)) <= MAX_ADDRESSES
    assert read_txt(txt(*announced(long)), PROJECT) == announced(long)
    assert announced([f"/dns4/{'x' * 250}/tcp/1/p2p/{ME}", f"/dns4/ü/tcp/1/p2p/{ME}"]) == ()


# networks


@own_network(
    "link set lo up",
    "link add lan0 type veth peer name lan1",
    "address add 192.0.2.1/24 dev lan0",
    "link set lan0 up",
    "link set lan1 up",
)
async def test_all_interfaces_are_used_unless_some_are_named() -> None:
    with trio.fail_after(30):
        ann, bob = Listener(ANN, at(ANN), interfaces=None), Listener(BOB, at(BOB), interfaces=["192.0.2.1"])
        async with running(ann, bob):
            await ann.hears(at(BOB))
            await bob.hears(at(ANN))


@own_network("link set lo down")
async def test_a_machine_without_a_network_is_said_once_and_looked_at_again() -> None:
    mdns.RETRY_SECONDS = mdns.LOOK_SECONDS = 0.05
    ann, bob = Listener(ANN, at(ANN), interfaces=None), Listener(BOB, at(BOB), interfaces=None)
    with trio.fail_after(30):
        async with running(ann, bob):
            await until(lambda: ann.mdns.state.startswith("no multicast DNS: "))
            await trio.run_process(["ip", "link", "set", "lo", "up"])
            await ann.hears(at(BOB))


@own_network("link set lo up")
async def test_a_busy_port_5353_is_said() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder, trio.fail_after(30):
        holder.bind(("", 5353))
        ann = Listener(ANN, at(ANN), interfaces=None)
        async with running(ann):
            await until(lambda: ann.mdns.state.startswith("no multicast DNS: Address already in use"))
