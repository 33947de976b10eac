"""How long a changed prompt takes to reach a swarm of six nodes, on loopback.

From the moment that the coordinator is told to take up what was signed, until every node works by it: it has fetched
root, manifest and plan, checked them, and made them durable. The baseline is the coordinator's own part of that.
"""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.job import LOOPBACK, PROMPT, START_WITHIN, Job, make_job, serve
from benchmarks.processes import P2PCAP, NodeView, Processes, Started, temporary_processes
from benchmarks.report import Line, Lines, at_most
from p2pcap.node.client import Client
from p2pcap.paths import running_node

GOAL = 3.0
"""Seconds."""

OTHERS = 5
IMAGES = 64
ROUNDS = 5
SEED = 9_600
LOOK_EVERY = 0.02


def run() -> Lines:
    """The median of a few changes, and the slowest."""
    with temporary_processes() as processes, ExitStack() as views:
        job = make_job(processes, "changing", IMAGES, SEED)
        coordinator, ticket = serve(processes, job)
        nodes = {job.coordinator: coordinator}
        for number in range(OTHERS):
            directory = job.folder / f"observer-{number}"
            command = (*P2PCAP, "join", ticket, "--observe", "--node", str(directory), "--listen", LOOPBACK)
            nodes[directory] = processes.start(directory.name, *command)
        watched = [(node, views.enter_context(NodeView(directory))) for directory, node in nodes.items()]
        _wait(watched, 1, START_WITHIN)
        taken, spread = zip(*(_change(processes, job, watched, 2 + number) for number in range(ROUNDS)), strict=True)
        for node in nodes.values():
            processes.stop(node)
    yield at_most("manifest_change.seconds", statistics.median(spread), "s", GOAL, statistics.median(taken))
    yield Line("manifest_change.slowest", max(spread), "s", baseline=max(taken))


def _change(
    processes: Processes, job: Job, watched: Sequence[tuple[Started, NodeView]], version: int
) -> tuple[float, float]:
    """Seconds until the coordinator has the manifest of that version, and until every node has it."""
    file = job.workspace / "project.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(PROMPT, f"{PROMPT} ", 1), encoding="utf-8")
    processes.run(*P2PCAP, "project", "sign", str(job.workspace))
    node = running_node(job.coordinator)
    assert node is not None
    with Client(node.socket) as client:
        begun = time.perf_counter()
        client.reload()
        taken = time.perf_counter() - begun
    _wait(watched, version, START_WITHIN)
    return taken, time.perf_counter() - begun


def _wait(watched: Sequence[tuple[Started, NodeView]], version: int, seconds: float) -> None:
    """Wait until every node has the manifest of that version."""
    for node, view in watched:

        def has_it(view: NodeView = view) -> bool:
            seen = view.snapshot()
            return seen is not None and seen.project.manifest >= version

        node.wait_for(has_it, f"manifest {version}", seconds, LOOK_EVERY)
