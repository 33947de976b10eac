"""A real project to measure with: drawn pictures, signed, and served by a coordinator in a process of its own."""

import sys
from collections.abc import Sequence
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
    """A signed project over `count` pictures; everything of it lies in `folder`, and `model` is its model."""

    folder: Path
    count: int
    model: Path = SHAPES

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


def make_job(
    processes: Processes,
    name: str,
    count: int,
    seed: int,
    model: Path = SHAPES,
    max_tokens: int = MAX_TOKENS,
    more: Sequence[str] = (),
) -> Job:
    """Draw `count` pictures that the model has never seen (another seed, other pictures) and sign a project. `more` are
    options of `p2pcap project init`."""
    job = Job(processes.folder / name, count, model)
    draw = (sys.executable, str(SHAPES / "pictures.py"), str(job.folder), "--split", "held-out")
    processes.run(*draw, "--count", str(count), "--seed", str(seed))
    given = ("--images", str(job.images), "--model", str(model), "--name", name, "--prompt", PROMPT)
    shape = ("--max-tokens", str(max_tokens), "--chunk", str(CHUNK), *(more or ("--dtype", "float32")))
    processes.run(*P2PCAP, "project", "init", str(job.workspace), *given, *shape)
    processes.run(*P2PCAP, "project", "sign", str(job.workspace))
    return job


def chain_model(
    processes: Processes, layers: int, shortest: int, longest: int, dtype: str = "float32", name: str = "chain"
) -> Path:
    """A model of so many layers whose answers have between `shortest` and `longest` tokens, the image decides how many
    (benchmarks.chain_model)."""
    directory = processes.folder / name
    sizes = map(str, (layers, shortest, longest))
    processes.run(sys.executable, "-m", "benchmarks.chain_model", str(directory), *sizes, dtype)
    return directory


def serve(processes: Processes, job: Job) -> tuple[Started, str]:
    """A coordinator that serves the project, and its ticket."""
    command = (*P2PCAP, "bootstrap", "serve", str(job.workspace), "--listen", LOOPBACK)
    coordinator = processes.start(f"{job.name}-coordinator", *command, piped=True)
    return coordinator, coordinator.line(START_WITHIN)
