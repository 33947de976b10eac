"""Addresses that lead through a relay."""

import pytest

from p2pcap.errors import SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint, parse_endpoint, parse_endpoints, parse_listen, worth_telling

PEER = Identity.from_seed(bytes(32)).peer_id
RELAY = Identity.from_seed(bytes([1]) * 32).peer_id
DIRECT = "/ip4/192.0.2.7/tcp/4001"
DETOUR = f"{DIRECT}/p2p/{RELAY}/p2p-circuit"


def test_an_address_through_a_relay_names_the_relay_and_the_peer() -> None:
    endpoint = parse_endpoint(f"{DETOUR}/p2p/{PEER}")
    assert endpoint == Endpoint(DETOUR, PEER)
    assert endpoint.relay == Endpoint(DIRECT, RELAY)
    assert str(endpoint) == f"{DETOUR}/p2p/{PEER}"


def test_a_direct_address_leads_through_no_relay() -> None:
    assert parse_endpoint(f"{DIRECT}/p2p/{PEER}").relay is None


@pytest.mark.parametrize(
    "text",
    [
        DETOUR,
        f"{DIRECT}/p2p-circuit/p2p/{PEER}",
        f"/p2p/{RELAY}/p2p-circuit/p2p/{PEER}",
        f"{DIRECT}/p2p/nobody/p2p-circuit/p2p/{PEER}",
        f"{DETOUR}/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        f"{DETOUR}/p2p/{PEER}\n",
    ],
)
def test_addresses_through_relays_that_cannot_be_dialled(text: str) -> None:
    with pytest.raises(SwarmError, match="address"):
        parse_endpoint(text)
    assert parse_endpoints([text]) == []


def test_nobody_listens_at_a_relay() -> None:
    with pytest.raises(SwarmError, match="Nobody can listen"):
        parse_listen(DETOUR)


def test_others_are_told_first_what_helps_them_most() -> None:
    loopback, private, public, name = (
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/192.168.1.2/tcp/1",
        "/ip4/9.9.9.9/tcp/1",
        "/dns4/a/tcp/1",
    )
    addresses = [f"{text}/p2p/{PEER}" for text in (loopback, private, DETOUR, public, name, "/ip6/fe80::1/tcp/1")]
    told = worth_telling(addresses, 4)
    assert told == [f"{text}/p2p/{PEER}" for text in (public, name, DETOUR, private)]


def test_loopback_is_told_only_by_who_has_nothing_else() -> None:
    addresses = [f"{text}/p2p/{PEER}" for text in ("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1")]
    assert worth_telling(addresses, 8) == addresses
    assert worth_telling([*addresses, f"{DIRECT}/p2p/{PEER}"], 8) == [f"{DIRECT}/p2p/{PEER}"]


def test_a_relay_on_loopback_does_not_stand_in_for_the_node_itself() -> None:
    own, detour = f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}", f"/ip4/127.0.0.1/tcp/2/p2p/{RELAY}/p2p-circuit/p2p/{PEER}"
    assert worth_telling([detour, own], 2) == [own, detour]
    assert worth_telling([detour, own, f"{DIRECT}/p2p/{PEER}"], 2) == [f"{DIRECT}/p2p/{PEER}"]
