"""A node's whole path against one offline LLM.generate over all images, the fastest that vLLM gets here.

The two are not alike: offline, all images are there before the first is captioned, and nothing is answered before the
last. The ratio says what continuous work costs in all, AsyncLLM included, and nothing is promised about it.
"""

from benchmarks.job import make_job
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines
from benchmarks.sides import compare, cpu_ms, rate

IMAGES = 3_072
ROUNDS = 2
SEED = 9_100


def run() -> Lines:
    """Rates, their ratio, and the CPU time that an image costs."""
    with temporary_processes() as processes:
        jobs = [make_job(processes, f"offline-{number}", IMAGES, SEED + number) for number in range(ROUNDS)]
        nodes, offline = compare(processes, jobs, "offline")
    yield Line("offline.rate", rate(nodes), "images/s", baseline=rate(offline))
    yield Line("offline.ratio", rate(nodes) / rate(offline), "ratio", baseline=1.0)
    yield Line("offline.cpu", cpu_ms(nodes), "ms/image", baseline=cpu_ms(offline))
