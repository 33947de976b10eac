"""What a person sees while a node runs in the foreground: lines as things happen, and one line of progress.

Everything goes to standard error (p2pcap.cli.terminal), so standard output stays for results. On a terminal the
progress line is rewritten in place; elsewhere it is said again when a tenth more is done, or after a minute.
"""

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import trio

from p2pcap.cli import output
from p2pcap.cli.consent import Consent
from p2pcap.cli.looking import ask, look
from p2pcap.cli.output import clean
from p2pcap.cli.stages import Stages
from p2pcap.cli.terminal import Terminal
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions
from p2pcap.node.run import run_node
from p2pcap.node.saying import Passing
from p2pcap.node.snapshot import EngineInfo, NodeSnapshot

LOOK_EVERY = 0.5
"""Seconds between two looks at the node."""

SAY_EVERY = 60.0
"""Seconds after which progress is said again where no line can be rewritten."""

HELD_BACK = ("paused", "finishing", "stopping")
"""States of a node that are said before how far it is."""

HELD = 20
"""Lines that are kept while something else has the terminal; the last ones."""

TROUBLES = 64
"""Different troubles that are said; with a network that changes its mind all the time it ends somewhere."""


class Live:
    """The lines of one running node with these options."""

    def __init__(self, options: NodeOptions) -> None:
        self._terminal = Terminal()
        self._rewrites = sys.stderr.isatty()
        self._shown = False
        self._tenth = -1
        self._said_at = 0.0
        self._troubles: set[str] = set()
        self._stages = Stages(options) if options.role in ("volunteer", "observer") else None
        self._started = self._stages is None
        self._quiet = False
        self._held: deque[str] = deque(maxlen=HELD)

    def say(self, text: str) -> None:
        """A line that stays. With --quiet nothing is said while a node runs: what ends it is an error."""
        if output.quiet():
            return
        if self._rewrites and not self._started and isinstance(text, Passing):
            return  # the stage that it is at says the same
        line = f"{time.strftime('%H:%M:%S')}  {clean(text)}"
        if self._quiet:
            self._held.append(line)
            return
        self._wipe()
        self._terminal.line(line)

    def quiet(self, quiet: bool) -> None:
        """Leave the terminal to something else, or take it back and say what was to be said meanwhile."""
        self._wipe()
        self._quiet = quiet
        while self._held and not quiet:
            self._terminal.line(self._held.popleft())

    def settled(self, snapshot: NodeSnapshot) -> bool:
        """Whether the first minutes are over: captions come, or none are to be waited for."""
        self._started = self._started or self._stages is None or self._stages.settled(snapshot)
        return self._started

    def progress(self, snapshot: NodeSnapshot) -> None:
        """The line that changes, and before it each trouble and each stage that was not said yet."""
        if self._quiet or output.quiet():
            return
        for trouble in snapshot.network.troubles:
            if trouble not in self._troubles and len(self._troubles) < TROUBLES:
                self._troubles.add(trouble)
                self.say(f"{trouble} Meanwhile it is tried again and again.")
        for stage in self._stages.news(snapshot) if self._stages else ():
            self.say(stage)
        if self._rewrites:
            self._wipe()
            width = shutil.get_terminal_size().columns - 1
            self._shown = self._terminal.passing(clean(self._line(snapshot))[:width])
        elif self._due(snapshot):
            self.say(describe(snapshot))

    def _line(self, snapshot: NodeSnapshot) -> str:
        """How far it is; at first, which stage it is at."""
        stage = None if self.settled(snapshot) or self._stages is None else self._stages.current(snapshot)
        return stage or describe(snapshot)

    def _due(self, snapshot: NodeSnapshot) -> bool:
        project = snapshot.project
        tenth = 10 * project.done // project.wanted if project.wanted else -1
        due = tenth > self._tenth or (self._said_at > 0 and time.monotonic() > self._said_at + SAY_EVERY)
        if due:
            self._tenth, self._said_at = tenth, time.monotonic()
        return due

    def _wipe(self) -> None:
        if self._shown and self._terminal.passing("\r\x1b[2K"):
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
    if snapshot.node.state in HELD_BACK:
        parts.insert(0, f"{snapshot.node.state}: {snapshot.node.state_why}")
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


def run_shown(
    options: NodeOptions,
    log_level: str,
    on_listening: Callable[[str], None] | None = None,
    yes: bool = True,
    tui: bool = False,
) -> None:
    """Run a node in the foreground with its progress shown; `on_listening` gets its ticket once it can be reached.
    Without `yes` a volunteer is asked, on the terminal, what it has not agreed to yet; with `tui` the terminal UI
    comes when the first minutes are over.

    Raises KeyboardInterrupt when a second signal cut it short, and whatever P2pcapError ended it.
    """
    live = Live(options)
    consent = Consent(options, yes, live.quiet)
    options = replace(options, agree=consent)

    async def watch(node: Node) -> None:
        if on_listening is not None:
            on_listening(node.ticket())
        wanted = tui
        while True:
            snapshot = node.snapshot()
            live.progress(snapshot)
            if wanted and live.settled(snapshot):
                wanted = await _look(node, live)
            await trio.sleep(LOOK_EVERY)

    cut_short = run_node(options, live.say, watch, log_level)
    if cut_short or consent.asking:
        raise KeyboardInterrupt


async def _look(node: Node, live: Live) -> bool:
    """The terminal UI, and the question of what then; whether it is wanted again."""
    live.quiet(True)
    code, choice = await look(node.paths.directory), None
    if code == 0 and not node.stopping:
        choice = await ask()
    live.quiet(False)
    if code:
        live.say(f"the terminal UI ended with code {code}; the node goes on, and p2pcap tui looks again")
    if choice == "stop":
        node.stop()
    return choice == "again"
