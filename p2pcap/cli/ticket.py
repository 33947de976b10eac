"""`p2pcap ticket`: pass the invitation on, and read what a ticket says."""

import sys
import time
from collections.abc import Iterator, Sequence

import click

from p2pcap.cli.amounts import duration
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.join import ticket_text
from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import result, result_json
from p2pcap.node.client import Client
from p2pcap.project.ticket import Ticket

QUIET = 4
"""Light modules around a QR code (ISO/IEC 18004, 5.3.8)."""

LIGHT_ON_DARK = "\x1b[97;40m"
"""Colours of the terminal's own, so that the code is the right way round whatever its theme."""


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  p2pcap ticket > ticket.txt
  p2pcap ticket show ticket.txt""",
)
@forms("As one JSON object.", "Only the ticket, as without it.")
@node_option
@click.pass_context
def ticket(ctx: click.Context, form: Form, node: str | None) -> None:
    """Print a ticket that names a running node as a peer, so others can join when the first ones have left."""
    if ctx.invoked_subcommand is not None:
        return
    with Client(find_running(node).socket) as client:
        made = client.ticket()
    if form == "json":
        result_json({"ticket": made})
    else:
        result(made)


@ticket.command(
    epilog="""\b
Examples:
  p2pcap ticket show p2pcap:abc…
  p2pcap ticket show ticket.txt --qr
  p2pcap ticket | p2pcap ticket show - --qr"""
)
@click.argument("text", metavar="TICKET")
@click.option("--qr", is_flag=True, help="Also draw it as a QR code.")
@forms("As one JSON object.", "Only the project's hash.")
def show(text: str, qr: bool, form: Form) -> None:
    """Say in words what TICKET says: which project, whom it admits, where peers are. Its secret is not shown."""
    opened = Ticket.parse(ticket_text(text))
    if form == "json":
        result_json(plain(opened))
        return
    for line in described(opened, time.time()) if form == "people" else [opened.root.hex()]:
        result(line)
    if qr:
        draw(str(opened))


def plain(ticket: Ticket) -> dict[str, object]:
    """What a ticket says, for machines; `expires` in unix seconds, `uses` 0 for any number."""
    invitation = ticket.invitation
    invited = invitation and {
        "peer_id": invitation.key.peer_id,
        "uses": invitation.uses,
        "expires": invitation.expires,
    }
    return {
        "project": ticket.name,
        "root": ticket.root.hex(),
        "invitation": invited,
        "addresses": list(ticket.addresses),
        "length": len(str(ticket)),
    }


def described(ticket: Ticket, now: float) -> Iterator[str]:
    """What a ticket says, line by line, at `now` (unix seconds)."""
    yield f"project     {ticket.name}"
    yield f"root        {ticket.root.hex()}"
    invitation = ticket.invitation
    if invitation is None:
        yield "invitation  none: to watch with --observe, or to join as the project admits"
    else:
        whom = f"up to {invitation.uses} authors" if invitation.uses else "any number of authors"
        left = invitation.expires - now
        until = f"for another {duration(left)}" if left >= 0 else f"no more: it expired {duration(-left)} ago"
        yield f"invitation  {invitation.key.peer_id}"
        yield f"admits      {whom}, {until}"
    for address in ticket.addresses:
        yield f"peer        {address}"
    yield f"length      {len(str(ticket))} characters"


def draw(text: str) -> None:
    """Print `text` as a QR code on standard output."""
    import segno

    coded = segno.make(text, error="l", micro=False)
    for line in half_blocks([[bool(module) for module in row] for row in coded.matrix_iter(border=QUIET)]):
        click.echo(f"{LIGHT_ON_DARK}{line}\x1b[0m" if sys.stdout.isatty() else line)


def half_blocks(rows: Sequence[Sequence[bool]]) -> Iterator[str]:
    """Dark modules (True) left blank and light ones drawn, two rows in one line of text."""
    for top in range(0, len(rows), 2):
        below = rows[top + 1] if top + 1 < len(rows) else [True] * len(rows[top])
        yield "".join(" ▄▀█"[2 * (not upper) + (not lower)] for upper, lower in zip(rows[top], below, strict=True))
