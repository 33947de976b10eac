"""A node goes on where it stopped: without a ticket, and without any peer."""

from pathlib import Path

from demo.processes import Processes
from p2pcap.paths import NodePaths, project_node
from p2pcap.project.ticket import Ticket
from tests.e2e.swarm_of_processes import LOOPBACK, SwarmOfProcesses, draw, wait_for


def test_join_without_a_ticket_goes_on_when_everybody_is_gone(tmp_path: Path, processes: Processes) -> None:
    images = draw(tmp_path / "pictures", 70, seed=3)
    swarm = SwarmOfProcesses(processes, tmp_path, images, wait_for_engines=1)
    directory = project_node(tmp_path / "home", Ticket.parse(swarm.ticket).root)
    first = processes.start("first", directory, "join", swarm.ticket, "--observe", *LOOPBACK)
    told = wait_for(first, lambda seen: seen.project.images == 70)
    processes.stop(first)
    processes.stop(swarm.coordinator)
    assert NodePaths(directory).ticket.exists()
    again = processes.start("again", directory, "join", "--observe", *LOOPBACK)
    seen = wait_for(again, lambda seen: seen.project.images == 70)
    assert (seen.node.peer_id, seen.project) == (told.node.peer_id, told.project)
    processes.stop(again)
    assert again.process.returncode == 0
