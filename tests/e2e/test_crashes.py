"""Processes are killed and the job ends all the same; what was acknowledged is still there."""

import json
from pathlib import Path

import duckdb
import psutil
import pytest

from demo.processes import Processes, Running
from p2pcap.node.snapshot import NodeSnapshot
from tests.e2e.kill_engine import MOMENTS, Killing, engine_of
from tests.e2e.slow_server import SlowServer
from tests.e2e.swarm_of_processes import SwarmOfProcesses, draw, finished, kill, wait_for

pytestmark = pytest.mark.slow

FOREVER = 10_000.0
"""Seconds that an answer takes until a test wants it."""

COUNT = 768
"""Images: enough that some are left when alice is stopped."""


def rows_of(name: str, least: int):  # type: ignore[no-untyped-def]
    """Whether a snapshot counts at least `least` rows by the author called `name`."""

    def counted(snapshot: NodeSnapshot) -> bool:
        return any(who.name == name and who.rows >= least for who in snapshot.contributors)

    return counted


def statements_by(processes: Processes, node: Running, name: str) -> set[str]:
    """The results of `name` whose rows this node holds."""
    sql = f"SELECT DISTINCT statement FROM captions WHERE author_name = '{name}'"
    rows = json.loads(processes.run("query", sql, "--json", "--node", str(node.directory)))
    return {row["statement"] for row in rows}


def test_a_killed_volunteer_loses_nothing_it_acknowledged(
    tmp_path: Path, processes: Processes, server: SlowServer
) -> None:
    images = draw(tmp_path / "pictures", 512, seed=12)
    swarm = SwarmOfProcesses(processes, tmp_path, images, wait_for_engines=2)
    server.seconds = 5.0  # or bob would be done at once
    alice, bob = swarm.volunteer("alice"), swarm.volunteer("bob", engine=server.engine)
    wait_for(bob, rows_of("alice", 64), [alice])
    family = psutil.Process(alice.process.pid).children(recursive=True)
    kill(alice.process.pid)
    alice.process.wait()
    acknowledged = statements_by(processes, bob, "alice")
    assert acknowledged
    assert not finished_now(bob)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, "the engine outlived its node"
    server.seconds = 0.0
    wait_for(bob, finished)
    with duckdb.connect(str(alice.directory / "ledger.duckdb"), read_only=True) as held:
        kept = {row[0] for row in held.execute("SELECT DISTINCT statement FROM captions").fetchall()}
    assert acknowledged <= kept
    back = swarm.observer("alice")
    wait_for(back, finished)
    swarm.wait_until_alike(back, bob)


def finished_now(running: Running) -> bool:
    """Whether the node already holds every row."""
    seen = running.snapshot()
    assert seen is not None
    return seen.project.finished


@pytest.mark.timeout(600)
def test_an_engine_that_is_killed_loses_nothing_that_was_announced(tmp_path: Path, processes: Processes) -> None:
    report = Killing(processes, tmp_path, kills=len(MOMENTS), seed=14).run(MOMENTS)
    assert report.faults == []
    assert report.restarts == len(MOMENTS)
    assert report.acknowledged
    assert report.blamed == 0


def test_engine_killed_coordinator_gone_and_a_late_volunteer(
    tmp_path: Path, processes: Processes, server: SlowServer
) -> None:
    images = draw(tmp_path / "pictures", COUNT, seed=13)
    swarm = SwarmOfProcesses(processes, tmp_path, images, wait_for_engines=1)
    alice = swarm.volunteer("alice")
    wait_for(alice, lambda seen: seen.project.done >= 64 and seen.fetch.images >= COUNT)
    stuck = engine_of(alice)
    stuck.suspend()  # or alice would be done before carol comes
    processes.stop(swarm.coordinator)
    ticket = processes.run("ticket", "--node", str(alice.directory)).strip()
    server.seconds = FOREVER  # until alice's engine is back, and captions again
    carol = swarm.volunteer("carol", ticket, server.engine)
    wait_for(carol, lambda seen: seen.engine.in_flight > 0, [alice])
    kill(stuck.pid)
    wait_for(alice, lambda seen: seen.engine.restarts >= 1, [carol])
    before = wait_for(alice, lambda seen: seen.engine.phase in ("ready", "captioning"), [carol]).project.done
    wait_for(alice, lambda seen: seen.project.done > before, [carol])
    server.seconds = 0.0
    for node in (alice, carol):
        wait_for(node, finished, [alice, carol])
    sql = "SELECT author_name AS name, count(*) AS rows, count(error) AS errors FROM captions GROUP BY ALL ORDER BY ALL"
    by_name = json.loads(processes.run("query", sql, "--json", "--node", str(carol.directory)))
    assert [row["name"] for row in by_name] == ["alice", "carol"]
    assert sum(row["rows"] for row in by_name) == COUNT
    assert sum(row["errors"] for row in by_name) == 0
    swarm.wait_until_alike(alice, carol)
