"""`p2pcap contributors`: who made how much, and what verifiers found of it."""

import click
import msgspec

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import encoded_json, result, results, table
from p2pcap.cli.status import said
from p2pcap.node.client import Client
from p2pcap.node.snapshot import ContributorInfo, decode

COLUMNS = ("contributor", "name", "rows", "errors", "right", "wrong", "unchecked", "tier", "")


@click.command(
    epilog="""\b
Examples:
  p2pcap contributors
  p2pcap contributors --json"""
)
@forms("As one JSON array.", "Only peer ids, one a line.")
@node_option
def contributors(form: Form, node: str | None) -> None:
    """List everybody whose captions a running node holds, with what verifiers found of them.

    right and wrong count captions that verifiers looked at, unchecked those that nobody did. Tier 2 is looked at least
    often. Of a contributor in quarantine only what was looked at counts; the last column says why.
    """
    with Client(find_running(node).socket) as client:
        listed = decode(client.status()).contributors
    if form == "json":
        encoded_json(msgspec.json.encode(listed))
    elif form == "quiet":
        for one in listed:
            result(one.peer_id)
    else:
        results(table(COLUMNS, [_row(one) for one in listed]), "nobody has captioned anything that this node holds")


def _row(one: ContributorInfo) -> tuple[object, ...]:
    return (one.peer_id, one.name, one.rows, one.errors, *said(one), one.standing.why)
