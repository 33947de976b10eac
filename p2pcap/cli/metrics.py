"""`p2pcap metrics`: a running node's numbers for Prometheus."""

import click

from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import result
from p2pcap.node.client import Client


@click.command(
    epilog="""\b
Examples:
  p2pcap metrics
  p2pcap metrics > p2pcap.prom.new && mv p2pcap.prom.new p2pcap.prom"""
)
@node_option
def metrics(node: str | None) -> None:
    """Print a running node's numbers in Prometheus' text format.

    A node exporter takes them from a file: write it anew every minute in its textfile directory.
    """
    with Client(find_running(node).socket) as client:
        text = client.metrics()
    for line in text.removesuffix("\n").split("\n"):
        result(line)
