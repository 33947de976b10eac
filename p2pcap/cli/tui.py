"""`p2pcap tui`: watch and steer a node in the terminal.

The UI is a program of its own on the node's control socket, so it may be closed or killed at any time. With a ticket it
starts a node to watch with, if none of that project runs: an observer, in a process of its own, which ends with the UI.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import say
from p2pcap.errors import ConfigError, NotRunningError
from p2pcap.lasting import spare_what_lasts
from p2pcap.paths import NodePaths, expanded, running_node

THEME = "textual-dark"

STOP_WITHIN = 60.0
"""Seconds an observer gets to leave politely."""

ONLY_WATCHES = ("--observe", "--config", os.devnull, "--no-tui", "--when-finished", "stay")
"""What the observer is told, so that it obeys nothing that was set for a node that captions."""

_PR_SET_PDEATHSIG = 1
"""PR_SET_PDEATHSIG(2const)."""

Check = Callable[[], None]
"""Raises NotRunningError when there will be no node."""


@click.command(
    epilog="""\b
Examples:
  p2pcap tui                    watch the only node
  p2pcap tui --node ~/cats      watch the one in that folder
  p2pcap tui p2pcap:abc…        look at a project without captioning for it"""
)
@click.argument("ticket", required=False)
@node_option
@click.option("--theme", metavar="NAME", default=THEME, show_default=True, help="Colours; ctrl+p lists what there is.")
def tui(ticket: str | None, node: str | None, theme: str) -> None:
    """Watch a node in the terminal, and pause, finish or stop it. Leaving the UI leaves the node as it is.

    With a TICKET, and no node of that project running, a node without an engine joins to watch, and leaves with the UI.
    """
    if not _at_terminal():
        raise ConfigError("There is no terminal to draw on. Without one: p2pcap status --follow, p2pcap status --json")
    if ticket is None:
        directory = find_node(node).directory
        show(directory, theme)
    else:
        directory, text = _joined(ticket, node)
        ours = nullcontext(_nothing) if running_node(directory) else _observer(directory, text)
        with ours as check:
            show(directory, theme, check)
    if running_node(directory):
        say(f"The node goes on: p2pcap status shows it, p2pcap stop ends it ({directory}).")


def show(directory: Path, theme: str = THEME, check: Check = lambda: None) -> None:
    """The terminal UI on the node in `directory`, until somebody leaves it; `check` runs whenever the node is looked
    for. Raises ConfigError for an unknown theme."""
    from p2pcap_tui.app import TerminalUI
    from p2pcap_tui.feed import SocketFeed

    def find() -> Path | None:
        check()
        found = running_node(directory)
        return found.socket if found else None

    ui = TerminalUI(SocketFeed(find))
    if theme not in ui.available_themes:
        raise ConfigError(f"There is no theme {theme}. Choose one of: {', '.join(sorted(ui.available_themes))}")
    ui.theme = theme
    spare_what_lasts()
    ui.run()
    if ui.defect is not None:
        raise ui.defect


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _nothing() -> None:
    """There is a node."""


def _joined(ticket: str, node: str | None) -> tuple[Path, str]:
    """The folder of the project's node, and the ticket's own text. Raises TicketError."""
    from p2pcap.cli.join import find_ticket

    paths, opened = find_ticket(ticket, expanded(node) if node else None)
    return paths.directory, str(opened)


@contextmanager
def _observer(directory: Path, ticket: str) -> Iterator[Check]:
    """A node that watches the ticket's project while the block lasts, and this process. The ticket comes to it on
    standard input: command lines are everybody's to read."""
    command = [sys.executable, "-P", "-m", "p2pcap", "join", "-", "--node", str(directory), *ONLY_WATCHES]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("P2PCAP_JOIN_")}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(ticket.encode())
        given.seek(0)
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=variables,
            preexec_fn=_ending_with(os.getpid()),
        )

        def check() -> None:
            if process.poll() is not None:
                said.seek(0)
                lines = said.read(100_000).decode(errors="replace").strip().splitlines()
                why = lines[-1] if lines else f"its log is {NodePaths(directory).log}"
                raise NotRunningError(f"The observer has ended: {why}")

        try:
            yield check
        finally:
            _end(process)


def _ending_with(parent: int) -> Callable[[], None]:
    """What makes a new process end when `parent` does, which may be killed, or lose its terminal. Run in the child,
    where nothing may be imported: this process has no other thread yet."""
    libc = ctypes.CDLL(None, use_errno=True)

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return tie


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        say("The observer leaves …")
        process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
