"""`p2pcap peers`: everybody a running node is connected to."""

import time

import click
import msgspec

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import encoded_json, result, results, table
from p2pcap.cli.status import duration, size
from p2pcap.node.client import Client
from p2pcap.node.snapshot import PeerInfo, decode

COLUMNS = ("peer", "name", "role", "engine", "way", "rtt", "since", "score", "sent", "received", "address")


@click.command(
    epilog="""\b
Examples:
  p2pcap peers
  p2pcap peers --json
  p2pcap peers -q | wc -l"""
)
@forms("As one JSON array.", "Only peer ids, one a line.")
@node_option
def peers(form: Form, node: str | None) -> None:
    """List the peers that a running node is connected to, and how well each connection does.

    way: who dialled, and whether another peer carries the connection. rtt: a round trip. score: below 0 for a peer that
    misbehaved. sent and received: since the node started.
    """
    with Client(find_running(node).socket) as client:
        connected = decode(client.status()).peers
    if form == "json":
        encoded_json(msgspec.json.encode(connected))
    elif form == "quiet":
        for peer in connected:
            result(peer.peer_id)
    else:
        now = time.time()
        results(table(COLUMNS, [_row(peer, now) for peer in connected]), "no peer is connected; see p2pcap doctor")


def _row(peer: PeerInfo, now: float) -> tuple[object, ...]:
    return (
        peer.peer_id,
        peer.name,
        peer.role,
        "ready" if peer.engine_ready else "",
        f"{peer.direction}, relayed" if peer.relayed else peer.direction,
        f"{1000 * peer.rtt:.0f} ms" if peer.rtt is not None else "",
        duration(now - peer.since),
        peer.score,
        size(peer.sent),
        size(peer.received),
        peer.address,
    )
