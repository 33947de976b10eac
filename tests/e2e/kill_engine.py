"""kill -9 of a real engine, again and again, under a real node beside a real coordinator.

    python -m tests.e2e.kill_engine --kills 20 [--seed N]

One volunteer works through a project while its engine's process is killed: while it loads, in the middle of captions,
right after a result was published. At the end both nodes hold one row for every image, and of every image one row only;
each result that the coordinator had when the engine was killed is still there, and both hold the same ones. An image
may be in hand at as many deaths as the project allows tries, the last time alone: then its error row is counted, not
held against anybody. The last line is a JSON object with what was counted; the exit status says whether all held.
"""

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil

from demo.processes import Processes, Running
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import NodePaths
from tests.e2e.swarm_of_processes import SwarmOfProcesses, draw, finished, kill, wait_for

MOMENTS = ("loading", "captioning", "published")
"""When the engine is killed, in turn."""

A_KILL, AT_LEAST = 192, 384
"""Images for each kill, and beside: enough that none comes after the end."""

CANDIDATES = "SELECT lower(hex(s.id)), c.chunk, c.item, c.error FROM candidate c JOIN statement s USING (no)"


@dataclass
class Report:
    """What came of it. `acknowledged` are the results that the coordinator had after each kill, `blamed` images with an
    error row. `faults` are in words; none: all held."""

    images: int
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    restarts: int = 0
    blamed: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "images": self.images,
            "kills": dict(self.kills),
            "restarts": self.restarts,
            "results_before_the_last_kill": len(self.acknowledged),
            "blamed": self.blamed,
            "seconds": round(self.seconds, 1),
            "faults": self.faults,
            "holds": not self.faults,
        }


class Killing:
    """The coordinator, the volunteer, and who kills its engine."""

    def __init__(self, processes: Processes, folder: Path, kills: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._processes = processes
        self.report = Report(A_KILL * kills + AT_LEAST)
        images = draw(folder / "pictures", self.report.images, seed)
        self._swarm = SwarmOfProcesses(processes, folder, images, wait_for_engines=1)
        self._volunteer = self._swarm.volunteer("volunteer")

    def run(self, moments: Sequence[str]) -> Report:
        """Kill at these moments, wait for the end, and look."""
        began = time.monotonic()
        for moment in moments:
            self._wait_for_moment(moment)
            self._kill(moment)
            self.report.acknowledged |= self._seen()
        last = wait_for(self._volunteer, finished, [self._swarm.coordinator])
        wait_for(self._swarm.coordinator, finished, [self._volunteer])
        self.report.restarts = last.engine.restarts
        self.report.seconds = time.monotonic() - began
        for node in (self._volunteer, self._swarm.coordinator):
            self._processes.stop(node)
        self._check()
        return self.report

    # killing

    def _wait_for_moment(self, moment: str) -> None:
        if moment == "loading":
            self._wait(lambda seen: seen.engine.phase == "loading")
            return
        done = self._wait(lambda seen: seen.engine.phase == "captioning").project.done
        more = self._rng.choice((1, 1, 64)) if moment == "published" else self._rng.choice((0, 1))
        self._wait(lambda seen: seen.project.done >= done + more and seen.engine.phase == "captioning")
        if moment == "captioning":
            time.sleep(self._rng.uniform(0.0, 0.5))  # anywhere between two results

    def _wait(self, condition: Callable[[NodeSnapshot], bool]) -> NodeSnapshot:
        return wait_for(self._volunteer, condition, [self._swarm.coordinator])

    def _seen(self) -> set[str]:
        """The results that the coordinator holds: what was announced."""
        sql = "SELECT DISTINCT statement FROM captions"
        found = self._processes.run("query", sql, "--json", "--node", str(self._swarm.coordinator.directory))
        return {row["statement"] for row in json.loads(found)}

    def _kill(self, moment: str) -> None:
        """One of the engine's processes, any; while it loads there may be but one."""
        front = engine_of(self._volunteer)
        own = (
            [] if moment == "loading" else [child for child in front.children(True) if child.name().startswith("VLLM")]
        )
        kill(self._rng.choice([front, *own]).pid)
        self.report.kills[moment] += 1
        killed = self.report.kills.total()
        self._wait(lambda seen: seen.engine.restarts >= killed)

    # looking

    def _check(self) -> None:
        held = {node.name: rows_of(node) for node in (self._volunteer, self._swarm.coordinator)}
        for name, rows in held.items():
            counts = Counter((chunk, item) for _, chunk, item, _ in rows)
            self._expect(len(counts) == self.report.images, f"{name} holds rows of {len(counts)} images")
            self._expect(max(counts.values()) == 1, f"{name} holds some images twice")
            self._expect({error for *_, error in rows} <= {"", "engine-died"}, f"{name} holds other errors")
            lost = self.report.acknowledged - {statement for statement, *_ in rows}
            self._expect(not lost, f"{name} lost {len(lost)} results that were announced")
        one, other = held.values()
        self.report.blamed = sum(bool(error) for *_, error in one)
        self._expect(set(one) == set(other), "the two hold other results")
        self._expect(self.report.restarts >= self.report.kills.total(), f"{self.report.restarts} restarts")

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.report.faults.append(otherwise)


def engine_of(volunteer: Running) -> psutil.Process:
    """The front process of the node's engine."""
    children = psutil.Process(volunteer.process.pid).children()
    return next(child for child in children if "p2pcap.engine.process" in child.cmdline())


def rows_of(node: Running) -> list[tuple[str, int, int, str]]:
    """Every row that the node, which has ended, holds: also those that do not count."""
    with duckdb.connect(str(NodePaths(node.directory).database), read_only=True) as database:
        return [(str(one[0]), int(one[1]), int(one[2]), str(one[3])) for one in database.execute(CANDIDATES).fetchall()]


def main() -> int:
    """0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.kill_engine")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pcap-kill-") as folder, Processes(Path(folder)) as processes:
        processes.interrupt.listen()
        killing = Killing(processes, Path(folder), options.kills, options.seed)
        report = killing.run(list(itertools.islice(itertools.cycle(MOMENTS), options.kills)))
    print(json.dumps(report.plain()), flush=True)
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
