"""An engine that outlives a test: it runs under a trio loop in a thread of its own."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from models.shapes.pictures import PROMPTS
from p2pcap.engine.base import EngineSettings, EngineState
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.project.sampling import Sampling
from p2pcap.project.task import Model, Prompt, Task

MODEL = Path(__file__).parents[2] / "models" / "shapes"
TASK = Task(
    model=Model("shapes"),
    prompts=tuple(Prompt(name, text) for name, text in zip(("describe", "name", "background"), PROMPTS, strict=True)),
    sampling=Sampling(max_tokens=48),
    dtype="float32",
)
SETTINGS = EngineSettings(threads=1, kv_cache_gib=1 / 16)
"""With as much memory for keys and values as a node gives an engine of this model."""
T = TypeVar("T")


class HostedEngine:
    """An engine that runs under a trio loop of its own thread, so that it outlives a test's `trio.run`."""

    def __init__(self, log: Path, task: Task = TASK) -> None:
        self.states: list[EngineState] = []
        self.engine = VllmEngine(MODEL, task, SETTINGS, log, self.states.append)
        self._running = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._host,))
        self._thread.start()
        self._running.wait()

    async def _host(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            self._running.set()
            await self.engine.run()

    def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """The result of `await function(engine, *arguments)` on the engine's loop."""
        return trio.from_thread.run(function, self.engine, *arguments, trio_token=self._token)

    @contextmanager
    def serving(self, task: Task) -> Iterator[None]:
        """The engine answers for another task meanwhile."""
        self.run(VllmEngine.use, task)
        try:
            yield
        finally:
            self.run(VllmEngine.use, TASK)

    def close(self) -> None:
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join()
