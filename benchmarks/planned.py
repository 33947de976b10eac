"""Plans the images of a source as signing does, in a process of its own: `python -m benchmarks.planned FOLDER SOURCE`.

Prints seconds, images, and MiB of memory that this process and those it started had at most.
"""

import resource
import sys
import time
from pathlib import Path

from p2pcap_bootstrap.planning import Lists, plan_lists
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.workspace import Workspace


def main(folder: str, source: str) -> None:
    """Plan once, the item lists written to disk."""
    workspace, file = Workspace(Path(folder)), ProjectFile(name="planned", images=source)
    began = time.perf_counter()
    with workspace.signing() as signing:
        lists = Lists(signing)
        plan_lists(workspace, file, None, lists, lambda number: None)
        seconds = time.perf_counter() - began
    used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"{seconds} {lists.added} {sum(used) / 1_024}")


if __name__ == "__main__":
    main(*sys.argv[1:])
