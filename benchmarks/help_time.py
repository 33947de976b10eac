"""How long `p2pcap --help` takes, against Python that imports click and does nothing: what the help itself costs.

Both are processes of their own, in turns, so that a machine that is busy with other things slows both.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.report import Line, Lines, at_most

RUNS = 15
GOAL = 3.0
"""Times `python -c "import click"`."""


def run() -> Lines:
    """The medians, and their ratio."""
    program, bare = [str(Path(sys.executable).with_name("p2pcap")), "--help"], [sys.executable, "-c", "import click"]
    _seconds(program), _seconds(bare)  # what is not in the disk's cache yet
    times = [(_seconds(program), _seconds(bare)) for _ in range(RUNS)]
    help_time, click_time = (median(column) for column in zip(*times, strict=True))
    yield Line("help_time_seconds", help_time, "s", baseline=click_time)
    yield at_most("help_time", help_time / click_time, "times", GOAL)


def _seconds(command: list[str]) -> float:
    """CPU and waiting of one process, from its start to its end."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""})
    return time.perf_counter() - begun
