"""Starting the processes of a swarm benchmark, and what is worked out from what they say."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.job import START_WITHIN
from benchmarks.processes import Processes, Started
from benchmarks.swarm_project import write_project

MEET_WITHIN = 120.0
"""Seconds peers get to find each other."""


def new_project(processes: Processes) -> Path:
    """A folder with a project for all processes."""
    folder = processes.folder / "swarm"
    folder.mkdir()
    write_project(folder)
    return folder


def start_node(processes: Processes, folder: Path, name: str = "node") -> tuple[Started, str]:
    """A whole node, and its address."""
    command = (sys.executable, "-m", "benchmarks.swarm_node", str(folder), str(processes.folder / name))
    node = processes.start(name, *command, piped=True)
    return node, node.line(START_WITHIN)


def start_peers(
    processes: Processes, folder: Path, groups: int, each: int, links: int, known: Sequence[str]
) -> list[Started]:
    """`groups` processes with `each` peers; every group knows `known` and the first group's first peers."""
    started: list[Started] = []
    known = list(known)
    for number in range(groups):
        command = (sys.executable, "-m", "benchmarks.swarm_peers", str(folder), str(each), str(links), *known)
        group = processes.start(f"peers-{number}", *command, piped=True)
        addresses = json.loads(group.line(START_WITHIN))
        known = known or addresses[:2]
        started.append(group)
    return started


def meet(groups: Iterable[Started], number: int) -> None:
    """Wait until each peer has so many others."""
    for group in groups:
        group.ask(MEET_WITHIN, "meet", number)


def talk(groups: Sequence[Started], each: int, rate: float) -> dict[str, float]:
    """Have every peer say `each` statements, all groups at the same time and `rate` a second in all.

    Returns when each was said, by its id.
    """
    within = MEET_WITHIN + 100 * each * len(groups) / rate

    def say(group: Started) -> dict[str, float]:
        said: dict[str, float] = group.ask(within, "say", each, rate / len(groups))
        return said

    with ThreadPoolExecutor(len(groups)) as threads:
        return {id_: at for said in threads.map(say, groups) for id_, at in said.items()}


def own_cpu(groups: Iterable[Started]) -> float:
    """CPU seconds of these processes so far."""
    return sum(group.cpu()["own"] for group in groups)


def delays(said: Mapping[str, float], heard: Iterable[Mapping[str, float]]) -> list[float]:
    """Seconds each statement took to each peer that got it, sorted. To the one that said it, it took none."""
    return sorted(max(0.0, there[id_] - at) for there in heard for id_, at in said.items() if id_ in there)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of sorted `values` that is not below `share` of them."""
    return values[min(len(values) - 1, int(share * len(values)))]
