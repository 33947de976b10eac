"""The CPU time of a volunteer's own process beside an engine that makes 50 captions a second.

The engine is a server with OpenAI's interface that gives 50 answers a second and no more (benchmarks.paced_server): the
node does all that it does with any engine, at a rate that does not depend on this machine. The engine's process, which
decodes the images and asks the server, is not counted. The baseline is the same node afterwards, with nothing to do.
"""

import sys
import time
from dataclasses import dataclass

from benchmarks.events import engine_ready
from benchmarks.job import SHAPES, START_WITHIN, Job, make_job, serve
from benchmarks.processes import NodeView, Processes, Started, temporary_processes
from benchmarks.report import Lines, at_least, at_most

RATE = 50.0
GOAL = 10.0
"""Per cent of a core."""

LEAST = 0.9 * RATE
"""Images a second at which the measure counts: a machine that does other things as well may not keep up."""

IMAGES = 3_000
FROM, UNTIL = 300, 2_700
"""Rows between which is measured: without start and end."""

IDLE = 10.0
"""Seconds for which the idle node is looked at."""

DONE_WITHIN = 200.0
LOOK_EVERY = 1.0
SEED = 9_800


@dataclass(frozen=True)
class _Look:
    time: float
    cpu: float
    rows: int


def run() -> Lines:
    """Images a second, and the share of a core."""
    with temporary_processes() as processes:
        job = make_job(processes, "paced", IMAGES, SEED)
        server = processes.start("server", *_python("paced_server", SHAPES.name, str(RATE)), piped=True)
        start, end, rest = _measured(processes, job, server.line(START_WITHIN))
    seconds = end.time - start.time
    yield at_least("node_cpu.rate", (end.rows - start.rows) / seconds, "images/s", LEAST, RATE)
    share = 100 * (end.cpu - start.cpu) / seconds
    yield at_most("node_cpu.share", share, "% of a core", GOAL, rest)


def _measured(processes: Processes, job: Job, url: str) -> tuple[_Look, _Look, float]:
    """The volunteer at FROM rows and at UNTIL, and its share of a core in per cent when all is done."""
    coordinator, ticket = serve(processes, job)
    directory = job.folder / "volunteer"
    volunteer = processes.start("volunteer", *_python("volunteer", ticket, str(directory), str(job.model), url))
    engine_ready(volunteer, directory)
    with NodeView(directory) as view:
        start = _look_at(volunteer, view, FROM)
        end = _look_at(volunteer, view, UNTIL)
        volunteer.wait_for(view.finished, "the last caption", DONE_WITHIN)
    before = volunteer.cpu()["own"]
    time.sleep(IDLE)  # the time over which is measured
    rest = 100 * (volunteer.cpu()["own"] - before) / IDLE
    processes.stop(volunteer)
    processes.stop(coordinator)
    return start, end, rest


def _look_at(volunteer: Started, view: NodeView, rows: int) -> _Look:
    """The node as soon as it holds so many rows."""
    done = 0

    def reached() -> bool:
        nonlocal done
        snapshot = view.snapshot()
        done = snapshot.project.done if snapshot is not None else 0
        return done >= rows

    volunteer.wait_for(reached, f"{rows} rows", DONE_WITHIN, LOOK_EVERY)
    return _Look(time.perf_counter(), volunteer.cpu()["own"], done)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"benchmarks.{module}", *arguments
