"""A real project to measure with: drawn pictures, signed, and served by a coordinator in a process of its own."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import P2PCAP, Processes, Started

SHAPES = Path(__file__).resolve().parent.parent / "models" / "shapes"
"""The small model that is shipped, and the program that draws its pictures."""

PROMPT = "Describe the image."
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
CHUNK = 128
MAX_TOKENS = 48
START_WITHIN = 120.0
"""Seconds a process gets until it is there; on a busy machine an import alone may take twenty."""


@dataclass(frozen=True)
class Job:
    """A signed project over `count` pictures; everything of it lies in `folder`."""

    folder: Path
    count: int

    @property
    def name(self) -> str:
        """The project's name."""
        return self.folder.name

    @property
    def workspace(self) -> Path:
        """The maintainer's folder."""
        return self.folder / "project"

    @property
    def images(self) -> Path:
        """The folder of pictures."""
        return self.folder / "images"

    @property
    def coordinator(self) -> Path:
        """The folder of the coordinator's node."""
        return self.workspace / "node"


def make_job(processes: Processes, name: str, count: int, seed: int) -> Job:
    """Draw `count` pictures that the model has never seen (another seed, other pictures) and sign a project."""
    job = Job(processes.folder / name, count)
    draw = (sys.executable, str(SHAPES / "pictures.py"), str(job.folder), "--split", "held-out")
    processes.run(*draw, "--count", str(count), "--seed", str(seed))
    given = ("--images", str(job.images), "--model", str(SHAPES), "--name", name, "--prompt", PROMPT)
    shape = ("--dtype", "float32", "--max-tokens", str(MAX_TOKENS), "--chunk", str(CHUNK))
    processes.run(*P2PCAP, "project", "init", str(job.workspace), *given, *shape)
    processes.run(*P2PCAP, "project", "sign", str(job.workspace))
    return job


def serve(processes: Processes, job: Job) -> tuple[Started, str]:
    """A coordinator that serves the project, and its ticket."""
    command = (*P2PCAP, "bootstrap", "serve", str(job.workspace), "--listen", LOOPBACK)
    coordinator = processes.start(f"{job.name}-coordinator", *command, piped=True)
    return coordinator, coordinator.line(START_WITHIN)
