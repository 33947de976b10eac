"""Captions of 10 to 200 tokens mixed: whether a node loses anything where one slice ends and the next begins.

The image decides how long its caption is (benchmarks.chain_model), so both sides have the same mixture. The baseline, a
bare AsyncLLM, knows of no slices.
"""

from benchmarks.job import chain_model, make_job
from benchmarks.processes import temporary_processes
from benchmarks.report import Line, Lines, at_least
from benchmarks.sides import compare, cpu_ms, rate

GOAL = 0.97
LAYERS, SHORTEST, LONGEST = 4, 10, 200
IMAGES = 320
"""Five slices."""

ROUNDS = 2
SEED = 9_300


def run() -> Lines:
    """Rates, their ratio, and the CPU time that an image costs."""
    with temporary_processes() as processes:
        model = chain_model(processes, LAYERS, SHORTEST, LONGEST)
        jobs = [
            make_job(processes, f"mixed-{number}", IMAGES, SEED + number, model, LONGEST + 1)
            for number in range(ROUNDS)
        ]
        nodes, bares = compare(processes, jobs, "loop")
    yield Line("mixed_lengths.rate", rate(nodes), "images/s", baseline=rate(bares))
    yield at_least("mixed_lengths.ratio", rate(nodes) / rate(bares), "ratio", GOAL, 1.0)
    yield Line("mixed_lengths.cpu", cpu_ms(nodes), "ms/image", baseline=cpu_ms(bares))
