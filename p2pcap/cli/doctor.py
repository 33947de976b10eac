"""`p2pcap doctor`: what keeps this machine from taking part, and what to do about it."""

import getpass
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from p2pcap.cli import checks, engine_checks, project_checks
from p2pcap.cli.checks import Finding
from p2pcap.cli.exits import FAILED, OK
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.join import ticket_text
from p2pcap.cli.nodes import Target, find_node, node_option
from p2pcap.cli.output import result, result_json, say
from p2pcap.cli.redacting import redacted
from p2pcap.errors import NotRunningError, P2pcapError, TicketError
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot, decode
from p2pcap.paths import NodePaths, home, project_node, running_node
from p2pcap.project.ticket import Ticket


@click.command(
    epilog="""\b
Examples:
  p2pcap doctor
  p2pcap doctor p2pcap:abc…
  p2pcap doctor ticket.txt --json
  p2pcap doctor -q               only what is not well
  p2pcap doctor --redacted       to paste into a report"""
)
@click.argument("ticket", required=False)
@node_option
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="Another address to dial.")
@click.option("--no-upnp", is_flag=True, help="Do not look for a router that forwards ports.")
@click.option("--offline", is_flag=True, help="Look at this machine only, and send nothing.")
@click.option("--quick", is_flag=True, help="Do not load vLLM, and do not measure the disk.")
@click.option("--redacted", "redact", is_flag=True, help="Without paths, addresses, names, keys and tokens.")
@forms("As one JSON array.", "Only what is not well.")
def doctor(
    ticket: str | None,
    node: str | None,
    peers: tuple[str, ...],
    no_upnp: bool,
    offline: bool,
    quick: bool,
    redact: bool,
    form: Form,
) -> int:
    """Look at this machine, and say for each thing whether it is well or what to do.

    A running node is asked how it stands. Without one, the addresses in TICKET, or in the ticket joined before, are
    dialled. Ends with 0 when nothing is a problem.
    """
    findings = []
    if redact and form == "people":
        result(FENCE)
    for finding in _findings(ticket, node, Calls(peers, not no_upnp and not offline, not offline), quick, redact):
        findings.append(finding)
        if form != "json" and (form == "people" or finding.verdict != "ok"):
            result(f"{finding.verdict:<8} {finding.check:<13} {finding.text}")
    if redact and form == "people":
        result(FENCE)
    if form == "json":
        result_json([asdict(finding) for finding in findings])
    elif not redact:
        say("to paste it into a report: p2pcap doctor --redacted")
    return FAILED if any(finding.verdict == "problem" for finding in findings) else OK


FENCE = "```"
"""Around what is pasted into a report, so that it stays as it is."""


@dataclass(frozen=True)
class Calls:
    """Who may be called: addresses beside the ticket's, the router, anybody at all."""

    peers: tuple[str, ...]
    router: bool
    anybody: bool


def _findings(text: str | None, node: str | None, calls: Calls, quick: bool, redact: bool) -> Iterator[Finding]:
    """Every finding, as soon as it is there; what takes longest comes last."""
    ticket, refused = _given(text)
    target = _target(ticket, node)
    snapshot, silent = _asked(target)
    loading = None if quick or snapshot is not None else engine_checks.Loading.start()
    try:
        for finding in _each(ticket, target, snapshot, calls, quick, (refused, silent)):
            yield _without_names(finding, _names(ticket, target, snapshot)) if redact else finding
        if loading is not None:
            found = loading.finding()
            yield _without_names(found, _names(ticket, target, snapshot)) if redact else found
    finally:
        if loading is not None:
            loading.process.kill()


def _each(
    ticket: Ticket | None,
    target: Target,
    snapshot: NodeSnapshot | None,
    calls: Calls,
    quick: bool,
    first: Sequence[Finding | None],
) -> Iterator[Finding]:
    yield checks.programs()
    yield from (finding for finding in first if finding is not None)
    yield from checks.folder(target.paths)
    yield checks.disk(target.directory)
    if not quick:
        yield checks.disk_speed(target.directory)
    yield checks.memory()
    yield checks.sockets()
    yield checks.clock(snapshot)
    yield engine_checks.engine()
    known = ticket or _kept(target.paths)
    yield from _project(known, target, snapshot, calls)
    yield from _network(known, target, snapshot, calls)


