"""`p2pcap inspect`: what a file, a ticket, a key or a few bytes are, in words."""

import sys
import time
from typing import TYPE_CHECKING

import click

from p2pcap.cli.exits import OK, exit_code
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.output import clean, encoded_json, result
from p2pcap.errors import UntrustedError

if TYPE_CHECKING:
    from p2pcap_bootstrap.describing import Report


@click.command(
    epilog="""\b
Examples:
  p2pcap inspect p2pcap:abc…
  p2pcap inspect cats/signed/manifest.cbor
  p2pcap inspect 12D3KooW…
  p2pcap query "SELECT …" -q | p2pcap inspect -"""
)
@click.argument("thing", metavar="FILE|TICKET|KEY|PEERID|HEX")
@forms("As one JSON object.", "Only what does not hold.")
def inspect(thing: str, form: Form) -> int:
    """Say what something is, who signed it, and whether it holds; "-" reads standard input.

    Knows tickets, key files (the public half), roots, manifests, plans, pages of chunk tables, item lists, every signed
    statement, databases and exports. Nothing is fetched and nothing is changed.
    """
    from p2pcap_bootstrap.inspecting import inspect as look

    report = look(thing, time.time(), sys.stdin.buffer.read)
    if form == "json":
        _show_json(report)
    elif form == "people":
        _show(report)
    for fault in report.faults if form != "json" else ():
        result(f"  {fault}")
    return exit_code(UntrustedError()) if report.holds is False else OK


def _show(report: "Report") -> None:
    result(f"{report.kind}: {VERDICTS[report.holds]}")
    width = max(map(len, report.facts), default=0)
    for label, text in report.facts.items():
        result(f"  {clean(label).ljust(width)}  {text}")


def _show_json(report: "Report") -> None:
    import msgspec

    encoded_json(msgspec.json.encode(report))


VERDICTS = {True: "holds", False: "DOES NOT HOLD", None: "nothing in it is signed, or what signs it is elsewhere"}
