"""`p2pcap join`: become a volunteer, or an observer, of the project that a ticket names."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from p2pcap.cli.engine import EngineChoice, engine_options, engine_settings, require_engine
from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.network import NetworkChoice, network_options, network_settings
from p2pcap.errors import ConfigError, TicketError
from p2pcap.paths import NodePaths, home, project_node
from p2pcap.project.ticket import SCHEME, Ticket

if TYPE_CHECKING:
    from p2pcap.node.manners import OnBattery
    from p2pcap.node.shares import StoreRole

GIB = 1024**3
MAX_FILE, MAX_PAGE = 100_000, 4_096
"""Characters that are read of a file or of standard input, and bytes of a web page, to find a ticket in."""

MOST_GIB = 1_000_000


class JoinChoice(NetworkChoice, EngineChoice):
    """The values of the switches that `join` shares with other commands."""


@click.command(
    epilog="""\b
Examples:
  p2pcap join p2pcap:abc…                caption with this machine's GPU (or CPU)
  p2pcap join p2pcap:abc… --gpus 0,2     with two of its GPUs
  p2pcap join p2pcap:abc… --observe      hold the table and watch, without captioning
  p2pcap join https://example.org/join.txt --yes    on a server: nobody is asked
  p2pcap join                            go on with the one project joined before"""
)
@click.argument("ticket", required=False)
@click.option("--observe", is_flag=True, help="Hold the table and watch; start no engine.")
@click.option("--name", default="", help="Public name that your captions are credited to (at most 32 bytes).")
@click.option("--model", type=click.Path(path_type=Path), help="Directory with your own copy of the project's model.")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="Another address to find the swarm at.")
@click.option(
    "--listen", multiple=True, metavar="MULTIADDR", help="Where to listen. [default: any port, all interfaces]"
)
@click.option("--node", type=click.Path(path_type=Path), help="Folder for key, database and caches.")
@click.option(
    "--local-images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with your own copy of the project's images: read from there, checked by hash.",
)
@click.option(
    "--private-hosts/--no-private-hosts",
    default=True,
    show_default=True,
    help="Fetch from hosts with private addresses that the maintainer names.",
)
@click.option(
    "--image-cap", default=4.0, show_default=True, type=FiniteRange(0.01, MOST_GIB), help="GiB of images kept."
)
@click.option(
    "--store",
    default="full",
    show_default=True,
    type=click.Choice(["full", "share", "archive"]),
    help="Captions kept here: all up to --store-cap, a share of them, or all without limit.",
)
@click.option(
    "--store-cap",
    default=8.0,
    show_default=True,
    type=FiniteRange(0.01, MOST_GIB),
    help="GiB of captions kept with --store full; beyond that a share.",
)
@engine_options
@network_options
@click.option(
    "--project",
    metavar="FILE|URL",
    help="File with the project (p2pcap project publish --to FILE), so that it is here before any peer answers.",
)
@click.option(
    "--until-done",
    is_flag=True,
    help="As --when-finished leave.",
)
@click.option(
    "--hours",
    metavar="23-07",
    help="Work at these hours only, local time; several with commas, also 12:30-13:30. [default: always]",
)
@click.option(
    "--on-battery",
    default="pause",
    show_default=True,
    type=click.Choice(["pause", "work"]),
    help="What to do while this machine runs on its battery.",
)
@click.option(
    "--when-finished",
    default="stay",
    show_default=True,
    metavar="stay|leave|run:COMMAND",
    help="When every image has its row: stay and serve others, leave, or run a command once and stay.",
)
@click.option(
    "--tui/--no-tui",
    default=None,
    help="Show the terminal UI once captions come. [default: on a terminal, where Textual is installed]",
)
@click.option(
    "--yes",
    is_flag=True,
    envvar=["P2PCAP_YES", "P2PCAP_JOIN_YES"],
    help="Agree without being asked to what the project is and what is published about you, as on a server.",
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def join(
    ticket: str | None,
    observe: bool,
    name: str,
    model: Path | None,
    peers: tuple[str, ...],
    listen: tuple[str, ...],
    node: Path | None,
    local_images: Path | None,
    private_hosts: bool,
    image_cap: float,
    store: "StoreRole",
    store_cap: float,
    project: str | None,
    until_done: bool,
    hours: str | None,
    on_battery: "OnBattery",
    when_finished: str,
    tui: bool | None,
    yes: bool,
    log_level: str,
    **choice: Unpack[JoinChoice],
) -> None:
    """Caption for the project that TICKET names.

    TICKET is the text that the maintainer gave you, a file that holds it (also @FILE), an https address, or "-" for
    standard input. Without it the project joined before goes on.
    """
    if len(name.encode()) > 32:
        raise ConfigError("The name has more than 32 bytes. Choose a shorter one.")
    from p2pcap.node.manners import Wishes, parse_hours
    from p2pcap.node.options import DEFAULT_LISTEN, EngineOptions, NodeOptions

    engine = EngineOptions() if observe else engine_settings(choice)
    paths, opened = find_ticket(ticket, node)
    if not observe:
        require_engine(engine)
        _check_consent(yes, paths)
    from p2pcap.cli.bundle_option import project_seed
    from p2pcap.cli.live import run_shown
    from p2pcap.cli.looking import wants_ui

    options = NodeOptions(
        directory=paths.directory,
        role="observer" if observe else "volunteer",
        ticket=opened,
        listen=listen or DEFAULT_LISTEN,
        peers=peers,
        name=name,
        model=check_model_option(model),
        engine=engine,
        image_cap=int(image_cap * GIB),
        local_images=check_folder(local_images),
        private_hosts=private_hosts,
        store=store,
        store_cap=int(store_cap * GIB),
        network=network_settings(choice, listen or DEFAULT_LISTEN, relay="if reachable"),
        until_done=until_done or when_finished == "leave",
        when_finished=finish_command(when_finished),
        manners=Wishes(parse_hours(hours) if hours else (), on_battery),
        seed=project_seed(project, paths, opened),
    )
    run_shown(options, log_level, yes=yes, tui=wants_ui(tui))


def finish_command(text: str) -> tuple[str, ...]:
    """The words of the command in "run:COMMAND"; none for "stay" and "leave". Raises ConfigError for anything else."""
    if text in ("stay", "leave"):
        return ()
    kind, _, command = text.partition(":")
    from p2pcap.node.finished import parse_command

    try:
        if kind != "run":
            raise ValueError("it is neither stay, leave nor run:COMMAND")
        return parse_command(command)
    except ValueError as error:
        raise ConfigError(
            f"--when-finished {text!r} cannot be used: {error}. Write for example run:'p2pcap export jsonl out.jsonl'"
        ) from error


def _check_consent(yes: bool, paths: NodePaths) -> None:
    """Raises ConfigError when nobody has agreed to anything here, and nobody can be asked."""
    from p2pcap.cli.consent import ASK, can_ask

    if not yes and not paths.consent.exists() and not can_ask():
        raise ConfigError(f"A volunteer is asked first what it agrees to, and there is no terminal here. {ASK}")


def find_ticket(text: str | None, node: Path | None) -> tuple[NodePaths, Ticket]:
    """The node's folder and the ticket, from what was typed or from what an earlier `join` kept."""
    if text is not None:
        ticket = Ticket.parse(ticket_text(text))
        paths = NodePaths(node) if node else NodePaths(project_node(home(), ticket.root))
        return paths, ticket
    paths = NodePaths(node) if node else _only_joined()
    try:
        return paths, Ticket.parse(paths.ticket.read_text(errors="replace"))
    except OSError as error:
        raise TicketError("No project was joined in this folder. Give the ticket: p2pcap join TICKET") from error


