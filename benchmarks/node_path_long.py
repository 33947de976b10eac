"""As node_path, where a caption costs what a caption of a real model costs at least: 50 ms of compute and more.

The model has the architecture and the width of SmolVLM-256M and random weights, and all answers have one length
(benchmarks.chain_model). What a node adds is to vanish beside it.
"""

from benchmarks.job import chain_model, make_job
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.sides import compare, cpu_ms, rate

GOAL = 0.97
COSTS = 50.0
"""CPU milliseconds of a caption, at least."""

LAYERS, TOKENS = 6, 48
IMAGES = 320
ROUNDS = 2
SEED = 9_200


def run() -> Lines:
    """Rates, their ratio, and the CPU time that an image costs."""
    with temporary_processes() as processes:
        model = chain_model(processes, LAYERS, TOKENS, TOKENS)
        jobs = [
            make_job(processes, f"long-{number}", IMAGES, SEED + number, model, TOKENS + 1) for number in range(ROUNDS)
        ]
        nodes, bares = compare(processes, jobs, "loop")
    yield at_least("node_path_long.cost", cpu_ms(bares), "ms/image", COSTS)
    yield Line("node_path_long.rate", rate(nodes), "images/s", baseline=rate(bares))
    yield at_least("node_path_long.ratio", rate(nodes) / rate(bares), "ratio", GOAL, 1.0)
    yield Line("node_path_long.cpu", cpu_ms(nodes), "ms/image", baseline=cpu_ms(bares))
