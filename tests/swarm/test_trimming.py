"""Which connections make room: never those that are needed, and never honest ones for a flood."""

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio
from libp2p.network.exceptions import SwarmException

from p2pcap.swarm.peers import BAD_FRAME, BROKE_OFF
from p2pcap.swarm.swarm import Swarm
from p2pcap.swarm.trimming import HOST, NETWORK, SHOW_WITHIN, Connection, places, shared, surplus
from tests.swarm.twin import node, stranger, within


def peer(name: str, remote: str, age: float = 600.0, **changes: object) -> Connection:
    usual = Connection(name, remote, "in", age, kept=False, told=True, score=0.0)
    return replace(usual, **changes)  # type: ignore[arg-type]


def scattered(count: int, age: float = 600.0) -> list[Connection]:
    """Honest peers, each from a network of its own."""
    return [peer(f"honest {n}", f"10.{n}.0.1", age + n) for n in range(count)]


def test_nothing_is_closed_while_there_is_room() -> None:
    assert surplus(scattered(10), keep=10) == []
    assert surplus([], keep=0) == []


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("age", [1.0, 60.0])
def test_a_flood_from_one_address_pushes_out_itself(told: bool, age: float) -> None:
    honest = scattered(40)
    flood = [peer(f"flood {n}", "203.0.113.9", age + n / 100, told=told) for n in range(200)]
    closed = surplus(honest + flood, keep=56)
    assert len(closed) == 184
    assert not {one.peer for one in honest} & set(closed)


def test_a_flood_from_one_network_pushes_out_itself() -> None:
    honest = scattered(40)
    flood = [peer(f"flood {n}", f"203.0.{n}.9", 30.0) for n in range(100)]
    closed = surplus(honest + flood, keep=56)
    assert all(name.startswith("flood") for name in closed)


def test_whoever_crowds_goes_before_those_that_came_later() -> None:
    crowd = [peer(f"crowd {n}", "203.0.113.9", 5_000.0 + n) for n in range(10)]
    neighbours = [peer(f"neighbour {n}", f"203.0.113.{n + 10}", 4_000.0) for n in range(10)]
    late = scattered(10, age=60.0)
    closed = surplus(crowd + neighbours + late, keep=20)
    assert closed[:9] == [f"crowd {n}" for n in range(9)]
    assert closed[9] not in {one.peer for one in late}


def test_a_flood_at_the_address_of_honest_peers_leaves_those_that_were_there() -> None:
    honest = [peer(f"honest {n}", "127.0.0.1", 100.0 + n) for n in range(20)]
    flood = [peer(f"flood {n}", "127.0.0.1", float(n)) for n in range(50)]
    assert surplus(honest + flood, keep=24) == [f"flood {n}" for n in range(46)]


def test_what_is_needed_is_kept_whatever_it_did() -> None:
    needed = [peer(f"needed {n}", "203.0.113.9", kept=True, told=False, score=-90.0) for n in range(5)]
    assert surplus(needed + scattered(3), keep=0) == ["honest 0", "honest 1", "honest 2"]


def test_who_says_nothing_goes_first_and_then_who_did_wrong() -> None:
    crowd = [peer(f"crowd {n}", "203.0.113.9") for n in range(5)]
    lapse = peer("lapse", "10.1.0.1", score=-BROKE_OFF)
    wrong, worse = peer("wrong", "10.2.0.1", score=-BAD_FRAME), peer("worse", "10.3.0.1", score=-60.0)
    silent = peer("silent", "10.4.0.1", age=SHOW_WITHIN + 1, told=False)
    closed = surplus([*crowd, lapse, wrong, worse, silent], keep=0)
    assert closed[:3] == ["silent", "worse", "wrong"]
    assert set(closed[3:7]) <= {one.peer for one in crowd}


def test_a_newcomer_finds_a_place_and_time_to_say_who_it_is() -> None:
    settled = scattered(56)
    newcomer = peer("newcomer", "192.0.2.1", age=0.1, told=False)
    assert surplus([*settled, newcomer], keep=56) == ["honest 0"]
    assert surplus([*settled, replace(newcomer, age=SHOW_WITHIN + 1)], keep=56) == ["newcomer"]


def test_incoming_ones_go_before_outgoing_ones_and_young_ones_before_old_ones() -> None:
    out = peer("out", "10.1.0.1", 20.0, direction="out")
    old, young = peer("old", "10.2.0.1", 900.0), peer("young", "10.3.0.1", 100.0)
    assert surplus([out, old, young], keep=0) == ["young", "old", "out"]


def test_both_connections_of_a_peer_count_and_go_together() -> None:
    twice = [peer("twice", "203.0.113.9"), peer("twice", "203.0.113.9")]
    assert surplus([*twice, *scattered(5)], keep=5) == ["twice"]


def test_those_behind_relays_are_of_one_network() -> None:
    behind = [peer(f"behind {n}", "relay", 100.0 + n) for n in range(4)]
    assert surplus([*behind, *scattered(4)], keep=6) == ["behind 0", "behind 1"]


@pytest.mark.parametrize(
    ("remote", "network", "host"),
    [
        ("203.0.113.9", "203.0.0.0/16", "203.0.113.9/32"),
        ("::ffff:203.0.113.9", "203.0.0.0/16", "203.0.113.9/32"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48", "2001:db8:1:2::/64"),
        ("relay", "relay", "relay"),
        ("", "", ""),
    ],
)
def test_networks_and_hosts_of_addresses(remote: str, network: str, host: str) -> None:
    assert (shared(remote, NETWORK), shared(remote, HOST)) == (network, host)


def test_places_are_kept_free_whatever_the_limit() -> None:
    assert [places(limit) for limit in (1, 7, 8, 16, 64, 256)] == [1, 7, 7, 14, 56, 248]


async def visit(target: Swarm) -> None:
    """Be connected with `target` until cancelled, unless it has no place."""
    try:
        async with stranger(target):
            await trio.sleep_forever()
    except* SwarmException:
        pass


@within(60)
async def test_a_flood_of_connections_leaves_those_that_were_there() -> None:
    """Real ones, all from one address, more than there are places."""
    async with AsyncExitStack() as stack:
        a, twin = await stack.enter_async_context(node(max_connections=16))
        honest = [(await stack.enter_async_context(node(a.addresses[0])))[0] for _ in range(6)]
        await twin.met(*honest)
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(visit, a)
            await twin.until(lambda: a.network().counters.trimmed > 0 and len(a.peers()) <= 14)
            assert {swarm.peer_id for swarm in honest} <= {peer.peer_id for peer in a.peers()}
            assert {(await a.status(swarm.peer_id)).root for swarm in honest} == {twin.root}
            nursery.cancel_scope.cancel()
