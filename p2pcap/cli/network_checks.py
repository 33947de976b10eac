"""What `p2pcap doctor` can see of the network: own addresses, listening, multicast, the router, and who answers.

Each check really does what a node would do, with a deadline. Always holds: every socket is closed, nothing stays
mapped at a router, and no check raises for what it finds.
"""

import errno
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import trio

from p2pcap.cli.amounts import duration
from p2pcap.cli.checks import Finding, Verdict
from p2pcap.cli.status import reached
from p2pcap.errors import SwarmError
from p2pcap.node.ports import last_port
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import Ticket

LAGGING = 0.5
"""Seconds by which an event loop may be late before peers notice."""
PATIENCE = 60.0
"""Seconds a node needs to find its first peers."""
AGREED_MULTICAST = ("224.0.0.251", 5353)
"""Multicast DNS (RFC 6762)."""


def admission(ticket: Ticket) -> Finding:
    """Whether the ticket still admits anybody."""
    if ticket.invitation is None:
        said = f"for {ticket.name}, without an invitation: to watch, or to join as the project admits"
        return Finding("ticket", "ok", said)
    left = ticket.invitation.expires - time.time()
    if left < 0:
        said = f"it expired {duration(-left)} ago, or this clock is wrong. Ask the maintainer for a new one."
        return Finding("ticket", "problem", said)
    return Finding("ticket", "ok", f"for {ticket.name}, admits for another {duration(left)}")


def running(snapshot: NodeSnapshot) -> Iterator[Finding]:
    """What a running node says of itself."""
    network, up = snapshot.network, snapshot.uptime
    reach: Verdict = "warning" if network.reachability == "private" and not network.reached else "ok"
    yield Finding(
        "reached", reach, reached(network) + _and_so(reach, "Forward the port at the router, or wait for a relay.")
    )
    count = f"{len(snapshot.peers)} connected, {network.known} known, up {duration(up)}"
    lonely: Verdict = "problem" if not snapshot.peers and up > PATIENCE else "ok"
    yield Finding("peers", lonely, count + _and_so(lonely, "Ask for a newer ticket, or name a peer with --peer."))
    late: Verdict = "warning" if snapshot.node.loop_lag > LAGGING else "ok"
    said = f"at most {snapshot.node.loop_lag:.2f} s late in the last minute"
    yield Finding("event loop", late, said + _and_so(late, "The machine is too busy for its peers."))
    for trouble in network.troubles:
        yield Finding("peers", "warning", trouble)
    for warning in snapshot.project.warnings:
        yield Finding("project", "warning", f"{warning}. Ask the maintainer.")


def _and_so(verdict: Verdict, what_to_do: str) -> str:
    return "" if verdict == "ok" else f". {what_to_do}"


def addresses() -> Iterator[Finding]:
    """Which address this machine sends from, for each family; asks the routing table and sends nothing."""
    routed = own_addresses()
    if not routed:
        yield Finding("addresses", "problem", "there is no route to the outside. Connect to a network.")
    for address in routed:
        kind = "only valid behind the router" if ip_address(address).is_private else "valid everywhere"
        yield Finding("addresses", "ok", f"{address} ({kind})")


def own_addresses() -> list[str]:
    """The addresses this machine sends from to the outside, one of each family that has a route."""
    from p2pcap.swarm.addresses import parse_listen, reachable

    found = [reachable(parse_listen(any_))[0].split("/")[2] for any_ in ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0")]
    return [address for address in found if not ip_address(address).is_loopback]


def listening(paths: NodePaths) -> Finding:
    """Whether a TCP port can be had, and best the one that the node had last."""
    port = last_port(paths.port)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port or 0))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                said = f"port {port}, the node's last one, is taken by another program: it will get another one."
                return Finding("listening", "warning", said)
            return Finding("listening", "problem", f"no TCP port can be opened: {error.strerror}. See what forbids it.")
    return Finding("listening", "ok", f"port {port} is free" if port else "a TCP port can be opened")


def multicast() -> Finding:
    """Whether peers on the local network can be found: joining the group is what multicast DNS needs."""
    group, port = AGREED_MULTICAST
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(("", port))
            member = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("0.0.0.0"))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError as error:
            said = f"no multicast here ({error.strerror}): peers on the local network must be named with --peer."
            return Finding("local network", "warning", said)
    return Finding("local network", "ok", "multicast DNS can be used")


async def answering(ticket: Ticket, extra: Sequence[str]) -> list[Finding]:
    """Dial every address of the ticket, side by side, and ask whether its project is there."""
    from p2pcap.swarm.probe import probe

    addresses = list(dict.fromkeys((*extra, *ticket.addresses)))
    found: dict[str, Finding] = {}

    async def look(address: str) -> None:
        try:
            found[address] = Finding("ticket", "ok", f"{address}: {await probe(address, ticket.root)}")
        except SwarmError as error:
            found[address] = Finding("ticket", "warning", f"{address}: {error}")

    async with trio.open_nursery() as nursery:
        for address in addresses:
            nursery.start_soon(look, address)
    findings = [found[address] for address in addresses]
    if any(finding.verdict == "ok" for finding in findings):
        return findings
    why = "none of its addresses answers" if addresses else "it names no address"
    return [*findings, Finding("ticket", "problem", f"{why}. Ask for a newer one, or name a peer with join --peer.")]


async def router() -> list[Finding]:
    """Whether a router would forward a port, and what kind of NAT that leaves. Nothing is mapped."""
    from p2pcap.swarm.nat.natpmp import NatPmp
    from p2pcap.swarm.nat.upnp import Gateway, find_gateway

    own, external = own_addresses(), ""
    try:
        asked = NatPmp(None)
        gateway: NatPmp | Gateway = asked if await asked.answers() else await find_gateway(None)
        external = await gateway.external()
    except SwarmError as error:
        said = f"{error} Without it others reach this machine through relays."
        return [Finding("router", "warning", said), nat(own, external)]
    return [Finding("router", "ok", f"it can be asked to forward a port ({gateway.by})"), nat(own, external)]


def nat(own: Sequence[str], external: str) -> Finding:
    """What kind of address translation lies between this machine, which sends from `own`, and the outside, where its
    router says to have the address `external` (empty: nobody said). Pure."""
    ours = [ip_address(address) for address in own]
    if any(address.is_global for address in ours):
        return Finding("nat", "ok", "none: this machine has an address that is valid everywhere")
    if not ours:
        return Finding("nat", "warning", "unknown, without a route to the outside. Connect to a network.")
    if not external:
        said = "one at least, of unknown kind. A node that runs finds out from its peers: p2pcap status"
        return Finding("nat", "ok", said)
    if ip_address(external).is_global:
        return Finding("nat", "ok", "one, at the router, which has an address that is valid everywhere")
    said = "two: the router's own address is not valid outside either, so no port can be forwarded. Relays and"
    return Finding(
        "nat", "warning", f"{said} hole punching are used; ask the provider for a public or an IPv6 address."
    )
