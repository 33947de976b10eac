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

LATER = ["bob", "dan", "eve", "verifier"]


def failed(snapshot: NodeSnapshot, name: str) -> int:
    """How many captions of that volunteer verifiers found wrong, as a node knows."""
    return sum(one.standing.failed for one in snapshot.contributors if one.name == name)


def passed(snapshot: NodeSnapshot, name: str) -> int:
    """How many captions of that volunteer verifiers found right, as a node knows."""
    return sum(one.standing.passed for one in snapshot.contributors if one.name == name)


@pytest.mark.timeout(SECONDS)
def test_a_cheat_who_turns_bad_is_found_and_his_work_done_again(processes: Processes, tmp_path: Path) -> None:
    images = draw(tmp_path / "pictures", IMAGES, seed=31)
    swarm = AuditedSwarm(processes, tmp_path, images, ["verifier"])
    first = swarm.crowd(["ada", "cheat"], GOOD)
    begun = wait_for(swarm.coordinator, lambda snapshot: bool(swarm.lies()) or finished(snapshot), [first])
    assert swarm.lies(), f"all was done before the cheat turned bad: {begun}"
    later = swarm.crowd(LATER)  # not before: he would not get to his good answers while there is work left
    observer = swarm.observer("observer")
    ours = (first, later, observer)
    verifier = swarm.of_crowd(later, "verifier")
    wait_for(swarm.coordinator, lambda snapshot: failed(snapshot, "cheat") > 0, ours)
    for node in (swarm.coordinator, observer, verifier):
        wait_for(node, finished, ours)
    honest = [swarm.of_crowd(first, "ada"), *(swarm.of_crowd(later, name) for name in LATER)]
    nodes = [swarm.coordinator, observer, *honest]
    for node in nodes:
        wait_for(node, finished, ours)
        swarm.wait_until_no_lie(node)
        swarm.wait_until_alike(swarm.coordinator, node)
    lies = swarm.lies()
    for node in (swarm.coordinator, observer):
        exported = swarm.exported(node)
        assert len(exported) == IMAGES
        assert [row for row in exported if row["author_name"] == "cheat" and row["image"] in lies] == []
    lost = "SELECT author_name, failed FROM contributors WHERE failed > 0 AND author_name <> 'cheat'"
    assert swarm.ask(observer, lost) == []
    assert swarm.ask(observer, "SELECT count(caption) AS n FROM captions") == [{"n": IMAGES}]
    print(swarm.ask(observer, "SELECT author_name, rows, checked, passed, failed FROM contributors ORDER BY 1"))
    print(f"{len(lies)} lies")


@pytest.mark.timeout(600)
def test_a_verifier_who_lies_is_contradicted_and_shown(processes: Processes, tmp_path: Path) -> None:
    """One verifier's word takes effect at once here, until another one looks; nobody is banned by it."""
    images = draw(tmp_path / "pictures", 256, seed=32)
    swarm = AuditedSwarm(processes, tmp_path, images, ["vera", "liar"])
    crowd = swarm.crowd(["ada", "vera", "liar"])
    vera, liar, ada = (swarm.key_of(name).peer_id for name in ("vera", "liar", "ada"))

    def is_shown(snapshot: NodeSnapshot) -> bool:
        shown = snapshot.contradictions
        return any((one.author, one.bad, one.ok) == (ada, (liar,), (vera,)) for one in shown)

    wait_for(swarm.coordinator, lambda snapshot: finished(snapshot) and is_shown(snapshot), [crowd])
    shown = wait_for(swarm.coordinator, lambda snapshot: failed(snapshot, "ada") == 0, [crowd])
    assert {one.name: one.standing.why for one in shown.contributors if "banned" in one.standing.why} == {}
