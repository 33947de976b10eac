"""`p2pcap status`: what a node is doing, for people and for programs."""

import sys
import time
from collections.abc import Sequence

import click

from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import result, table
from p2pcap.export.escape import safe_json
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot, ProjectInfo, decode

PEERS, CONTRIBUTORS = 20, 10
"""How many of each are listed."""


@click.command(
    epilog="""\b
Examples:
  p2pcap status
  p2pcap status --json
  p2pcap status --follow --node volunteer"""
)
@click.option("--json", "as_json", is_flag=True, help="The whole snapshot as JSON, on one line.")
@click.option("--follow", is_flag=True, help="Again every second, until interrupted or the node ends.")
@node_option
def status(as_json: bool, follow: bool, node: str | None) -> None:
    """Show what a running node is doing and how far its project is."""
    with Client(find_running(node).socket) as client:
        for data in client.subscribe() if follow else [client.status()]:
            if as_json:
                click.echo(safe_json(data))
            else:
                _show(decode(data), again=follow and sys.stdout.isatty())


def _show(snapshot: NodeSnapshot, *, again: bool) -> None:
    if again:
        click.clear()
    for line in described(snapshot, time.time()):
        result(line)


def described(snapshot: NodeSnapshot, now: float) -> list[str]:
    """The snapshot in plain lines, as seen at `now` (unix seconds)."""
    return [
        *_node_lines(snapshot, now),
        *_project_lines(snapshot),
        *_engine_lines(snapshot),
        *_claim_lines(snapshot),
        *_peer_lines(snapshot, now),
        *_contributor_lines(snapshot),
    ]


def _node_lines(snapshot: NodeSnapshot, now: float) -> list[str]:
    node = snapshot.node
    called = f'"{node.name}" ' if node.name else ""
    return [
        f"node        {called}{node.peer_id}",
        f"            {node.role}, p2pcap {node.version}, process {node.pid}, up {duration(now - node.started)}",
        f"folder      {node.directory}",
        *_under("listens on", node.addresses),
    ]


def _project_lines(snapshot: NodeSnapshot) -> list[str]:
    project = snapshot.project
    if not project.images:
        return [f"project     {project.title} ({project.id[:16]}), not received yet"]
    share = 100 * project.done / project.images
    return [
        f"project     {project.title} ({project.id[:16]}), manifest {project.manifest} signed by {project.signed_by}",
        f"asks        {project.model}: {', '.join(project.prompts)}",
        f"done        {project.done} of {project.images} images ({share:.1f} %), "
        f"{project.chunks_done} of {project.chunks} chunks" + (", finished" if project.finished else ""),
        f"            {project.captions} captioned, {project.errors} errors; {snapshot.fetch.images} images held here",
        *_sealed_lines(project),
    ]


def _sealed_lines(project: ProjectInfo) -> list[str]:
    lines = []
    if project.checkpoint:
        lines.append(f"sealed      {project.sealed} statements, up to checkpoint {project.checkpoint}")
    lines += [f"WARNING     {warning}; ask the maintainer" for warning in project.warnings]
    return lines


def _engine_lines(snapshot: NodeSnapshot) -> list[str]:
    engine = snapshot.engine
    if engine.phase == "off":
        return ["engine      none: this node does not caption"]
    detail = f" ({engine.detail})" if engine.detail else ""
    again = f", restarted {engine.restarts} times" if engine.restarts else ""
    return [
        f"engine      {engine.phase}{detail}{again}" + (f", {engine.device}" if engine.device else ""),
        f"            {engine.rate:.2f} images/s, {engine.average:.2f} on average, {engine.in_flight} in hand",
    ]


def _claim_lines(snapshot: NodeSnapshot) -> list[str]:
    claims = [f"chunk {c.chunk}: {c.done} of {c.images}, lease {duration(c.lease)}" for c in snapshot.claims]
    return _under("claims", claims)


def _peer_lines(snapshot: NodeSnapshot, now: float) -> list[str]:
    lines = [f"peers       {len(snapshot.peers)} connected, {snapshot.engines_ready} engines ready in the swarm"]
    rows = [
        (
            "  " + peer.peer_id,
            peer.name,
            peer.role,
            "ready" if peer.engine_ready else "",
            f"{1000 * peer.rtt:.0f} ms" if peer.rtt is not None else "",
            duration(now - peer.since),
        )
        for peer in snapshot.peers[:PEERS]
    ]
    return [*lines, *table(("  peer", "name", "role", "engine", "rtt", "since"), rows), *_more(snapshot.peers, PEERS)]


def _contributor_lines(snapshot: NodeSnapshot) -> list[str]:
    rows = [("  " + one.peer_id, one.name, one.rows, one.errors) for one in snapshot.contributors[:CONTRIBUTORS]]
    shown = table(("  contributor", "name", "rows", "errors"), rows)
    return [*shown, *_more(snapshot.contributors, CONTRIBUTORS)]


def _more(entries: tuple[object, ...], limit: int) -> list[str]:
    return [f"  and {len(entries) - limit} more"] if len(entries) > limit else []


def _under(title: str, entries: Sequence[str]) -> list[str]:
    """The entries one below the other, the title before the first."""
    return [f"{'' if index else title:<11} {entry}" for index, entry in enumerate(entries)]


def duration(seconds: float) -> str:
    """A length of time in its two largest units: "3d 4h", "2m 10s", "7s"."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or parts or size == 1:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
