"""What a maintainer says about volunteers reaches every node, whether the coordinator runs or not; no engine needed."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Processes, Running
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap_bootstrap.workspace import Workspace
from tests.e2e.swarm_of_processes import LOOPBACK, wait_for
from tests.makers import ADA, EVE
from tests.unit.captioned import IMAGES, captioned_project

pytestmark = pytest.mark.slow


class Swarm:
    """A coordinator whose node holds captions, and an observer."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.workspace: Workspace = captioned_project(folder)
        self.directory = str(self.workspace.directory)
        self.serve()
        observer = folder / "observer"
        command = ("join", self.ticket, "--observe", "--node", str(observer), *LOOPBACK)
        self.observer = processes.start("observer", observer, *command)
        self.both = [self.coordinator, self.observer]

    def serve(self) -> None:
        command = ("bootstrap", "serve", self.directory, *LOOPBACK)
        self.coordinator = self.processes.start("coordinator", self.workspace.node, *command, output=subprocess.PIPE)
        self.ticket = self.processes.first_line(self.coordinator)

    def wait_for_rows(self, number: int, *nodes: Running) -> None:
        def has(snapshot: NodeSnapshot) -> bool:
            return snapshot.project.done == number

        for node in nodes:
            wait_for(node, has, nodes)

    def ask(self, node: Running, sql: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(
            self.processes.run("query", sql, "--json", "--node", str(node.directory))
        )
        return found

    def wait_until(self, node: Running, sql: str, expected: list[dict[str, object]]) -> None:
        wait_for(node, lambda _: self.ask(node, sql) == expected)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    folder = tmp_path_factory.mktemp("rulings")
    with Processes(folder) as processes:
        made = Swarm(processes, folder)
        made.wait_for_rows(IMAGES, *made.both)
        yield made


def test_a_banned_volunteers_rows_go_everywhere_and_come_back_when_it_is_lifted(swarm: Swarm) -> None:
    """With the scope "all": the coordinator may seal the captions at any moment."""
    ban = ("ban", swarm.directory, "Ada", "--scope", "all", "--reason", "blank captions")
    shown = swarm.processes.run(*ban, "--dry-run")
    assert "40 rows of Ada" in shown
    swarm.wait_for_rows(IMAGES, *swarm.both)
    swarm.processes.run(*ban, "--yes")
    swarm.wait_for_rows(IMAGES - 40, *swarm.both)
    again = swarm.processes.attempt(*ban, "--yes")
    assert (again.returncode, "banned just so already" in again.stderr) == (2, True)
    swarm.processes.run("ban", swarm.directory, ADA.peer_id, "--lift", "--yes")
    swarm.wait_for_rows(IMAGES, *swarm.both)


def test_a_volunteer_is_admitted_by_name(swarm: Swarm) -> None:
    swarm.processes.run("grant", swarm.directory, EVE.peer_id, "--name", "Eve", "--yes")
    eve = f"SELECT author_name FROM authors WHERE author = '{EVE.peer_id}'"
    for node in swarm.both:
        swarm.wait_until(node, eve, [{"author_name": "Eve"}])


def test_redacted_captions_are_dropped_everywhere(swarm: Swarm) -> None:
    shown = swarm.processes.run("redact", swarm.directory, "00003.png", "1:35", "--reason", "a face", "--yes")
    assert "00003.png: caption 3 (Ada)" in shown
    swarm.wait_for_rows(24, *swarm.both)  # with the two images the others of both results
    for node in swarm.both:
        assert swarm.ask(node, "SELECT sum(redacted)::INTEGER AS n FROM chunks") == [{"n": 2}]


def test_a_peer_takes_a_ruling_when_the_coordinator_is_away(swarm: Swarm) -> None:
    swarm.processes.stop(swarm.coordinator)
    done = swarm.processes.attempt("void", swarm.directory, "--author", "Bob", "--reason", "wrong language", "--yes")
    assert done.returncode == 0, done.stderr
    assert "a peer holds it" in done.stderr
    swarm.wait_for_rows(0, swarm.observer)


def test_what_was_signed_while_nobody_answered_is_handed_in_by_the_next_serve(swarm: Swarm) -> None:
    swarm.processes.stop(swarm.observer)
    (swarm.workspace.node / "peers.json").unlink(missing_ok=True)
    said = swarm.processes.attempt("ban", swarm.directory, "Ada", "--scope", "all", "--yes")
    assert said.returncode == 0, said.stderr
    assert "waits in" in said.stderr
    swarm.serve()
    bans = "SELECT count(*) AS n FROM rulings WHERE kind = 'ban' AND word = 'all'"
    swarm.wait_until(swarm.coordinator, bans, [{"n": 2}])  # the first one was lifted
    swarm.wait_until(swarm.coordinator, "SELECT count(*) AS n FROM rulings WHERE kind = 'void'", [{"n": 2}])
    wait_for(swarm.coordinator, lambda _: not list((swarm.workspace.directory / "outbox").iterdir()))
