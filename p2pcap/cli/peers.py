"""`p2pcap peers`: everybody a running node is connected to."""

import time
from collections.abc import Sequence
from typing import Literal, get_args

import click
import msgspec

from p2pcap.cli.amounts import duration, size
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import encoded_json, result, results, table
from p2pcap.node.client import Client
from p2pcap.node.snapshot import PeerInfo, decode

Column = Literal["peer", "name", "role", "engine", "way", "rtt", "since", "score", "sent", "received", "address"]
COLUMNS: tuple[Column, ...] = get_args(Column)


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
        results(
            table(COLUMNS, [shown(peer, now, COLUMNS) for peer in connected]), "no peer is connected; see p2pcap doctor"
        )


def shown(peer: PeerInfo, now: float, columns: Sequence[Column]) -> tuple[object, ...]:
    """What a table says of a peer in these columns, as seen at `now` (unix seconds)."""
    cells: dict[Column, object] = {
        "peer": peer.peer_id,
        "name": peer.name,
        "role": peer.role,
        "engine": "ready" if peer.engine_ready else "",
        "way": f"{peer.direction}, relayed" if peer.relayed else peer.direction,
        "rtt": f"{1000 * peer.rtt:.0f} ms" if peer.rtt is not None else "",
        "since": duration(now - peer.since),
        "score": peer.score,
        "sent": size(peer.sent),
        "received": size(peer.received),
        "address": peer.address,
    }
    return tuple(cells[column] for column in columns)
