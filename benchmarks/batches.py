"""A node's whole path against the loop that captioning scripts are made of: LLM.chat over eight images at a time.

The loop decodes eight images, waits until the last of their captions is there, and begins again; the engine drains at
each step. The node never lets it.
"""

from benchmarks.job import make_job
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.sides import compare, cpu_ms, rate

GOAL = 1.5
IMAGES = 1_536
ROUNDS = 2
SEED = 9_400


def run() -> Lines:
    """Rates, their ratio, and the CPU time that an image costs."""
    with temporary_processes() as processes:
        jobs = [make_job(processes, f"batches-{number}", IMAGES, SEED + number) for number in range(ROUNDS)]
        nodes, loops = compare(processes, jobs, "batches")
    yield Line("batches.rate", rate(nodes), "images/s", baseline=rate(loops))
    yield at_least("batches.ratio", rate(nodes) / rate(loops), "times", GOAL, 1.0)
    yield Line("batches.cpu", cpu_ms(nodes), "ms/image", baseline=cpu_ms(loops))
