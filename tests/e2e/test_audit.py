"""A cheat among volunteers is found, what he made counts no more, and the work is done again."""

import os
from pathlib import Path

import pytest

from demo.processes import Processes
from tests.e2e.audited_swarm import AuditedSwarm
from tests.e2e.swarm_of_processes import draw, finished, wait_for

pytestmark = pytest.mark.slow

IMAGES = int(os.environ.get("P2PCAP_AUDIT_IMAGES", "960"))
"""`make soak` takes more."""

GOOD = int(os.environ.get("P2PCAP_AUDIT_GOOD", "96"))
"""Answers after which the cheat turns bad."""

HONEST = ["ada", "bob", "dan", "eve"]


def test_a_cheat_who_turns_bad_is_found_and_his_work_done_again(processes: Processes, tmp_path: Path) -> None:
    images = draw(tmp_path / "pictures", IMAGES, seed=31)
    swarm = AuditedSwarm(processes, tmp_path, images, ["verifier"])
    crowd = swarm.crowd([*HONEST, "cheat"], GOOD)
    verifier = swarm.volunteer("verifier")
    observer = swarm.observer("observer")
    ours = (crowd, verifier, observer)
    failed = f"SELECT failed > 0 AS found FROM contributors WHERE author = '{swarm.key_of('cheat').peer_id}'"
    swarm.wait_until(swarm.coordinator, failed, [{"found": True}])
    for node in (swarm.coordinator, observer, verifier):
        wait_for(node, finished, ours)
    lies = swarm.lies()
    assert lies
    nodes = [swarm.coordinator, observer, verifier, *(swarm.of_crowd(crowd, name) for name in HONEST)]
    hashes = ", ".join(f"'{image}'" for image in lies)
    lied = f"SELECT count(*) AS n FROM captions WHERE author_name = 'cheat' AND image IN ({hashes})"
    for node in nodes:
        wait_for(node, finished, ours)
        swarm.wait_until(node, lied, [{"n": 0}])
        swarm.wait_until_alike(swarm.coordinator, node)
    lost = "SELECT author_name, failed FROM contributors WHERE failed > 0 AND author_name <> 'cheat'"
    assert swarm.ask(observer, lost) == []
    rows = swarm.ask(observer, "SELECT count(*) AS n, count(caption) AS captions FROM captions")
    assert rows == [{"n": IMAGES, "captions": IMAGES}]
    print(
        swarm.ask(observer, "SELECT author_name, rows, checked, failed, tier FROM contributors ORDER BY 1"), len(lies)
    )
