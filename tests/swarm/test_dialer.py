"""Finding peers, keeping them, and letting go of dead ones."""

from itertools import count

import pytest
import trio
import trio.testing

from p2pcap.errors import Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint
from p2pcap.swarm.dialer import (
    ABREAST,
    ALONE_SECONDS,
    DIALS_PER_SECOND,
    DIALS_SAVED,
    GIVE_UP,
    LEFT_ALONE,
    MAX_CONTACTS,
    MAX_TRANSPORTS,
    PER_TELLER,
    VAIN,
    Dialer,
    Hosts,
)
from p2pcap.swarm.settings import SwarmSettings
from tests.swarm.twin import node, within


@within(30)
async def test_peers_learn_of_each_other_through_a_third() -> None:
    async with node() as (a, _), node(a.addresses[0]) as (b, at_b), node(a.addresses[0]) as (c, at_c):
        await at_b.met(a, c)
        await at_c.met(a, b)


@within(30)
async def test_a_peer_that_is_only_heard_of_is_reached_when_it_is_asked_for() -> None:
    async with node() as (a, at_a), node(a.addresses[0], links=1) as (b, at_b), node(a.addresses[0], links=1) as (c, _):
        await at_a.met(b, c)
        assert not await b.reach(Identity.generate().peer_id)
        while not await b.reach(c.peer_id):  # noqa: ASYNC110 - until somebody has told of it
            await trio.sleep(0.05)
        await at_b.met(a, c)


@within(30)
async def test_the_swarm_lives_on_without_the_node_everybody_came_through() -> None:
    async with node() as (b, at_b), node() as (c, at_c):
        async with node() as (a, at_a):
            b.know(a.addresses)
            c.know(a.addresses)
            await at_b.met(a, c)
            await at_c.met(b)
            await at_a.met(b, c)
        await at_b.until(lambda: a.peer_id not in at_b.statuses)
        async with node(b.addresses[0]) as (late, at_late):
            await at_late.met(b, c)
            await late.publish("claims", b"late but here")
            await at_c.until(lambda: any(data == b"late but here" for _, _, data in at_c.heard))


@within(30)
async def test_a_peer_that_restarts_on_its_port_is_found_again() -> None:
    identity = Identity.generate()
    async with node(identity=identity) as (a, _):
        port = a.addresses[0].split("/p2p/")[0]
        known = a.addresses[0]
    async with node(known) as (b, at_b):
        for _ in range(2):
            async with node(identity=identity, listen=[port]) as (a, at_a):
                await at_b.met(a)
                await a.publish("claims", b"back")
                await at_a.met(b)
            await at_b.until(lambda: a.peer_id not in at_b.statuses)
        assert at_b.events.count(("connect", a.peer_id)) == 2


@within(30)
async def test_two_that_dial_each_other_at_once_stay_connected() -> None:
    async with node() as (a, at_a), node() as (b, at_b):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.connect, b.addresses[0])
            nursery.start_soon(b.connect, a.addresses[0])
        await at_a.met(b)
        await at_b.met(a)
        await a.publish("claims", b"once")
        await at_b.until(lambda: [data for _, _, data in at_b.heard] == [b"once"])
        assert at_a.events.count(("connect", b.peer_id)) == 1


SOMEWHERE = "/ip4/192.0.2.1/tcp/1"


class Phone:
    """Records dials; `up` are the peers that answer, and stay connected unless they `hang_up`."""

    def __init__(self, links: int = 8, up: str = "", hang_up: bool = False) -> None:
        self.dialled: list[str] = []
        self.connected: set[str] = set()
        self._up = up
        self._hang_up = hang_up
        self.dialer = Dialer("M", self.dial, lambda: self.connected, lambda: self.connected, SwarmSettings(links=links))

    async def dial(self, endpoint: Endpoint) -> None:
        self.dialled.append(endpoint.peer)
        if endpoint.peer not in self._up:
            raise Unreachable("down")
        if not self._hang_up:
            self.connected.add(endpoint.peer)

    def run(self, hours: float, given: str = "", heard: str = "") -> None:
        """Let the dialer run, with these peers known; nobody waits for real."""

        async def main() -> None:
            for peer in given:
                self.dialer.know(Endpoint(SOMEWHERE, peer))
            for peer in heard:
                self.dialer.hear("teller", [Endpoint(SOMEWHERE, peer)])
            with trio.move_on_after(hours * 3_600):
                await self.dialer.run()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_given_peer_is_dialled_for_ever_but_ever_less_often() -> None:
    phone = Phone(up="B")
    phone.run(10, given="AB")
    assert 400 < phone.dialled.count("A") < 900, "about once a minute"


def test_whoever_is_alone_dials_more_often() -> None:
    phone = Phone()
    phone.run(1, given="A")
    assert 300 < len(phone.dialled) < 500, "about every ten seconds"


def test_whoever_is_left_alone_does_not_wait_for_the_next_minute() -> None:
    phone = Phone(up="B")

    async def main() -> None:
        phone.dialer.know(Endpoint(SOMEWHERE, "A"))
        phone.dialer.know(Endpoint(SOMEWHERE, "B"))
        with trio.move_on_after(3_600):
            await phone.dialer.run()
        before = len(phone.dialled)
        phone.connected.clear()
        phone._up = ""
        with trio.move_on_after(1.5 * ALONE_SECONDS):
            await phone.dialer.run()
        assert "A" in phone.dialled[before:]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_heard_peer_is_given_up() -> None:
    phone = Phone()
    phone.run(10, heard="A")
    assert phone.dialled == ["A"] * GIVE_UP


