"""`p2pcap status`: what a node is doing, for people and for programs."""

import sys
import time
from collections.abc import Sequence

import click

from p2pcap.cli.amounts import duration, size
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import encoded_json, result, table
from p2pcap.cli.pause import clock_time
from p2pcap.cli.peers import Column, shown
from p2pcap.node.client import Client
from p2pcap.node.snapshot import (
    AuditInfo,
    ContributorInfo,
    EngineUnit,
    NetworkInfo,
    NodeInfo,
    NodeSnapshot,
    ProjectInfo,
    StandingInfo,
    decode,
)

PEERS, CONTRIBUTORS, TROUBLES, CODES = 20, 10, 4, 8
"""How many of each are listed."""
ENGINE_TABLE = ("  engine", "phase", "images/s", "tokens/s", "batch", "waiting", "memory", "power", "warm", "busy")
CONTRIBUTOR_TABLE = ("  contributor", "name", "rows", "errors", "right", "wrong", "unchecked", "tier")
PEER_COLUMNS: tuple[Column, ...] = ("peer", "name", "role", "engine", "way", "rtt", "since", "sent", "received")


@click.command(
    epilog="""\b
Examples:
  p2pcap status
  p2pcap status --json
  p2pcap status --follow --node volunteer"""
)
@click.option("-f", "--follow", is_flag=True, help="Again every second, until interrupted or the node ends.")
@forms("The whole snapshot as JSON, on one line.", "Only what the node is doing, in one word.")
@node_option
def status(form: Form, follow: bool, node: str | None) -> None:
    """Show what a running node is doing and how far its project is."""
    with Client(find_running(node).socket) as client:
        for data in client.subscribe() if follow else [client.status()]:
            if form == "json":
                encoded_json(data)
            elif form == "quiet":
                result(decode(data).node.state)
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
        *network_lines(snapshot, now),
        *_project_lines(snapshot),
        *_engine_lines(snapshot),
        *_standing_lines(snapshot.standing),
        *_checked_lines(snapshot.audit),
        *_claim_lines(snapshot),
        *_peer_lines(snapshot, now),
        *_contributor_lines(snapshot),
        *_contradiction_lines(snapshot),
    ]


def _node_lines(snapshot: NodeSnapshot, now: float) -> list[str]:
    node = snapshot.node
    called = f'"{node.name}" ' if node.name else ""
    return [
        f"node        {called}{node.peer_id}",
        f"            {node.role}, p2pcap {node.version}, process {node.pid}, up {duration(now - node.started)}",
        *_state_lines(node, now),
        f"folder      {node.directory}",
        *_under("listens on", node.addresses),
    ]


def _state_lines(node: NodeInfo, now: float) -> list[str]:
    """What it does, why, and until when."""
    if not node.state:
        return []
    until = f", until {clock_time(node.paused_until, now)}" if node.paused_until is not None else ""
    return [f"state       {node.state}: {node.state_why}{until}"]


def network_lines(snapshot: NodeSnapshot, now: float) -> list[str]:
    """How the node is connected, as seen at `now` (unix seconds)."""
    network = snapshot.network
    through = f", {network.relayed} of them through relays" if network.relayed else ""
    most = f"; {network.max_connections} at most" if network.max_connections else ""
    synced = f"{duration(now - network.synced)} ago" if network.synced else "not yet"
    rest = [
        f"{network.incoming} connections in, {network.outgoing} out{through}{most}; {network.known} peers known, "
        f"{network.banned} banned",
        f"{size(network.sent)} sent, {size(network.received)} received; content {size(network.uploaded)} up"
        f"{_cap(network.upload_limit)}, {size(network.downloaded)} down{_cap(network.download_limit)}",
        f"all statements compared with a peer: {synced}",
    ]
    if network.circuits or network.carried:
        rest.append(f"carries {network.circuits} connections for others, {size(network.carried)} so far")
    rest += [f"not connected: {trouble}" for trouble in network.troubles[:TROUBLES]]
    return _under("network", [reached(network), *rest])


