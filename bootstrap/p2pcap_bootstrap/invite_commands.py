"""`p2pcap invite`: make tickets, and see how often each was used."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.output import result, result_json, results, say, table, warn
from p2pcap.cli.passphrase import asker, passphrase_option

if TYPE_CHECKING:
    from p2pcap_bootstrap.workspace import Workspace

MOST_DAYS = 3_650


@click.command(
    epilog="""\b
Examples:
  p2pcap invite cats                                  anybody who holds it, until the manifest expires
  p2pcap invite cats --name team --uses 5 --expires 14 --qr
  p2pcap invite cats --address /dns4/cats.example.org/tcp/4001
  p2pcap invite cats --list"""
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--uses", default=0, type=click.IntRange(0, 65_536), help="How many may join. [default: any number]")
@click.option(
    "--expires",
    "days",
    metavar="DAYS",
    type=FiniteRange(0.01, MOST_DAYS),
    help="For how long. [default: until the manifest expires]",
)
@click.option("--name", "label", default="", metavar="LABEL", help="What you call it. [default: ticket-N]")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="MULTIADDR",
    help="Where volunteers find a peer; repeatable. [default: the running coordinator's, or those of the last ticket]",
)
@click.option("--qr", is_flag=True, help="Also draw it as a QR code.")
@click.option("--list", "listing", is_flag=True, help="Show the tickets that were made, and how often each was used.")
@forms("As one JSON object; with --list an array.", "Only the ticket; with --list only the labels.")
@passphrase_option
def invite(
    directory: Path,
    uses: int,
    days: float | None,
    label: str,
    addresses: tuple[str, ...],
    qr: bool,
    listing: bool,
    form: Form,
    passphrase_file: Path | None,
) -> None:
    """Make a ticket to the project of DIRECTORY, with a key of its own; print it, and keep it in DIRECTORY/tickets.

    Works while the coordinator runs and when it does not. p2pcap revoke takes the ticket back.
    """
    from p2pcap_bootstrap import inviting
    from p2pcap_bootstrap.workspace import Workspace

    workspace = Workspace(directory, asker(passphrase_file))
    if listing:
        _list(workspace, form)
        return
    made = inviting.make(workspace, label, uses, days, addresses or _running(workspace), time.time())
    if not made.ticket.addresses:
        warn("the ticket names no peer: start p2pcap bootstrap serve first, or name one with --address")
    say(f"kept as {made.path}; whoever holds it may join, so give it only to those you mean")
    if form == "json":
        result_json({"ticket": str(made.ticket), "file": str(made.path)})
        return
    result(str(made.ticket))
    if qr:
        from p2pcap.cli.ticket import draw

        draw(str(made.ticket))


def _running(workspace: "Workspace") -> tuple[str, ...]:
    """The addresses of the coordinator's node, when it runs."""
    from p2pcap.node.client import Client
    from p2pcap.paths import running_node
    from p2pcap.project.ticket import Ticket

    node = running_node(workspace.node)
    if node is None:
        return ()
    with Client(node.socket) as client:
        return Ticket.parse(client.ticket()).addresses


def _list(workspace: "Workspace", form: Form) -> None:
    from p2pcap_bootstrap import inviting

    joined = inviting.joined(_grants(workspace))
    rows = list(inviting.listed(workspace, inviting.kept(workspace), joined, time.time()))
    if form == "json":
        result_json([dict(zip(("label", "joined", "of", "days_left", "addresses"), row, strict=True)) for row in rows])
    elif form == "quiet":
        for row in rows:
            result(str(row[0]))
    else:
        none = f"no ticket was made here yet; make one with: p2pcap invite {workspace.directory}"
        results(table(("label", "joined", "of", "days left", "addresses"), rows), none)


def _grants(workspace: "Workspace") -> list[bytes]:
    """The grants in the coordinator's table, whether its node runs or not; none where it has never run."""
    from p2pcap.cli.nodes import Target
    from p2pcap.cli.rows import run_query
    from p2pcap.paths import NodePaths, running_node
    from p2pcap_bootstrap.inviting import GRANTS, MAX_GRANTS

    node = running_node(workspace.node)
    if node is None and not NodePaths(workspace.node).database.exists():
        return []
    with run_query(Target(workspace.node, node), GRANTS, MAX_GRANTS, 60.0) as found:
        return [row["envelope"] for batch in found for row in batch.to_pylist()]
