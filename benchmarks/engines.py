"""One engine of the node's own, without a node: for what is measured of the engine alone."""

import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks.job import SHAPES
from models.shapes.pictures import draw, encode
from p2pcap.engine.base import EngineSettings, Output
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.node.cpu import engine_cpu
from p2pcap.project.sampling import Sampling
from p2pcap.project.task import Model, Prompt, Task

DEFAULT = EngineSettings()
_numbers = itertools.count()


@dataclass(frozen=True)
class Cost:
    """What something took: seconds, and CPU seconds of the engine's processes."""

    seconds: float
    cpu: float


class Stopwatch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._cpu = sum(engine_cpu().values())
        self._began = time.perf_counter()

    def read(self) -> Cost:
        """The cost so far."""
        return Cost(time.perf_counter() - self._began, sum(engine_cpu().values()) - self._cpu)


def task(prompts: Sequence[str], max_tokens: int) -> Task:
    """A task of the shapes model, or of one in its place."""
    asked = tuple(Prompt(f"prompt{number}", text) for number, text in enumerate(prompts))
    return Task(Model("shapes"), asked, Sampling(max_tokens=max_tokens), dtype="float32")


@asynccontextmanager
async def running(
    first: Task, folder: Path, model: Path = SHAPES, settings: EngineSettings = DEFAULT
) -> AsyncIterator[VllmEngine]:
    """An engine for that task, ready; its log lies in `folder`."""
    engine = VllmEngine(model, first, settings, folder / "engine.log")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_ready()
        yield engine
        nursery.cancel_scope.cancel()


async def caption_all(engine: VllmEngine, files: Sequence[bytes]) -> list[tuple[Output, ...]]:
    """The answers about all files, asked for together, each under a name that no cache knows."""
    answers: list[tuple[Output, ...]] = [()] * len(files)

    async def one(number: int) -> None:
        answers[number] = await engine.caption(files[number], fresh_name())

    async with trio.open_nursery() as nursery:
        for number in range(len(files)):
            nursery.start_soon(one, number)
    return answers


def fresh_name() -> bytes:
    """32 bytes that no image had before."""
    return hashlib.sha256(f"benchmark {next(_numbers)}".encode()).digest()


def pictures(count: int, seed: int) -> list[bytes]:
    """Drawn pictures as files."""
    return [encode(draw("held-out", seed, number), "jpg") for number in range(count)]