def reached(network: NetworkInfo) -> str:
    """Where the node stands and how others get through to it, in words."""
    stands = {
        "public": "others can dial this node",
        "private": "behind a router or firewall",
        "unknown": "not known yet whether others can dial this node",
    }[network.reachability]
    if network.port_mapping:
        stands += f" (port mapping: {network.port_mapping.partition('. ')[0]})"
    ways = [f"{len(network.relays)} relays" if way == "relay" else way for way in network.reached if way != "direct"]
    if ways:
        return f"{stands}; reached through {' and '.join(ways)}"
    return stands if network.reachability != "private" else f"{stands}; nobody can reach it, it can dial others"


def _cap(limit: float | None) -> str:
    return f" (limit {size(limit)}/s)" if limit is not None else ""


def _project_lines(snapshot: NodeSnapshot) -> list[str]:
    project = snapshot.project
    if not project.images:
        return [f"project     {project.title} ({project.id[:16]}), not received yet"]
    share = 100 * project.done / max(1, project.wanted)
    return [
        f"project     {project.title} ({project.id[:16]}), manifest {project.manifest} signed by {project.signed_by}",
        *_stage_lines(project),
        *_audit_lines(project),
        f"done        {project.done} of {project.wanted} images ({share:.1f} %), "
        f"{project.chunks_done} of {project.chunks} chunks" + (", finished" if project.finished else ""),
        f"            {project.captions} captioned, {project.errors} errors; {snapshot.fetch.images} images held here",
        *_failure_lines(project),
        *_held_lines(snapshot),
        *_sealed_lines(project),
    ]


def _stage_lines(project: ProjectInfo) -> list[str]:
    """What is asked; where there are several stages, how far each of them is."""
    paused = ["PAUSED      nobody works on it until the maintainer lets them"] if project.paused else []
    if len(project.stages) < 2:
        return [f"asks        {project.model}: {', '.join(project.prompts)}", *paused]
    lines = [
        f"{stage.name}: {stage.model}: {', '.join(stage.prompts)}; {stage.done} of {project.images} images"
        + (", paused" if stage.paused else ", finished" if stage.finished else "")
        for stage in project.stages
    ]
    return [*_under("stages", lines), *paused]


def _audit_lines(project: ProjectInfo) -> list[str]:
    """Which stages nobody checks."""
    bare = [stage.name for stage in project.stages if not stage.audited]
    if not bare:
        return []
    which = "" if len(bare) == len(project.stages) else f" in {', '.join(bare)}"
    return [f"checked by  nobody{which}: the project is not calibrated, so captions count as their authors sent them"]


def _checked_lines(audit: AuditInfo) -> list[str]:
    """What this node found, where it checks others."""
    found = audit.right + audit.wrong + audit.unsure
    if not (audit.verifier or found):
        return []
    role = "as a verifier" if audit.verifier else "as any volunteer, a few"
    return [
        f"checks      {role}: {found} captions, {audit.wrong} of them wrong, {audit.unsure} unsure; "
        f"{audit.waiting} results wait"
    ]


def _failure_lines(project: ProjectInfo) -> list[str]:
    codes = ", ".join(f"{count} {code}" for code, count in project.failures[:CODES])
    more = ", …" if len(project.failures) > CODES else ""
    return [f"            errors: {codes}{more}; p2pcap failures lists them"] if codes else []


def _held_lines(snapshot: NodeSnapshot) -> list[str]:
    project, role = snapshot.project, snapshot.store.role
    if project.held >= project.done and role == "full":
        return []
    return [f"kept here   {project.held} of {project.done} rows counted (store {role})"]


def _sealed_lines(project: ProjectInfo) -> list[str]:
    lines = []
    if project.checkpoint:
        lines.append(f"sealed      {project.sealed} statements, up to checkpoint {project.checkpoint}")
    lines += [f"WARNING     {warning}; ask the maintainer" for warning in project.warnings]
    return lines


def _engine_lines(snapshot: NodeSnapshot) -> list[str]:
    engine = snapshot.engine
    if engine.phase == "off":
        away = snapshot.node.role == "volunteer" and snapshot.node.state
        return ["engine      none now" if away else "engine      none: this node does not caption"]
    detail = f" ({engine.detail})" if engine.detail else ""
    again = f", restarted {engine.restarts} times" if engine.restarts else ""
    return [
        f"engine      {engine.phase}{detail}{again}" + (f", {engine.device}" if engine.device else ""),
        f"            {engine.rate:.2f} images/s, {engine.average:.2f} on average, {engine.in_flight} in hand",
        f"            {engine.tokens:.0f} tokens/s; {engine.running} requests in the batch, {engine.waiting} waiting, "
        f"{100 * engine.kv:.0f} % of the memory for keys and values in use",
        *_under("", engine.notices),
        *_unit_lines(engine.units),
    ]


