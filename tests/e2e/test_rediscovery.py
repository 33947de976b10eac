"""A node finds its swarm again by the peers it remembers, when whoever invited it is gone."""

from pathlib import Path

from demo.processes import Processes
from tests.e2e.swarm_of_processes import SwarmOfProcesses, draw, wait_for


def test_two_that_met_once_meet_again_without_the_coordinator(tmp_path: Path, processes: Processes) -> None:
    swarm = SwarmOfProcesses(processes, tmp_path, draw(tmp_path / "pictures", 70, seed=4), wait_for_engines=1)
    ada, bob = swarm.observer("ada"), swarm.observer("bob")
    ids = {node.name: wait_for(node, lambda seen: seen.project.images == 70).node.peer_id for node in (ada, bob)}
    wait_for(bob, lambda seen: ids["ada"] in {peer.peer_id for peer in seen.peers})
    for node in (swarm.coordinator, ada, bob):
        processes.stop(node)
    ada, bob = swarm.observer("ada"), swarm.observer("bob")
    wait_for(ada, lambda seen: [peer.peer_id for peer in seen.peers] == [ids["bob"]], [bob])
    wait_for(bob, lambda seen: [peer.peer_id for peer in seen.peers] == [ids["ada"]], [ada])
