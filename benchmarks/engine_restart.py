"""From `kill -9` of an engine to its next caption, against a bare AsyncLLM from its start to its first caption.

Both are new processes that import vLLM, load the same model and caption one picture.
"""

import os
import signal
import statistics
import time
from pathlib import Path

import trio

from benchmarks.engines import fresh_name, running, task
from benchmarks.job import MAX_TOKENS, PROMPT, Job, make_job
from benchmarks.processes import Processes, temporary_processes
from benchmarks.report import Line, Lines, at_most
from benchmarks.sides import bare_start
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.errors import EngineDied

GOAL = 1.2
ROUNDS = 3
SEED = 9_700


def run() -> Lines:
    """Seconds, medians, and the median of their ratios round by round."""
    with temporary_processes() as processes:
        job = make_job(processes, "restart", 1, SEED)
        rounds = trio.run(_rounds, processes, job)
    ours, bare = zip(*rounds, strict=True)
    yield Line("engine_restart.seconds", statistics.median(ours), "s", baseline=statistics.median(bare))
    yield at_most("engine_restart.ratio", statistics.median(one / other for one, other in rounds), "times", GOAL, 1.0)


async def _rounds(processes: Processes, job: Job) -> list[tuple[float, float]]:
    """Seconds of a restart and of a bare start, round by round."""
    picture = next(path for path in sorted(job.images.rglob("*")) if path.is_file())
    found = []
    async with running(task([PROMPT], MAX_TOKENS), Path(processes.folder)) as engine:
        await _captioned(engine, picture.read_bytes())
        for _ in range(ROUNDS):
            began = time.perf_counter()
            os.kill(engine.state.pid, signal.SIGKILL)
            await _captioned(engine, picture.read_bytes())
            ours = time.perf_counter() - began
            found.append((ours, await trio.to_thread.run_sync(bare_start, processes, job)))
    return found


async def _captioned(engine: VllmEngine, file: bytes) -> None:
    """One caption, however often the engine dies before; the first try may still meet the one that was killed."""
    while True:
        await engine.wait_ready()
        try:
            await engine.caption(file, fresh_name())
        except EngineDied:
            await trio.lowlevel.checkpoint()
        else:
            return