def _only_joined() -> NodePaths:
    nodes = [NodePaths(directory) for directory in sorted((home() / "projects").glob("*"))]
    joined = [paths for paths in nodes if paths.ticket.exists()]
    if len(joined) != 1:
        known = "No project was joined yet" if not joined else f"{len(joined)} projects were joined"
        raise TicketError(f"{known}. Give the ticket: p2pcap join TICKET")
    return joined[0]


def ticket_text(text: str) -> str:
    """The ticket that was typed; or that lies in the file that was named, also as @FILE; or at the https address; or
    that comes from standard input. Raises TicketError when it cannot be read."""
    named = text.strip()
    if text == "-":
        return _from_input()
    if named.lower().startswith(SCHEME):
        return text
    if named.lower().startswith("https://"):
        return _from_web(named)
    if named.startswith("@"):
        return _from_file(named[1:])
    if "://" in named[:16]:
        raise TicketError("A ticket is fetched over https only. Give an https address, a file, or the ticket itself.")
    return _from_file(text) if os.path.isfile(text) else text  # Path's own raises for a long text


def _from_input() -> str:
    try:
        return sys.stdin.read(MAX_FILE)
    except UnicodeDecodeError as error:
        raise TicketError("Standard input holds no ticket: it is no text. Give the ticket, or a file.") from error


def _from_file(name: str) -> str:
    try:
        with open(name, errors="replace") as file:
            return file.read(MAX_FILE)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "this can be no file's name"
        raise TicketError(f"{name[:200]} cannot be read: {why}. Check the name and its permissions.") from error


def _from_web(url: str) -> str:
    import trio

    from p2pcap.errors import SourceError
    from p2pcap.sources.web.page import page

    try:
        return trio.run(page, url, MAX_PAGE).decode("utf-8", "replace")
    except SourceError as error:
        raise TicketError(f"{error} Check the address, or ask for the ticket itself.") from error


def check_folder(folder: Path | None) -> Path | None:
    """The folder of images, checked before anything starts. Raises ConfigError."""
    if folder is not None and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        raise ConfigError(f"There is no folder {folder}, or it is closed to you. Name the folder of the images.")
    return folder


def check_model_option(model: Path | None) -> Path | None:
    """The volunteer's model directory, checked before anything starts. Raises ModelError."""
    if model is not None:
        from p2pcap.engine.model import check_model

        check_model(model)
    return model
