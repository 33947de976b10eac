"""Local image files planned a minute, hashes and item lists included, against `sha256sum` over the same files.

The files are in the page cache: each side reads them once before anything is counted. The sides take turns, so that
what else the machine does meets both. 50 kB is small for a photograph, so that files count and not only bytes.
"""

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.planned import plan
from benchmarks.report import Line, Lines, at_least
from p2pcap.errors import P2pcapError

FILES, SIZE, PER_FOLDER = 20_000, 50_000, 1_000
ROUNDS = 5
GOAL_RATIO, GOAL_RATE = 0.70, 200_000.0


def run() -> Lines:
    """Files a minute of both, by the median round, and the median of their ratios."""
    with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        images, work = Path(folder, "images"), Path(folder, "work")
        _write(images)
        work.mkdir()
        rounds = [(_ours(images, work), _sha256sum(images)) for _ in range(ROUNDS + 1)][1:]
    ours, plain = ([FILES / seconds * 60 for seconds in side] for side in zip(*rounds, strict=True))
    yield at_least("plan_files.rate", statistics.median(ours), "files/min", GOAL_RATE, statistics.median(plain))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, plain, strict=True))
    yield at_least("plan_files.ratio", ratio, "ratio", GOAL_RATIO, 1.0)
    yield Line("plan_files.bytes", statistics.median(ours) / 60 * SIZE / 1e6, "MB/s")


def _write(images: Path) -> None:
    for number in range(FILES):
        folder = images / f"{number // PER_FOLDER:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06}.jpg").write_bytes(os.urandom(SIZE))


def _ours(images: Path, work: Path) -> float:
    """Seconds of planning; the start of Python is left out, as is the walk of `find` on the other side's."""
    return plan(work, images, FILES).seconds


def _sha256sum(images: Path) -> float:
    paths = b"\0".join(os.fsencode(path) for path in sorted(images.rglob("*.jpg")))
    began = time.perf_counter()
    done = subprocess.run(["xargs", "-0", "sha256sum"], input=paths, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    if done.stdout.count(b"\n") != FILES:
        raise P2pcapError("sha256sum did not read all files.")
    return seconds