def _project(ticket: Ticket | None, target: Target, snapshot: NodeSnapshot | None, calls: Calls) -> Iterator[Finding]:
    opened = project_checks.database(target)
    yield opened
    found = None
    readable = target.paths.database.exists() if target.running is None else snapshot is not None
    if opened.verdict == "ok" and readable:
        found, findings = project_checks.project(target, ticket.root if ticket else None, time.time())
        yield from findings
    if calls.anybody:
        yield from project_checks.hub()
        if found is not None:
            yield from project_checks.models(found)


def _names(ticket: Ticket | None, target: Target, snapshot: NodeSnapshot | None) -> list[str]:
    """What is called by a name here, and where it is."""
    named = [_user(), socket.gethostname(), os.path.expanduser("~"), str(home()), str(target.directory)]
    named += [ticket.name] if ticket else []
    named += [target.running.name, target.running.project] if target.running else []
    named += [snapshot.node.name, snapshot.project.title] if snapshot else []
    return [name for name in named if name not in ("", "/", "~")]


def _user() -> str:
    """This user's name; "" for one who has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _without_names(finding: Finding, names: Sequence[str]) -> Finding:
    return replace(finding, text=redacted(finding.text, names))


def _network(ticket: Ticket | None, target: Target, snapshot: NodeSnapshot | None, calls: Calls) -> Iterator[Finding]:
    from p2pcap.cli import network_checks

    yield from network_checks.addresses()
    if ticket is not None:
        yield network_checks.admission(ticket)
    if snapshot is not None:
        yield from network_checks.running(snapshot)
        return
    if target.running is None:  # one that hangs has its port still
        yield network_checks.listening(target.paths)
    yield network_checks.multicast()
    if calls.anybody:
        yield from _called(ticket, calls)


def _called(ticket: Ticket | None, calls: Calls) -> list[Finding]:
    """The router and the ticket's addresses, all at the same time."""
    import structlog
    import trio

    from p2pcap.cli import network_checks

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    findings: list[list[Finding]] = [[], []]

    async def ask_router() -> None:
        findings[0] += await network_checks.router()

    async def ask_peers(ticket: Ticket) -> None:
        findings[1] += await network_checks.answering(ticket, calls.peers)

    async def ask() -> None:
        async with trio.open_nursery() as nursery:
            if calls.router:
                nursery.start_soon(ask_router)
            if ticket is not None:
                nursery.start_soon(ask_peers, ticket)

    trio.run(ask)
    return findings[0] + findings[1]


def _given(text: str | None) -> tuple[Ticket | None, Finding | None]:
    """The ticket that was given, or why it is none."""
    try:
        return (Ticket.parse(ticket_text(text)), None) if text is not None else (None, None)
    except TicketError as error:
        return None, Finding("ticket", "problem", str(error))


def _kept(paths: NodePaths) -> Ticket | None:
    """The ticket of an earlier join."""
    try:
        return Ticket.parse(paths.ticket.read_text(errors="replace"))
    except (OSError, TicketError):
        return None


def _target(ticket: Ticket | None, node: str | None) -> Target:
    """The node meant, whether it runs, has run, or is still to be made. Raises ConfigError when it is not clear."""
    if ticket is not None and node is None:
        directory = project_node(home(), ticket.root)
        return Target(directory, running_node(directory))
    try:
        return find_node(node)
    except NotRunningError:
        return Target(NodePaths(Path(node)).directory if node else home(), None)


def _asked(target: Target) -> tuple[NodeSnapshot | None, Finding | None]:
    """What a running node shows of itself, or why it shows nothing."""
    if target.running is None:
        return None, None
    try:
        with Client(target.running.socket) as client:
            return decode(client.status()), None
    except P2pcapError as error:
        return None, Finding("node", "problem", str(error))
