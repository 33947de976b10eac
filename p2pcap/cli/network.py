"""The switches that say what a node may do with the network, the same for `join` and `bootstrap serve`."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from p2pcap.cli.finite import FiniteRange

if TYPE_CHECKING:
    from p2pcap.swarm.settings import Relaying, SwarmSettings

MEGABYTE = 1_000_000
SLOWEST = 0.05
"""MB/s. Below that peers take this node for dead, and its own requests end before their answers."""

Command = TypeVar("Command", bound=Callable[..., object])


class NetworkChoice(TypedDict):
    """The values of the switches, as click hands them over."""

    upload_limit: float | None
    download_limit: float | None
    no_relay: bool
    no_upnp: bool
    no_mdns: bool
    dht: bool
    dht_entries: tuple[str, ...]


def network_options(command: Command) -> Command:
    """Add the switches."""
    rate: dict[str, Any] = {"type": FiniteRange(SLOWEST), "metavar": "MB/S"}
    switches = [
        click.option("--upload-limit", help="Sent to peers for them and others, at most. [default: no limit]", **rate),
        click.option("--download-limit", help="Images and captions fetched, at most. [default: no limit]", **rate),
        click.option("--no-relay", is_flag=True, help="Carry no connections for peers that cannot be dialled."),
        click.option("--no-upnp", is_flag=True, help="Do not ask the router to forward the port."),
        click.option("--no-mdns", is_flag=True, help="Do not look for peers on the local network."),
        click.option("--dht", is_flag=True, help="Also find peers through the distributed hash table, and serve it."),
        click.option(
            "--dht-entry",
            "dht_entries",
            multiple=True,
            metavar="MULTIADDR",
            help="A node of any project through which to enter the hash table; turns it on.",
        ),
    ]
    for switch in reversed(switches):
        command = switch(command)
    return command


def network_settings(
    choice: NetworkChoice, listen: Sequence[str], relay: "Relaying", announce: tuple[str, ...] = ()
) -> "SwarmSettings":
    """The swarm's settings for these switches; `relay` is what the node does unless told not to.

    A node that listens on nothing but loopback asks no router and calls into no local network. Raises SwarmError for an
    entry that is no address.
    """
    from p2pcap.swarm.addresses import parse_endpoint
    from p2pcap.swarm.settings import SwarmSettings

    for entry in choice["dht_entries"]:
        parse_endpoint(entry)
    outside = not all(text.startswith(("/ip4/127.", "/ip6/::1/")) for text in listen)
    return SwarmSettings(
        announce=announce,
        relay="no" if choice["no_relay"] else relay,
        traverse=True,
        map_port=outside and not choice["no_upnp"],
        mdns=outside and not choice["no_mdns"],
        dht=choice["dht"] or bool(choice["dht_entries"]),
        dht_entries=choice["dht_entries"],
        upload=_rate(choice["upload_limit"]),
        download=_rate(choice["download_limit"]),
    )


def _rate(megabytes: float | None) -> float:
    return math.inf if megabytes is None else megabytes * MEGABYTE
