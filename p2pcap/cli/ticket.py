"""`p2pcap ticket`: pass the invitation on."""

import click

from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import result
from p2pcap.node.client import Client


@click.command(
    epilog="""\b
Example:
  p2pcap ticket > ticket.txt"""
)
@node_option
def ticket(node: str | None) -> None:
    """Print a ticket that names a running node as a peer, so others can join when the first ones have left."""
    with Client(find_running(node).socket) as client:
        result(client.ticket())