def test_a_peer_that_hangs_up_at_once_is_not_dialled_at_once_again() -> None:
    phone = Phone(up="A", hang_up=True)
    phone.run(1, given="A")
    assert 30 < len(phone.dialled) < 500


def test_heard_peers_are_dialled_only_up_to_the_wanted_links() -> None:
    phone = Phone(links=3, up="ABCDEFGH")
    phone.run(1, given="A", heard="BCDEFGH")
    assert len(phone.connected) == 3
    assert "A" in phone.connected


def test_why_a_given_peer_is_not_had_is_kept_until_it_is_and_it_is_dialled_on() -> None:
    phone = Phone()

    async def main() -> None:
        phone.dialer.know(Endpoint(SOMEWHERE, "A"))
        phone.dialer.hear("teller", [Endpoint(SOMEWHERE, "B")])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(phone.dialer.run)
            await trio.sleep(10)
            assert phone.dialer.troubles() == ("down",), "what ails those heard of nobody wants to know"
            for peer in "AB":
                phone.dialer.forget(peer, "is of another project")
            assert phone.dialer.troubles() == ("is of another project",)
            dialled = len(phone.dialled)
            await trio.sleep(600)
            assert set(phone.dialled[dialled:]) == {"A"}
            phone.dialer.proved("A")
            assert phone.dialer.troubles() == ()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_addresses_are_bounded_and_a_peers_own_word_counts_most() -> None:
    async def main() -> None:
        phone = Phone()
        for n in range(2 * MAX_CONTACTS):
            phone.dialer.hear(f"teller {n // PER_TELLER}", [Endpoint(f"t{n}", f"peer {n}")])
        assert len(phone.dialer._contacts) == MAX_CONTACTS
        phone.dialer.know(Endpoint("given", "wanted"))
        assert len(phone.dialer._contacts) <= MAX_CONTACTS
        for n in range(20):
            phone.dialer.hear("teller", [Endpoint(f"lie {n}", "peer 0")])
        contact = phone.dialer._contacts.get("peer 0") or phone.dialer._contacts["peer 1"]
        assert len(contact.heard) <= MAX_TRANSPORTS
        phone.dialer.hear(contact.peer, [Endpoint("truth", contact.peer)])
        assert contact.heard == ["truth"]
        phone.dialer.know(Endpoint("me", "M"))
        assert "M" not in phone.dialer._contacts

    trio.run(main)


def test_nobody_is_sought_through_this_node_itself() -> None:
    phone = Phone(up="A")

    async def main() -> None:
        phone.dialer.hear("A", [Endpoint("/ip4/192.0.2.1/tcp/1/p2p/M/p2p-circuit", "A")])
        with trio.move_on_after(60):
            await phone.dialer.run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert phone.dialled == []


def told(phone: Phone, teller: str, place: str, seconds: float) -> None:
    """A stranger names 16 invented peers after 16, each at `place`, as fast as it may ask."""

    async def tell() -> None:
        for number in count():
            there = place.format(number)
            phone.dialer.hear(teller, [Endpoint(there, f"{teller} {number} {n}") for n in range(16)])
            await trio.sleep(0.02)

    async def main() -> None:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                nursery.start_soon(phone.dialer.run)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("place", ["/ip4/9.9.9.9/tcp/80", "/dns4/x{}.victim.example/tcp/80"])
def test_no_stranger_aims_a_node_at_a_third(place: str) -> None:
    phone = Phone()
    told(phone, "liar", place, 20)
    assert len(phone.dialled) <= VAIN + ABREAST


def test_no_stranger_makes_a_node_dial_without_end() -> None:
    phone = Phone()
    told(phone, "liar", "/ip4/8.8.{0}.8/tcp/80", 5)
    assert len(phone.dialled) <= DIALS_SAVED + 5 * DIALS_PER_SECOND + 1


def test_what_one_stranger_tells_drives_out_nobody() -> None:
    async def main() -> None:
        phone = Phone()
        for n in range(8):
            phone.dialer.hear("honest", [Endpoint(SOMEWHERE, f"friend {n}")])
        for n in range(10 * MAX_CONTACTS):
            phone.dialer.hear("liar", [Endpoint(SOMEWHERE, f"invented {n}")])
        assert sum(name.startswith("invented") for name in phone.dialer._contacts) == PER_TELLER
        assert sum(name.startswith("friend") for name in phone.dialer._contacts) == 8

    trio.run(main)


def test_a_host_that_answers_is_not_left_alone() -> None:
    hosts, there = Hosts(), "/ip4/9.9.9.9/tcp/1"
    for _ in range(VAIN):
        assert not hosts.left_alone(there, 0.0)
        hosts.failed(there, 0.0)
    assert hosts.left_alone("/ip4/9.9.9.9/tcp/2", LEFT_ALONE - 1)
    assert not hosts.left_alone(there, LEFT_ALONE)
    hosts.answered(there)
    assert not hosts.left_alone(there, 1.0)
    for _ in range(VAIN):
        hosts.failed("/ip4/192.168.1.1/tcp/1", 0.0)
    assert not hosts.left_alone("/ip4/192.168.1.1/tcp/1", 1.0)
