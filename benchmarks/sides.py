"""One set of pictures captioned by a whole node, and by vLLM alone: the rounds that are compared.

A node's round is from the moment its engine is ready, when it may claim, to the arrival of its last result at the
coordinator: claiming, fetching over libp2p, captioning, signing, committing and announcing all lie in between. Each
round starts its engine anew, so no cache knows the pictures, and starting is not counted.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from benchmarks.events import engine_ready
from benchmarks.job import Job, serve
from benchmarks.processes import NodeView, Processes, Started
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.device import environment
from p2pcap.errors import P2pcapError
from p2pcap.paths import NodePaths

Kind = Literal["loop", "offline", "batches"]
"""How vLLM alone is fed, see benchmarks.bare."""

DONE_WITHIN = 600.0
"""Seconds a round may take, an engine's start included."""


@dataclass(frozen=True)
class Round:
    """`images` captioned in `seconds`; `cpu` is the CPU seconds of each part of the side meanwhile."""

    images: int
    seconds: float
    cpu: Mapping[str, float]


def rate(rounds: Sequence[Round]) -> float:
    """Images per second over all rounds together."""
    return sum(r.images for r in rounds) / sum(r.seconds for r in rounds)


def cpu_ms(rounds: Sequence[Round], *parts: str) -> float:
    """CPU milliseconds for an image, of these parts or of all."""
    seconds = sum(sum(r.cpu[part] for part in parts or r.cpu) for r in rounds)
    return 1_000 * seconds / sum(r.images for r in rounds)


def node_round(processes: Processes, job: Job) -> Round:
    """A coordinator and one volunteer caption the whole job."""
    directory = job.folder / "volunteer"
    coordinator, ticket = serve(processes, job)
    command = (sys.executable, "-m", "benchmarks.volunteer", ticket, str(directory), str(job.model))
    volunteer = processes.start(f"{job.name}-volunteer", *command)
    try:
        ready = engine_ready(volunteer, directory)
        before = _cpu(volunteer, coordinator)
        with NodeView(directory) as mine, NodeView(job.coordinator) as theirs:
            volunteer.wait_for(mine.finished, "the last caption", DONE_WITHIN)
            cpu = {part: seconds - before[part] for part, seconds in _cpu(volunteer, coordinator).items()}
            coordinator.wait_for(theirs.finished, "the arrival of the last result", DONE_WITHIN)
    finally:
        processes.stop(volunteer)
        processes.stop(coordinator)
    return Round(job.count, _last_result(NodePaths(job.coordinator).database) - ready, cpu)


def bare_round(processes: Processes, job: Job, kind: Kind) -> Round:
    """vLLM alone captions the whole job."""
    bare = _started(processes, job, kind)
    try:
        _skip_to(bare, "ready")
        before = sum(bare.cpu().values())
        said: dict[str, Any] = json.loads(_skip_to(bare, "{"))
        cpu = {"engine": sum(bare.cpu().values()) - before}
    finally:
        processes.stop(bare)
    if said["captions"] != job.count:
        raise P2pcapError(f"vLLM alone gave {said['captions']} captions for {job.count} images.")
    return Round(job.count, said["seconds"], cpu)


def bare_start(processes: Processes, job: Job) -> float:
    """Seconds from the start of a bare AsyncLLM's process until it has captioned the whole job."""
    began = time.perf_counter()
    bare = _started(processes, job, "loop")
    try:
        _skip_to(bare, "{")
        return time.perf_counter() - began
    finally:
        processes.stop(bare)


def _started(processes: Processes, job: Job, kind: Kind) -> Started:
    command = (sys.executable, "-m", "benchmarks.bare", kind, str(job.workspace), str(job.images), str(job.model))
    variables = environment(EngineSettings(), os.environ)
    return processes.start(f"{job.name}-{kind}", *command, environment=variables, piped=True)


def compare(processes: Processes, make: Sequence[Job], kind: Kind) -> tuple[list[Round], list[Round]]:
    """Node and vLLM alone in turn, once for each job; says each round's rates to standard error."""
    nodes: list[Round] = []
    bares: list[Round] = []
    for job in make:
        nodes.append(node_round(processes, job))
        bares.append(bare_round(processes, job, kind))
        rates = f"node {rate(nodes[-1:]):.1f}, vLLM alone {rate(bares[-1:]):.1f} images/s"
        print(f"{job.name}: {rates}", file=sys.stderr, flush=True)
    return nodes, bares


def _cpu(volunteer: Started, coordinator: Started) -> dict[str, float]:
    times = volunteer.cpu()
    return {"node": times["own"], "engine": times["below"], "coordinator": coordinator.cpu()["own"]}


def _last_result(database: Path) -> float:
    """When the newest result came in, in unix seconds."""
    with duckdb.connect(str(database), read_only=True) as connection:
        row = connection.execute("SELECT max(received) FROM statement WHERE kind = 'result'").fetchone()
    assert row is not None
    return float(row[0])


def _skip_to(bare: Started, start: str) -> str:
    """The next line that starts so: libraries write to standard output too."""
    deadline = time.monotonic() + DONE_WITHIN
    while not (line := bare.line(max(1.0, deadline - time.monotonic()))).startswith(start):
        pass
    return line
