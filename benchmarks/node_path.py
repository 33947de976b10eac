"""A node's whole path against a bare AsyncLLM: what claiming, fetching, signing, storing and telling others cost.

Both sides caption the same pictures with the same model, engine arguments and sampling, in turn (A B A B), and their
images and seconds are added up. The model is tiny, so this is the dearest a node ever is: where a model takes a second
for an image, the same milliseconds are lost in it. The coordinator runs on this machine too, and takes its share.
"""

from benchmarks.job import make_job
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.sides import compare, cpu_ms, rate

GOAL = 0.85
IMAGES = 3_072
ROUNDS = 2
SEED = 9_000


def run() -> Lines:
    """Rates, their ratio, and the CPU time that an image costs in each part."""
    with temporary_processes() as processes:
        jobs = [make_job(processes, f"round-{number}", IMAGES, SEED + number) for number in range(ROUNDS)]
        nodes, bares = compare(processes, jobs, "loop")
    yield Line("node_path.rate", rate(nodes), "images/s", baseline=rate(bares))
    yield at_least("node_path.ratio", rate(nodes) / rate(bares), "ratio", GOAL, 1.0)
    yield Line("node_path.cpu", cpu_ms(nodes), "ms/image", baseline=cpu_ms(bares))
    yield Line("node_path.cpu_engine", cpu_ms(nodes, "engine"), "ms/image", baseline=cpu_ms(bares))
    yield Line("node_path.cpu_node", cpu_ms(nodes, "node"), "ms/image")
    yield Line("node_path.cpu_coordinator", cpu_ms(nodes, "coordinator"), "ms/image")
