"""Another model while the swarm runs: what is in hand is published, the new one is loaded with its progress shown, and
no answer of one counts as the other's. Real vLLM."""

import json
import re
import shutil
from pathlib import Path

import pytest

from demo.processes import Processes, Running
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import running_node
from tests.e2e.swarm_of_processes import SHAPES, SwarmOfProcesses, draw, finished, wait_for

IMAGES = 320


def another_model(folder: Path) -> Path:
    """The same network under another name and with another file: to everybody a model of its own."""
    shutil.copytree(SHAPES, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "version.json").write_text('{"version": 2}')
    return folder


def publish_at_once(coordinator: Running) -> None:
    """What `project publish` does, without the time that a command takes to start: the volunteer is quick."""
    node = running_node(coordinator.directory)
    assert node is not None
    with Client(node.socket) as client:
        assert client.reload() == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_is_replaced_while_the_swarm_runs(tmp_path: Path, processes: Processes) -> None:
    swarm = SwarmOfProcesses(processes, tmp_path, draw(tmp_path / "pictures", IMAGES, seed=91), 1)
    ada = swarm.volunteer("ada")
    nodes = [ada, swarm.coordinator]
    file = swarm.project / "project.yaml"
    file.write_text(file.read_text().replace(str(SHAPES), str(another_model(tmp_path / "shapes-2"))))
    told = processes.run("project", "diff", str(swarm.project))
    assert "stage main, model.name: shapes → shapes-2\nstage main, model.files: version.json\n" in told
    processes.run("project", "sign", str(swarm.project))
    wait_for(ada, lambda seen: seen.project.done >= 20, nodes)
    publish_at_once(swarm.coordinator)

    shown: list[tuple[str, str]] = []

    def over(seen: NodeSnapshot) -> bool:
        if seen.project.manifest == 2 and (not shown or shown[-1] != (seen.engine.phase, seen.engine.detail)):
            shown.append((seen.engine.phase, seen.engine.detail))
        return seen.project.manifest == 2 and finished(seen)

    wait_for(ada, over, nodes)
    assert "starting" in {phase for phase, _ in shown}, "the second one's way up is shown"
    assert len({detail for phase, detail in shown if phase == "starting"}) > 1
    query = "SELECT task, asked, count(*) AS n, count(error) AS errors FROM history GROUP BY ALL ORDER BY asked"
    old, new = json.loads(processes.run("query", query, "--json", "--node", str(ada.directory)))
    assert (old["asked"], new["asked"], new["n"], new["errors"]) == (False, True, IMAGES, 0)
    assert 20 <= old["n"] < IMAGES, "what was in hand was published, and nothing more begun"
    assert old["task"] != new["task"]
    log = ada.log.read_text()
    assert len(re.findall("engine starting: starting the engine's process", log)) == 2
