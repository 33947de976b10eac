"""What a person sees while a node runs in the foreground: lines as things happen, and one line of progress.

Everything goes to standard error, so standard output stays for results. On a terminal the progress line is rewritten in
place; elsewhere it is said again when a tenth more is done, or after a minute.
"""

import shutil
import sys
import time
from collections.abc import Callable

import click
import trio

from p2pcap.cli.output import clean
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions
from p2pcap.node.run import run_node
from p2pcap.node.snapshot import EngineInfo, NodeSnapshot

LOOK_EVERY = 0.5
"""Seconds between two looks at the node."""

SAY_EVERY = 60.0
"""Seconds after which progress is said again where no line can be rewritten."""

TROUBLES = 64
"""Different troubles that are said; with a network that changes its mind all the time it ends somewhere."""


class Live:
    """The lines of one running node."""

    def __init__(self) -> None:
        self._rewrites = sys.stderr.isatty()
        self._shown = False
        self._tenth = -1
        self._said_at = 0.0
        self._troubles: set[str] = set()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._wipe()
        click.echo(f"{time.strftime('%H:%M:%S')}  {clean(text)}", err=True)

    def progress(self, snapshot: NodeSnapshot) -> None:
        """The line that changes, and before it each trouble that was not said yet."""
        for trouble in snapshot.network.troubles:
            if trouble not in self._troubles and len(self._troubles) < TROUBLES:
                self._troubles.add(trouble)
                self.say(f"{trouble} Meanwhile it is tried again and again.")
        if self._rewrites:
            self._wipe()
            width = shutil.get_terminal_size().columns - 1
            click.echo(clean(describe(snapshot))[:width], err=True, nl=False)
            self._shown = True
        elif self._due(snapshot):
            self.say(describe(snapshot))

    def _due(self, snapshot: NodeSnapshot) -> bool:
        project = snapshot.project
        tenth = 10 * project.done // project.wanted if project.wanted else -1
        due = tenth > self._tenth or (self._said_at > 0 and time.monotonic() > self._said_at + SAY_EVERY)
        if due:
            self._tenth, self._said_at = tenth, time.monotonic()
        return due

    def _wipe(self) -> None:
        if self._shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._shown = False


def describe(snapshot: NodeSnapshot) -> str:
    """One line: how far the project is, how fast this node, how many peers."""
    project, engine = snapshot.project, snapshot.engine
    if not project.images:
        return f"{len(snapshot.peers)} peers, waiting for the project"
    share = 100 * project.done / max(1, project.wanted)
    parts = [f"{project.done}/{project.wanted} images ({share:.1f} %)", f"{len(snapshot.peers)} peers"]
    if engine.phase != "off":
        parts.append(_engine(engine))
    if project.errors:
        parts.append(f"{project.errors} errors")
    return ", ".join(parts)


def _engine(engine: EngineInfo) -> str:
    """What captions here, how fast, and how warm it is."""
    phases = [unit.phase for unit in engine.units]
    alike = phases.count(engine.phase) or phases.count("ready")
    said = f"{alike} of {len(phases)} engines" if len(phases) > 1 else "engine"
    parts = [f"{said} {engine.phase}, {engine.rate:.1f} images/s, {engine.tokens:.0f} tokens/s here"]
    if degrees := [unit.temperature for unit in engine.units if unit.temperature is not None]:
        parts.append(f"{max(degrees)} °C")
    if watts := [unit.power for unit in engine.units if unit.power is not None]:
        parts.append(f"{sum(watts):.0f} W")
    return ", ".join(parts)


def run_shown(options: NodeOptions, log_level: str, on_listening: Callable[[str], None] | None = None) -> None:
    """Run a node in the foreground with its progress shown; `on_listening` gets its ticket once it can be reached.

    Raises KeyboardInterrupt when a second signal cut it short, and whatever P2pcapError ended it.
    """
    live = Live()

    async def watch(node: Node) -> None:
        if on_listening is not None:
            on_listening(node.ticket())
        while True:
            live.progress(node.snapshot())
            await trio.sleep(LOOK_EVERY)

    cut_short = run_node(options, live.say, watch, log_level)
    if cut_short:
        raise KeyboardInterrupt
