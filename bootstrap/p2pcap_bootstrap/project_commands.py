"""`p2pcap project check|diff|show|pause|resume|publish`: what a maintainer does with a project beside signing it."""

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.output import result, result_json, results, say
from p2pcap.cli.passphrase import asker, passphrase_option
from p2pcap.errors import ConfigError, SwarmError
from p2pcap_bootstrap.calibrate_command import calibrate

if TYPE_CHECKING:
    from p2pcap.project.opened import Project
    from p2pcap.project.records import Plan
    from p2pcap_bootstrap.workspace import Workspace

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The project.yaml. [default: that of DIRECTORY, else the first found; p2pcap paths shows which]",
)

MULTIADDR = ("/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/", "/dnsaddr/")
LOOK_WITHIN = 30.0
"""Seconds in which some peer must hand over a project that is only looked at."""


def project_folder(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a DIRECTORY that may be left out, or `--config` in its place; the project's folder is its
    `directory`."""

    @click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
    @CONFIG
    @wraps(command)
    def of_folder(directory: Path | None, config: Path | None, **options: Any) -> None:
        command(directory=in_folder(directory, config), **options)

    return of_folder


def in_folder(directory: Path | None, config: Path | None = None) -> Path:
    """The project's folder: `directory`, else where the project.yaml is that `config` names, or that is found. Raises
    ConfigError when there is none, or two are named."""
    from p2pcap.config import discover, nowhere
    from p2pcap_bootstrap.config import FILE

    if directory is not None:
        _check_alone(str(directory), config)
        return directory
    found = discover("project", config)
    if found is None:
        raise ConfigError(nowhere("project"))
    if found.path.name != FILE:
        raise ConfigError(f"{found.path} is not called {FILE}. Name the {FILE} of a folder with the project's keys.")
    say(found.told)
    return found.path.parent


def _check_alone(named: str, config: Path | None) -> None:
    """Raises ConfigError when `--config` was typed beside what else names a project; a variable gives way to that."""
    source = click.get_current_context().get_parameter_source("config")
    if config is not None and source is ParameterSource.COMMANDLINE:
        raise ConfigError(f"Both {named} and --config {config} are named. Leave one of the two out.")


@click.command(
    epilog="""\b
Example:
  p2pcap project check cats"""
)
@project_folder
def check(directory: Path) -> None:
    """Find out whether the project can be signed, by doing all but that, and what would change."""
    from p2pcap_bootstrap.checking import notes

    plan, lines = _preview(directory)
    for stage in plan.stages:
        for note in notes(stage.task):
            say(f"note: {note}")
    for line in _stage_notes(plan):
        say(f"note: {line}")
    for line in lines:
        result(line)
    say(f"{directory} can be signed: p2pcap project sign {directory}")


@click.command(
    epilog="""\b
Example:
  p2pcap project diff cats"""
)
@project_folder
@forms("As one JSON object.", "Only the changes.")
def diff(directory: Path, form: Form) -> None:
    """Say what the next signing would change; nothing is written."""
    _, lines = _preview(directory)
    if form == "json":
        result_json({"changes": lines})
    else:
        results(lines, "nothing would change")


def _preview(directory: Path) -> tuple["Plan", list[str]]:
    """The plan that would be signed, and what is other in it."""
    from p2pcap.cli.notices import show_warnings
    from p2pcap_bootstrap import config
    from p2pcap_bootstrap.changes import changes
    from p2pcap_bootstrap.counter import counter
    from p2pcap_bootstrap.planning import Lists, Unwritten, page_between
    from p2pcap_bootstrap.signing import in_force, make_plan
    from p2pcap_bootstrap.workspace import Workspace

    show_warnings()
    workspace, file = Workspace(directory), config.read(directory)
    before = in_force(workspace)
    blobs = Unwritten()
    lists = Lists(blobs, before)
    with counter() as count:
        plan = make_plan(workspace, file, before, lists, count)
    if workspace.manifest() is None:
        return plan, [f"new: {lists.added} images in {len(lists.table)} chunks"]
    gone = [f"images: {lists.gone} are not there any more; they keep their places"] if lists.gone else []
    signed = workspace.project().plan
    return plan, [*changes(signed, plan, page_between(signed, plan, blobs)), *gone]


def _stage_notes(plan: "Plan") -> list[str]:
    from p2pcap_bootstrap.stages import stage_notes

    return list(stage_notes(plan.stages))


@click.command(
    epilog="""\b
Examples:
  p2pcap project show cats
  p2pcap project show p2pcap:abc…        what its volunteers work on now"""
)
@click.argument("what", required=False, metavar="[DIRECTORY|TICKET]")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="Another address to find the swarm at.")
@CONFIG
@forms("As one JSON object.", "Only the project's hash.")
def show(what: str | None, peers: tuple[str, ...], config: Path | None, form: Form) -> None:
    """Say what is signed in DIRECTORY, or what the swarm of TICKET has in force."""
    from p2pcap.project.ticket import SCHEME
    from p2pcap_bootstrap.summary import plain, summary
    from p2pcap_bootstrap.workspace import Workspace

    if what is not None and what.strip().lower().startswith(SCHEME):
        _check_alone("a ticket", config)
        project = _asked(what, peers)
    else:
        workspace = Workspace(in_folder(Path(what) if what is not None else None, config))
        project = workspace.project()
        if workspace.draft.exists():
            say("nobody has seen it yet: signing again may still change everything")
    if form == "json":
        result_json(plain(project))
        return
    for line in summary(project, time.time()) if form == "people" else [project.hash.hex()]:
        result(line)


def _asked(text: str, peers: tuple[str, ...]) -> "Project":
    import tempfile

    from p2pcap.node.publishing import look
    from p2pcap.project.ticket import Ticket

    ticket = Ticket.parse(text)
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
        project = look(ticket, peers, Path(folder), LOOK_WITHIN)
    if project is None:
        where = ", ".join(ticket.addresses) or "no address"
        raise SwarmError(
            f"No peer of {ticket.name} handed the project over in {LOOK_WITHIN:.0f} s (the ticket names {where}). "
            "Check that one runs, or name one with --peer."
        )
    return project


@click.command(
    epilog="""\b
Examples:
  p2pcap project pause cats                   nobody begins anything new
  p2pcap project pause cats --stage tags      the other stages go on"""
)
@project_folder
@click.option("--stage", help="Only this stage.")
@passphrase_option
def pause(directory: Path, stage: str | None, passphrase_file: Path | None) -> None:
    """Pause the project, or a stage of it: sign that, and publish it."""
    _set_paused(directory, stage, True, passphrase_file)


@click.command(
    epilog="""\b
Example:
  p2pcap project resume cats"""
)
@project_folder
@click.option("--stage", help="Only this stage.")
@passphrase_option
def resume(directory: Path, stage: str | None, passphrase_file: Path | None) -> None:
    """Let what was paused go on: sign that, and publish it."""
    _set_paused(directory, stage, False, passphrase_file)


def _set_paused(directory: Path, stage: str | None, paused: bool, passphrase_file: Path | None) -> None:
    from p2pcap_bootstrap import config
    from p2pcap_bootstrap.pausing import set_paused, unlike_file
    from p2pcap_bootstrap.workspace import Workspace

    workspace = Workspace(directory, asker(passphrase_file))
    version = set_paused(workspace, stage, paused)
    say(f"signed manifest {version}: {stage or 'the project'} {'is paused' if paused else 'goes on'}")
    if unlike_file(config.read(directory), stage, paused):
        say("note: project.yaml says otherwise in `paused`, so the next signing undoes this. Change it there too.")
    if workspace.draft.exists():
        say(f"nobody has the project yet; next: p2pcap bootstrap serve {directory}")
    else:
        _publish(workspace)


@click.command(
    epilog="""\b
Examples:
  p2pcap project publish cats                                 the coordinator that runs here, else peers it met
  p2pcap project publish cats --to cats.p2pcap                a file for a web server or the Hub
  p2pcap project publish cats --to /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…"""
)
@project_folder
@click.option(
    "--to", metavar="FILE|MULTIADDR", help="A file to write, or a peer. [default: the coordinator, else known peers]"
)
@passphrase_option
def publish(directory: Path, to: str | None, passphrase_file: Path | None) -> None:
    """Give what is signed to the swarm, or write it into a file that volunteers can begin with."""
    from p2pcap_bootstrap.publication import to_file
    from p2pcap_bootstrap.workspace import Workspace

    workspace = Workspace(directory, asker(passphrase_file))
    if to is None:
        _publish(workspace)
    elif to.startswith(MULTIADDR):
        _to_peers(workspace, (to,))
    else:
        size = to_file(workspace, Path(to).expanduser())
        say(f"wrote {to}, {size} bytes; next: p2pcap join TICKET --project {to} (or the address you put it at)")


def _publish(workspace: "Workspace") -> None:
    """To the coordinator that runs here, else to the peers it met."""
    from p2pcap_bootstrap.publication import to_coordinator

    version = to_coordinator(workspace)
    if version is None:
        _to_peers(workspace, ())
        return
    say(f"the coordinator that runs here has manifest {version}, and tells the swarm")


def _to_peers(workspace: "Workspace", peers: tuple[str, ...]) -> None:
    from p2pcap_bootstrap.publication import to_peers

    count = to_peers(workspace, peers)
    if not count:
        raise SwarmError(
            "No peer has taken it up in time. It is signed: try again, name a peer with --to, or run p2pcap bootstrap "
            f"serve {workspace.directory}. If others may have signed since: p2pcap project pull {workspace.directory}"
        )
    say(f"{count} peers have it, and tell the swarm")
    say(f"lists of new images, and images, come from this machine: p2pcap bootstrap serve {workspace.directory}")


COMMANDS: tuple[click.Command, ...] = (check, diff, show, pause, resume, publish, calibrate)
"""What the group `p2pcap project` has from here."""
