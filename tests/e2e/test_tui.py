"""The terminal UI in a real terminal, on a node of a real swarm of three."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from demo.processes import COMMAND, Processes
from p2pcap.node.snapshot import NodeSnapshot, decode
from p2pcap_tui.words import number
from tests.e2e.slow_server import SlowServer
from tests.e2e.swarm_of_processes import PATIENCE, SwarmOfProcesses, draw, wait_for
from tests.e2e.terminal import Terminal, terminal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="a terminal that can be looked at needs tmux"),
]

IMAGES = 70
WITHIN = 3.0
"""Seconds in which a node that was killed is shown as such: a promise of docs/tui.md."""


def test_the_ui_shows_what_status_says_and_neither_needs_the_other(
    processes: Processes, tmp_path: Path, server: SlowServer
) -> None:
    swarm = SwarmOfProcesses(processes, tmp_path, draw(tmp_path / "drawn", IMAGES, seed=9), wait_for_engines=1)
    observer, volunteer = swarm.observer("observer"), swarm.volunteer("volunteer", engine=server.engine)
    wait_for(volunteer, lambda snapshot: snapshot.project.finished and snapshot.project.captions == IMAGES)
    wait_for(volunteer, lambda snapshot: snapshot.connected == 2)
    environment = {"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    command = [*COMMAND, "tui", "--node", str(volunteer.directory)]

    with terminal() as first, terminal() as second:
        for one in (first, second):
            one.run(command, environment)
            one.shows(f"{IMAGES} / {IMAGES}", PATIENCE)
        _looks_as_status(first, decode(processes.run("status", "--json", "--node", str(volunteer.directory))))

        os.kill(first.pid(), signal.SIGKILL)
        processes.run("pause", "--node", str(volunteer.directory))
        second.shows("paused", PATIENCE)
        second.press("p")
        wait_for(volunteer, lambda snapshot: snapshot.node.state not in ("paused", "finishing"))

        second.resize(40, 12)
        second.press("2")
        second.shows("observer", PATIENCE)
        second.resize(140, 40)
        second.press("6")
        second.shows(" TAIL ", PATIENCE)
        second.press("1")

        os.killpg(volunteer.process.pid, signal.SIGKILL)
        volunteer.process.wait()
        second.shows("✗ not running", WITHIN)
        again = swarm.observer("volunteer")
        second.shows("◇ observing", PATIENCE)
        second.press("q")
        second.shows("The node goes on", PATIENCE)
        assert again.snapshot() is not None
    observer.check()


def _looks_as_status(screen: Terminal, told: NodeSnapshot) -> None:
    """The numbers on the screen are those of `status --json`; they stand still when everything is done."""
    project = told.project
    text = screen.shows(f"{number(project.captions)}   errors {number(project.errors)}", PATIENCE)
    assert project.title in text
    assert f"{number(project.done)} / {number(project.wanted)}" in text
    assert f"{number(project.chunks_done)} / {number(project.chunks)}" in text
    assert f"{told.connected} peers" in text
    assert f"manifest v{project.manifest}" in text
    assert f"process {told.node.pid}" in text
