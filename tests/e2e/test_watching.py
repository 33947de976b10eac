"""What the owner of a node sees of the swarm: status, metrics and doctor, asked of nodes that really run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.processes import Processes, Running
from tests.e2e.swarm_of_processes import LOOPBACK, SwarmOfProcesses, draw, wait_for


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SwarmOfProcesses, Running]]:
    """A coordinator and an observer with a cap on its uploads, which know each other."""
    folder = tmp_path_factory.mktemp("watched")
    images = draw(tmp_path_factory.mktemp("images"), 70, seed=6)
    with Processes(folder) as processes:
        served = SwarmOfProcesses(processes, folder, images, wait_for_engines=1)
        limits = ("--upload-limit", "0.5", "--store", "archive")
        command = ("join", served.ticket, "--observe", "--node", str(folder / "observer"), *limits, *LOOPBACK)
        observer = processes.start("observer", folder / "observer", *command)
        wait_for(observer, lambda snapshot: snapshot.network.synced is not None and snapshot.peers[0].received > 0)
        yield served, observer


def test_status_shows_the_network(swarm: tuple[SwarmOfProcesses, Running]) -> None:
    served, observer = swarm
    told = served.processes.run("status", "--node", str(observer.directory))
    assert "0 connections in, 1 out; 64 at most" in told
    assert "(limit 500.0 kB/s)" in told
    assert "all statements compared with a peer: " in told
    assert "(store archive)" in told
    coordinator = served.processes.run("status", "--node", str(served.coordinator.directory))
    assert "1 connections in, 0 out; 256 at most" in coordinator


def test_metrics_are_of_the_node_asked(swarm: tuple[SwarmOfProcesses, Running]) -> None:
    served, observer = swarm
    text = served.processes.run("metrics", "--node", str(observer.directory))
    found = {
        sample.name + str(sorted((k, v) for k, v in sample.labels.items() if k not in ("project", "role"))): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert {sample.labels["role"] for sample in found.values()} == {"observer"}
    assert found["p2pcap_images[]"].value == 70
    assert found["p2pcap_network_received_bytes_total[]"].value > 0
    assert found["p2pcap_peers[('direction', 'out'), ('way', 'direct')]"].value == 1
    assert found["p2pcap_requests_sent_total[('outcome', 'ok'), ('request', 'status')]"].value >= 1
    assert found["p2pcap_dials_total[('outcome', 'connected')]"].value >= 1


def test_the_doctor_asks_the_node_that_runs_and_dials_for_one_that_does_not(
    swarm: tuple[SwarmOfProcesses, Running], tmp_path: Path
) -> None:
    served, observer = swarm
    running = served.processes.attempt("doctor", "--json", "--node", str(observer.directory))
    verdicts = {finding["check"]: finding["verdict"] for finding in json.loads(running.stdout)}
    assert (verdicts["peers"], verdicts["key"]) == ("ok", "ok")
    dialled = served.processes.attempt("doctor", served.ticket, "--json", "--no-upnp", "--node", str(tmp_path / "new"))
    findings = json.loads(dialled.stdout)
    answers = [finding for finding in findings if "a coordinator with" in finding["text"]]
    assert answers
    assert {finding["verdict"] for finding in answers} == {"ok"}
    assert not (tmp_path / "new").exists()
