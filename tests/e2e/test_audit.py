"""A cheat among volunteers is found, what he made counts no more, and the work is done again."""

import os
from pathlib import Path

import pytest

from demo.processes import Processes
from p2pcap.node.snapshot import NodeSnapshot
from tests.e2e.audited_swarm import AuditedSwarm
from tests.e2e.swarm_of_processes import draw, finished, wait_for

pytestmark = pytest.mark.slow

IMAGES = int(os.environ.get("P2PCAP_AUDIT_IMAGES", "960"))
"""`make soak` takes more."""

GOOD = int(os.environ.get("P2PCAP_AUDIT_GOOD", "40"))
"""Answers after which the cheat turns bad."""

SECONDS = float(os.environ.get("P2PCAP_AUDIT_SECONDS", "600"))

HONEST = ["ada", "bob", "dan", "eve"]


def failed(snapshot: NodeSnapshot, name: str) -> int:
    """How many captions of that volunteer verifiers found wrong, as a node knows."""
    return sum(one.standing.failed for one in snapshot.contributors if one.name == name)


@pytest.mark.timeout(SECONDS)
def test_a_cheat_who_turns_bad_is_found_and_his_work_done_again(processes: Processes, tmp_path: Path) -> None:
    images = draw(tmp_path / "pictures", IMAGES, seed=31)
    swarm = AuditedSwarm(processes, tmp_path, images, ["verifier"])
    crowd = swarm.crowd([*HONEST, "cheat"], GOOD)
    wait_for(swarm.coordinator, lambda _: bool(swarm.lies()), [crowd])
    verifier = swarm.volunteer("verifier")  # not before: with an engine of its own it would do most of the work
    observer = swarm.observer("observer")
    ours = (crowd, verifier, observer)
    wait_for(swarm.coordinator, lambda snapshot: failed(snapshot, "cheat") > 0, ours)
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


@pytest.mark.timeout(600)
def test_a_verifier_who_lies_is_contradicted_and_shown(processes: Processes, tmp_path: Path) -> None:
    """One verifier's word is enough here. Where the coordinator bans by itself it would ban by that word."""
    images = draw(tmp_path / "pictures", 256, seed=32)
    swarm = AuditedSwarm(processes, tmp_path, images, ["vera", "liar"], bans=False)
    crowd = swarm.crowd(["ada", "vera", "liar"], after=0)
    vera, liar, ada = (swarm.key_of(name).peer_id for name in ("vera", "liar", "ada"))

    def is_shown(snapshot: NodeSnapshot) -> bool:
        shown = snapshot.contradictions
        return any((one.author, one.bad, one.ok) == (ada, (liar,), (vera,)) for one in shown)

    wait_for(swarm.coordinator, lambda snapshot: finished(snapshot) and is_shown(snapshot), [crowd])
    wait_for(swarm.coordinator, lambda snapshot: failed(snapshot, "ada") == 0, [crowd])
