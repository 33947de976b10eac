"""`p2pcap tui TICKET` in a real terminal: an observer comes with the UI, and goes with it, however that ends."""

import os
import select
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from demo.processes import COMMAND, Processes
from p2pcap.paths import running_node
from tests.e2e.swarm_of_processes import PATIENCE, SwarmOfProcesses, draw, wait_for
from tests.e2e.terminal import Terminal, terminal

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="a terminal that can be looked at needs tmux")

IMAGES = 70


def test_an_observer_comes_and_goes_with_the_ui(processes: Processes, tmp_path: Path) -> None:
    swarm = SwarmOfProcesses(processes, tmp_path, draw(tmp_path / "drawn", IMAGES, seed=9), wait_for_engines=1)
    watched = tmp_path / "watched"

    with terminal() as killed:
        ended = _comes_up(killed, swarm, watched)
        os.kill(killed.pid(), signal.SIGKILL)
        _wait_for_the_end(ended)
    assert running_node(watched) is None
    wait_for(swarm.coordinator, lambda snapshot: snapshot.connected == 0)

    with terminal() as left:
        ended = _comes_up(left, swarm, watched)
        left.press("q")
        left.shows("The observer leaves …", PATIENCE)
        _wait_for_the_end(ended)
        assert "The node goes on" not in "\n".join(left.lines())
    wait_for(swarm.coordinator, lambda snapshot: snapshot.connected == 0)


def _comes_up(screen: Terminal, swarm: SwarmOfProcesses, directory: Path) -> list[int]:
    """Start the UI, wait until it shows the project, and open a pidfd of it and of all that it started."""
    given = ("XDG_RUNTIME_DIR", "P2PCAP_HOME")
    environment = {name: swarm.processes.environment[name] for name in given}
    environment |= {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    screen.run([*COMMAND, "tui", swarm.ticket, "--node", str(directory)], environment)
    screen.shows("◇ observing", PATIENCE)
    screen.shows(f"0 / {IMAGES}", PATIENCE)
    screen.shows("e2e", PATIENCE)
    ui = psutil.Process(screen.pid())
    started = [ui.pid, *(child.pid for child in ui.children(recursive=True))]
    node = running_node(directory)
    assert node is not None
    assert node.pid in started
    return [os.pidfd_open(pid) for pid in started]


def _wait_for_the_end(pidfds: Sequence[int]) -> None:
    try:
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], PATIENCE)[0], "a process stays"
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
