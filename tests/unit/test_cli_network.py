"""The network switches of `join` and `bootstrap serve`, and the settings they become."""

import math

import click
import pytest

from p2pcap.cli.main import program
from p2pcap.cli.network import NetworkChoice, network_settings
from p2pcap.errors import SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm.settings import SwarmSettings
from p2pcap_bootstrap.commands import bootstrap

ANYWHERE = ("/ip4/0.0.0.0/tcp/0",)
LOOPBACK = ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")
ENTRY = f"/ip4/192.0.2.7/tcp/4001/p2p/{Identity.from_seed(bytes(32)).peer_id}"


def chosen(*arguments: str, listen: tuple[str, ...] = ANYWHERE) -> SwarmSettings:
    """The settings of `p2pcap join` with these switches."""
    join = program.get_command(click.Context(program), "join")
    assert join is not None
    given = join.make_context("join", list(arguments), resilient_parsing=False).params
    choice = NetworkChoice(**{name: given[name] for name in NetworkChoice.__annotations__})  # type: ignore[typeddict-item]
    return network_settings(choice, listen, relay="if reachable")


def test_a_volunteer_does_what_helps_unless_told_otherwise() -> None:
    assert chosen() == SwarmSettings(relay="if reachable", traverse=True, map_port=True, mdns=True)
    assert (chosen().upload, chosen().download) == (math.inf, math.inf)


def test_each_switch_does_one_thing() -> None:
    usual = chosen()
    assert chosen("--no-relay").relay == "no"
    assert (chosen("--no-upnp").map_port, usual.map_port) == (False, True)
    assert (chosen("--no-mdns").mdns, usual.mdns) == (False, True)
    assert (chosen("--dht").dht, usual.dht) == (True, False)
    assert chosen("--upload-limit", "0.5").upload == 500_000
    assert chosen("--download-limit", "2").download == 2_000_000


def test_an_entry_turns_the_hash_table_on_and_must_be_an_address() -> None:
    settings = chosen("--dht-entry", ENTRY)
    assert (settings.dht, settings.dht_entries) == (True, (ENTRY,))
    with pytest.raises(SwarmError, match="not an address"):
        chosen("--dht-entry", "example.org")


def test_on_loopback_nobody_outside_is_asked() -> None:
    settings = chosen(listen=LOOPBACK)
    assert (settings.map_port, settings.mdns, settings.traverse) == (False, False, True)
    assert chosen(listen=(*LOOPBACK, *ANYWHERE)).mdns


@pytest.mark.parametrize("limit", ["0", "0.01", "-1", "fast"])
def test_a_limit_that_would_stop_the_node_is_refused(limit: str) -> None:
    with pytest.raises(click.BadParameter):
        chosen("--upload-limit", limit)


def test_both_commands_have_the_same_switches() -> None:
    join = program.get_command(click.Context(program), "join")
    serve = bootstrap.get_command(click.Context(bootstrap), "serve")
    assert join is not None
    assert serve is not None
    switches = set(NetworkChoice.__annotations__)
    assert switches <= {parameter.name for parameter in join.params}
    assert switches <= {parameter.name for parameter in serve.params}
