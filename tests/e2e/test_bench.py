"""`p2pcap bench` for real: a project that only a coordinator has, vLLM, and a folder that then needs nobody."""

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from demo.processes import Processes
from p2pcap.node.bench import stored
from p2pcap.node.pictures import in_cache
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import Ticket
from tests.e2e.swarm_of_processes import PATIENCE, SwarmOfProcesses, draw

COUNT = 70


@pytest.mark.slow
def test_a_machine_is_measured_without_taking_part(tmp_path: Path, processes: Processes) -> None:
    swarm = SwarmOfProcesses(processes, tmp_path, draw(tmp_path / "pictures", COUNT, seed=31), wait_for_engines=1)
    paths = NodePaths(tmp_path / "measured")
    said = processes.run("bench", swarm.ticket, "--node", str(paths.directory), "--seconds", "4", "--json")
    record = json.loads(said)
    assert record["images"] > COUNT, "pictures are shown again and again"
    assert record["pictures"] == COUNT
    assert record["failed"] == {}
    assert record["batch"]["places"] == 64
    assert 0 < record["batch"]["running"] <= 64
    assert all(record["cpu_ms_per_image"][part] > 0 for part in ("decoding", "front", "model"))
    assert record["project_seconds"] == pytest.approx(COUNT / record["images_per_second"])
    assert nothing_was_done(swarm)

    processes.stop(swarm.coordinator)
    project = stored(paths, Ticket.parse(swarm.ticket))
    assert project is not None
    assert project.images == COUNT
    assert len(in_cache(paths)) == COUNT
    interrupted_while_loading(processes, paths)


def nothing_was_done(swarm: SwarmOfProcesses) -> bool:
    """Whether the coordinator has no row, no claim, and nobody admitted."""
    seen = swarm.coordinator.snapshot()
    assert seen is not None
    members = "SELECT count(*) AS n FROM contributors"
    rows = json.loads(swarm.processes.run("query", members, "--json", "--node", str(swarm.project / "node")))
    return seen.project.done == 0 and seen.claims == () and rows == [{"n": 0}]


def interrupted_while_loading(processes: Processes, paths: NodePaths) -> None:
    """Ctrl+C ends a measure that nobody is asked for, and what it started."""
    bench = processes.start("again", paths.directory, "bench", "--node", str(paths.directory), output=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE
    while "loading" not in bench.log.read_text():
        bench.check()
        assert time.monotonic() < deadline
        time.sleep(0.1)  # its standard error is a file
    below = psutil.Process(bench.process.pid).children(recursive=True)
    assert below
    bench.process.send_signal(signal.SIGINT)
    assert bench.process.wait(PATIENCE) == 130
    assert "fetching" not in bench.log.read_text()
    assert not [child for child in below if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
