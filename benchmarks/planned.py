"""Plans the images of a source as signing does, in a process of its own: `python -m benchmarks.planned FOLDER SOURCE`,
which `plan` starts.

Prints seconds, images, CPU seconds, and MiB of memory that this process and those it started had at most.
"""

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from p2pcap.errors import P2pcapError
from p2pcap_bootstrap.planning import Lists, plan_lists
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.workspace import Workspace


@dataclass(frozen=True)
class Cost:
    """What planning took: seconds without the start of Python, CPU seconds of all processes, MiB of memory at most."""

    seconds: float
    cpu: float
    mib: float


def plan(folder: Path, source: Path, images: int) -> Cost:
    """Plan the source in another process, its lists in `folder`. Raises P2pcapError when it has not so many images."""
    command = [sys.executable, "-m", "benchmarks.planned", str(folder), str(source)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds, planned, cpu, mib = said[-4:]
    if int(planned) != images:
        raise P2pcapError(f"{planned} images were planned instead of {images}.")
    return Cost(float(seconds), float(cpu), float(mib))


def main(folder: str, source: str) -> None:
    """Plan once, the item lists written to disk."""
    workspace, file = Workspace(Path(folder)), ProjectFile(name="planned", images=source)
    began = time.perf_counter()
    with workspace.signing() as signing:
        lists = Lists(signing)
        plan_lists(workspace, file, None, lists, lambda number: None)
        seconds = time.perf_counter() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(f"{seconds} {lists.added} {cpu} {sum(one.ru_maxrss for one in used) / 1_024}")


if __name__ == "__main__":
    main(*sys.argv[1:])
