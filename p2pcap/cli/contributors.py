"""`p2pcap contributors`: who made how much, and what verifiers found of it."""

import click
import msgspec

from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import result, table
from p2pcap.cli.status import said
from p2pcap.export.escape import safe_json
from p2pcap.node.client import Client
from p2pcap.node.snapshot import ContributorInfo, decode

COLUMNS = ("contributor", "name", "rows", "errors", "right", "wrong", "unchecked", "tier", "")


@click.command(
    epilog="""\b
Examples:
  p2pcap contributors
  p2pcap contributors --json"""
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each contributor, a line each.")
@node_option
def contributors(as_json: bool, node: str | None) -> None:
    """List everybody whose captions a running node holds, with what verifiers found of them.

    right and wrong count captions that verifiers looked at, unchecked those that nobody did. Tier 2 is looked at least
    often. Of a contributor in quarantine only what was looked at counts; the last column says why.
    """
    with Client(find_running(node).socket) as client:
        listed = decode(client.status()).contributors
    if as_json:
        for one in listed:
            click.echo(safe_json(msgspec.json.encode(one)))
        return
    for line in table(COLUMNS, [_row(one) for one in listed]):
        result(line)


def _row(one: ContributorInfo) -> tuple[object, ...]:
    return (one.peer_id, one.name, one.rows, one.errors, *said(one), one.standing.why)