def _unit_lines(units: Sequence[EngineUnit]) -> list[str]:
    """The engines one by one, where there are several or their GPUs tell something."""
    if len(units) < 2 and all(unit.temperature is None and unit.power is None for unit in units):
        return [f"            {unit.notice}" for unit in units if unit.notice]
    rows = [
        (
            "  " + unit.name,
            unit.phase,
            f"{unit.rate:.2f}",
            f"{unit.tokens:.0f}",
            unit.running,
            unit.waiting,
            f"{100 * unit.kv:.0f} %",
            _power(unit),
            f"{unit.temperature} °C" if unit.temperature is not None else "",
            f"{100 * unit.busy:.0f} %" if unit.busy is not None else "",
        )
        for unit in units
    ]
    return [*table(ENGINE_TABLE, rows), *(f"  {unit.name}: {unit.notice}" for unit in units if unit.notice)]


def _power(unit: EngineUnit) -> str:
    """What its GPUs draw, of what they may: "310 of 700 W"."""
    if unit.power is None:
        return ""
    return f"{unit.power:.0f} W" if unit.power_limit is None else f"{unit.power:.0f} of {unit.power_limit:.0f} W"


def _claim_lines(snapshot: NodeSnapshot) -> list[str]:
    claims = [f"chunk {c.chunk}: {c.done} of {c.images}, lease {duration(c.lease)}" for c in snapshot.claims]
    return _under("claims", claims)


def _peer_lines(snapshot: NodeSnapshot, now: float) -> list[str]:
    lines = [f"peers       {len(snapshot.peers)} connected, {snapshot.engines_ready} engines ready in the swarm"]
    rows = [shown(peer, now, PEER_COLUMNS) for peer in snapshot.peers[:PEERS]]
    return [*lines, *(f"  {line}" for line in table(PEER_COLUMNS, rows)), *_more(snapshot.peers, PEERS)]


def _contributor_lines(snapshot: NodeSnapshot) -> list[str]:
    rows = [("  " + one.peer_id, one.name, one.rows, one.errors, *said(one)) for one in snapshot.contributors]
    shown = table(CONTRIBUTOR_TABLE, rows[:CONTRIBUTORS])
    return [*shown, *_more(snapshot.contributors, CONTRIBUTORS)]


def said(one: ContributorInfo) -> tuple[int, int, int, str]:
    """What verifiers found, as the table's last columns show it."""
    standing = one.standing
    return (
        standing.passed,
        standing.failed,
        standing.unchecked,
        "quarantine" if standing.quarantined else str(standing.tier),
    )


def _standing_lines(standing: StandingInfo | None) -> list[str]:
    """How the node's own captions were found, and why they do not all count."""
    if standing is None or not (standing.checked or standing.why):
        return []
    line = f"standing    tier {standing.tier}; of {standing.captions} captions {standing.passed} were found right, "
    line += f"{standing.failed} wrong, {standing.unchecked} not looked at"
    return [line, *([f"            {standing.why}"] if standing.why else [])]


def _contradiction_lines(snapshot: NodeSnapshot) -> list[str]:
    lines = [
        f"{one.captions} captions of {one.author} in result {one.result[:16]}: "
        f"wrong by {', '.join(one.bad)}; right by {', '.join(one.ok)}"
        for one in snapshot.contradictions[:TROUBLES]
    ]
    return [*_under("CONTRADICT  ", lines), *_more(snapshot.contradictions, TROUBLES)] if lines else []


def _more(entries: tuple[object, ...], limit: int) -> list[str]:
    return [f"  and {len(entries) - limit} more"] if len(entries) > limit else []


def _under(title: str, entries: Sequence[str]) -> list[str]:
    """The entries one below the other, the title before the first."""
    return [f"{'' if index else title:<11} {entry}" for index, entry in enumerate(entries)]
