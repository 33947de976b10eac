"""A swarm of real processes for the end-to-end tests: signs a project over a folder and starts its nodes."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from demo.processes import Processes, Running
from p2pcap.node.snapshot import NodeSnapshot

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "models" / "shapes"
PROMPT = "Describe the image."
LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0")
PATIENCE = float(os.environ.get("P2PCAP_TEST_PATIENCE", "240"))
"""Seconds a test waits for something that takes a minute on two idle cores."""


def draw(directory: Path, count: int, seed: int) -> Path:
    """`count` held-out pictures below `directory`; returns their folder. The truth is beside it in truth.jsonl."""
    script = [str(SHAPES / "pictures.py"), str(directory), "--count", str(count), "--seed", str(seed)]
    python = ROOT / ".venv" / "bin" / "python"
    subprocess.run([str(python), *script, "--split", "held-out"], check=True, stdout=subprocess.DEVNULL)
    return directory / "images"


class SwarmOfProcesses:
    """One project and its nodes."""

    def __init__(self, processes: Processes, folder: Path, images: Path, wait_for_engines: int) -> None:
        self.processes = processes
        self.folder = folder
        self.project = folder / "project"
        given = ("--images", str(images), "--model", str(SHAPES), "--prompt", PROMPT, "--name", "e2e")
        small = ("--chunk", "64", "--dtype", "float32", "--max-tokens", "48")
        processes.run("project", "init", str(self.project), *given, *small, "--wait-for-engines", str(wait_for_engines))
        processes.run("project", "sign", str(self.project))
        self.serve()

    def serve(self) -> None:
        """Start the coordinator."""
        command = ("bootstrap", "serve", str(self.project), *LOOPBACK)
        self.coordinator = self.processes.start("coordinator", self.project / "node", *command, output=subprocess.PIPE)
        self.ticket = self.processes.first_line(self.coordinator)

    def volunteer(self, name: str, ticket: str | None = None, engine: Sequence[str] = ()) -> Running:
        """Start a volunteer with an engine of its own, or with the one that the options `engine` name."""
        directory = self.folder / name
        command = ("join", ticket or self.ticket, "--name", name, "--node", str(directory), *engine, *LOOPBACK)
        return self.processes.start(name, directory, *command)

    def observer(self, name: str, ticket: str | None = None) -> Running:
        """Start a node without an engine."""
        directory = self.folder / name
        command = ("join", ticket or self.ticket, "--observe", "--node", str(directory), *LOOPBACK)
        return self.processes.start(name, directory, *command)

    def table_hash(self, running: Running) -> str:
        """The hash of the node's canonical table."""
        return self.processes.run("table-hash", "--node", str(running.directory)).strip()

    def wait_until_alike(self, one: Running, other: Running) -> None:
        """Wait until two nodes have the same table. One that came back may bring rows that it had not told anybody of,
        for images that others captioned meanwhile: then both have every row before they have the same ones."""
        deadline = time.monotonic() + PATIENCE
        while self.table_hash(one) != self.table_hash(other):
            assert time.monotonic() < deadline, f"{one.name} and {other.name} still differ"

    def wait_until_final(self, running: Running) -> None:
        """Wait until no row of the node waits for a second author: until then an error may become another's row."""
        sql = "SELECT count(*) AS n FROM captions WHERE NOT final"
        deadline = time.monotonic() + PATIENCE
        while json.loads(self.processes.run("query", sql, "--json", "--node", str(running.directory))) != [{"n": 0}]:
            assert time.monotonic() < deadline, f"{running.name} still has rows that are not final"


def wait_for(
    running: Running, condition: Callable[[NodeSnapshot], bool], others: Sequence[Running] = ()
) -> NodeSnapshot:
    """The node's first snapshot for which `condition` holds; fails when it or one of `others` ends before."""
    deadline = time.monotonic() + PATIENCE
    seen: NodeSnapshot | None = None
    while time.monotonic() < deadline:
        for node in (running, *others):
            node.check()
        seen = running.snapshot()
        if seen is not None and condition(seen):
            return seen
        time.sleep(0.1)  # a status request is the only way to look into another process
    raise AssertionError(f"{running.name} did not get there in {PATIENCE:.0f} s; it shows {seen}")


def finished(snapshot: NodeSnapshot) -> bool:
    """Whether the node holds a row for every image."""
    return snapshot.project.finished


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)
