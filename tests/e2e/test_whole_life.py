"""A project's whole life with real processes: signed, served, joined by invitation, changed while it runs, a volunteer
thrown out, the coordinator's key replaced, the coordinator's machine lost, and the job done all the same."""

import json
import re
from pathlib import Path

import pytest

from demo.processes import Processes, Running
from tests.e2e.slow_server import SlowServer
from tests.e2e.swarm_of_processes import LOOPBACK, SHAPES, draw, finished, wait_for

IMAGES = 640
FIRST, SECOND = "Describe the image.", "Name the objects."


def rows(processes: Processes, node: Running, sql: str) -> list[dict[str, object]]:
    command = ("query", sql, "--json", "--node", str(node.directory))
    done = processes.attempt(*command)
    if "takes up a new root. Ask again." in done.stderr:  # asked again, it waits for the new database
        done = processes.attempt(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def made_by(processes: Processes, node: Running, name: str, table: str = "captions") -> int:
    (found,) = rows(processes, node, f"SELECT count(*) AS n FROM {table} WHERE author_name = '{name}'")
    assert isinstance(found["n"], int)
    return found["n"]


@pytest.mark.timeout(600)
def test_the_whole_life_of_a_project(tmp_path: Path, processes: Processes, server: SlowServer) -> None:
    images = draw(tmp_path / "pictures", IMAGES, seed=77)
    project, backup, other = tmp_path / "project", tmp_path / "backup", tmp_path / "other machine"

    def maintain(*words: str) -> str:
        return processes.run(*words)

    def volunteer(name: str, ticket: str) -> Running:
        directory = tmp_path / name
        command = ("join", ticket, "--name", name, "--node", str(directory), *server.engine, *LOOPBACK)
        return processes.start(name, directory, *command)

    # It is begun, and two volunteers come by an invitation for two.
    given = ("--images", str(images), "--model", str(SHAPES), "--prompt", FIRST, "--name", "life")
    maintain("project", "init", str(project), *given, "--chunk", "128", "--dtype", "float32", "--wait-for-engines", "2")
    maintain("project", "sign", str(project))
    coordinator = processes.start("coordinator", project / "node", "bootstrap", "serve", str(project), *LOOPBACK)
    wait_for(coordinator, lambda seen: seen.project.images == IMAGES)
    ticket = maintain("invite", str(project), "--uses", "2", "--name", "friends").strip()
    assert len(ticket) <= 300
    server.seconds = 2.0  # there is work left at everything that comes
    ada, eve = volunteer("ada", ticket), volunteer("eve", ticket)
    nodes = [ada, eve, coordinator]
    wait_for(coordinator, lambda seen: {"ada", "eve"} <= {one.name for one in seen.contributors}, nodes)

    # Another question, while they work: no engine is started again, and no answer to the first one is among the new.
    file = project / "project.yaml"
    file.write_text(file.read_text().replace(FIRST, SECOND))
    maintain("project", "sign", str(project))
    maintain("project", "publish", str(project))
    for node in (ada, eve):
        wait_for(node, lambda seen: seen.project.manifest == 2 and seen.project.prompts == (SECOND,), nodes)
    wait_for(coordinator, lambda seen: made_by(processes, coordinator, "eve") > 0, nodes)

    # Eve is thrown out: nothing of hers counts, and others do it again.
    maintain("ban", str(project), "eve", "--yes", "--reason", "captions of other images")
    told = wait_for(ada, lambda seen: made_by(processes, ada, "eve", "history") == 0, [ada, coordinator])
    assert told.project.manifest == 2

    # The coordinator's key is replaced, and its machine is lost; from the backup it goes on elsewhere.
    maintain("key", "rotate", str(project), "--coordinator")
    processes.stop(coordinator)
    maintain("key", "export", str(project), str(backup), "--plain")
    maintain("key", "import", str(backup), str(other))
    (address,) = (one for one in ada.snapshot().node.addresses if "127.0.0.1" in one and "circuit" not in one)  # type: ignore[union-attr]
    command = ("bootstrap", "serve", str(other), *LOOPBACK, "--peer", address)
    coordinator = processes.start("coordinator-again", other / "node", *command)
    wait_for(ada, lambda seen: seen.project.manifest == 3, [ada, coordinator])
    server.seconds = 0.0

    # The job ends, with every image answered once, by the second question, and nothing of Eve's.
    wait_for(ada, finished, [ada, coordinator])
    wait_for(coordinator, finished, [ada, coordinator])
    for node in (ada, coordinator):
        assert made_by(processes, node, "eve", "history") == 0
        assert rows(processes, node, "SELECT count(*) AS n, count(DISTINCT key) AS keys FROM captions") == [
            {"n": IMAGES, "keys": IMAGES}
        ]
        assert rows(processes, node, "SELECT DISTINCT caption FROM captions") == [{"caption": SECOND}]
        assert rows(processes, node, "SELECT count(*) > 0 AS kept FROM history WHERE NOT asked") == [{"kept": True}]
    log = ada.log.read_text()
    assert len(re.findall(r"engine starting: starting the engine's process", log)) <= 2, "once, and after the rotation"
    hashes = {processes.run("table-hash", "--node", str(node.directory)) for node in (ada, coordinator)}
    assert len(hashes) == 1
    for node in (ada, coordinator):
        processes.stop(node)
