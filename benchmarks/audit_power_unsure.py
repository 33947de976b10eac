"""As audit_power, by models that are not certain of their words: limits set by a nearly certain one say little of them.

One is wrong about every other picture and unsure of its words (benchmarks.noisy_model); and that one with its words
drawn by chance.
"""

from msgspec.structs import replace

from benchmarks.audit_power import TOKENS, Case, measured, noisy_model
from benchmarks.engines import task
from benchmarks.job import SHAPES
from benchmarks.processes import temporary_processes
from benchmarks.report import Lines
from models.shapes.pictures import DESCRIBE

WARM = 700
"""Thousandths: the temperature at which words are drawn by chance."""

AUDITED = 300


def run() -> Lines:
    """The lines of audit_power for both."""
    describe = task([DESCRIBE], TOKENS)
    warm = replace(describe, sampling=replace(describe.sampling, temperature=WARM))
    with temporary_processes() as processes:
        noisy = noisy_model(processes)
        for name, asked in (("uncertain", describe), ("sampled", warm)):
            yield from measured(Case(name, noisy, SHAPES, asked, AUDITED))
