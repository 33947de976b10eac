"""On a machine with a GPU: a node's whole path against one offline LLM.generate over all images.

The model has the width and the depth of SmolVLM-256M's language model and random weights, in 16 bits; the image decides
how long its caption is (benchmarks.chain_model). Where NVIDIA's driver tells of no GPU nothing is measured: the lines
have no value.
"""

import sys

from benchmarks.job import chain_model, make_job
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.sides import compare, cpu_ms, rate
from p2pcap.engine.gpus import look

GOAL = 0.97
LAYERS, SHORTEST, LONGEST = 30, 10, 200
DTYPE = "bfloat16"
IMAGES = 6_144
ROUNDS = 2
SEED = 9_500


def run() -> Lines:
    """Rates, their ratio, and the CPU time that an image costs; no values without a GPU."""
    found = look()
    if not found.gpus:
        print(f"no GPU here: {found.reason}", file=sys.stderr, flush=True)
        yield Line("gpu.rate", None, "images/s")
        yield Line("gpu.ratio", None, "ratio", GOAL, 1.0)
        return
    with temporary_processes() as processes:
        model = chain_model(processes, LAYERS, SHORTEST, LONGEST, DTYPE)
        more = ("--dtype", DTYPE)
        jobs = [
            make_job(processes, f"gpu-{number}", IMAGES, SEED + number, model, LONGEST + 1, more)
            for number in range(ROUNDS)
        ]
        nodes, offline = compare(processes, jobs, "offline")
    yield Line("gpu.rate", rate(nodes), "images/s", baseline=rate(offline))
    yield at_least("gpu.ratio", rate(nodes) / rate(offline), "ratio", GOAL, 1.0)
    yield Line("gpu.cpu", cpu_ms(nodes), "ms/image", baseline=cpu_ms(offline))
