"""`python -m tests.e2e.crowd … TICKET FOLDER NAMES AFTER`: several volunteers in one process, who share a real engine.

Each is a whole node with its own key, database and sockets, in FOLDER/<name>. One that is called "cheat" turns bad
after AFTER answers: whatever the image is, it says what is true of the first one then, with the tokens of that. The
images that it says so of are named in FOLDER/<name>.lies, a line each: the hash in hex, a blank, and what it said. One
that is called "liar" captions honestly and, as a verifier, finds the contrary of what is. It ends with SIGTERM.
"""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

import p2pcap.node.volunteering
from p2pcap.engine.base import NO_FIELDS, EngineState, Finish, Output, Score, Spelt
from p2pcap.engine.pool import EnginePool
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.node.node import Node
from p2pcap.node.options import EngineOptions, NodeOptions
from p2pcap.project.task import Task
from p2pcap.project.ticket import Ticket
from tests.engine.hosted import MODEL, SETTINGS

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
IMAGE_CAP = 2 * 1024 * 1024
"""Bytes of images that each keeps: one process cannot copy everything for all of them."""


class Tenant:
    """One of `tenants` volunteers' share of an engine that somebody else runs."""

    def __init__(self, engine: VllmEngine, tenants: int) -> None:
        self._engine = engine
        self._tenants = tenants

    @property
    def state(self) -> EngineState:
        return self._engine.state

    @property
    def capacity(self) -> int:
        return max(1, self._engine.capacity // self._tenants)

    async def run(self) -> None:
        """Somebody else runs it."""
        await trio.sleep_forever()

    async def wait_ready(self) -> None:
        await self._engine.wait_ready()

    async def use(self, task: Task) -> None:
        """All have one task."""

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        return await self._engine.caption(image, sha256, fields)

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        return await self._engine.score(image, sha256, prompt, ids, values)

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        return await self._engine.spell(prompt, ids, finish)

    async def cut(self, prompt: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        return await self._engine.cut(prompt, text, finish)


class Cheat(Tenant):
    """Honest for `after` answers, and lazy from then on."""

    def __init__(self, engine: VllmEngine, tenants: int, after: int, lies: Path) -> None:
        super().__init__(engine, tenants)
        self._after = after
        self._lies = lies
        self._first = trio.Lock()
        self._said: tuple[Output, ...] = ()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        self._after -= 1
        if self._after >= 0:
            return await super().caption(image, sha256, fields)
        async with self._first:  # all that are asked for at once wait for what is said of the first one
            if not self._said:
                self._said = await super().caption(image, sha256, fields)
                return self._said
        await trio.sleep(0.05)  # nobody believes in no time at all
        with self._lies.open("a") as file:
            print(sha256.hex(), self._said[0].text, file=file)
        return self._said


class Liar(Tenant):
    """As a verifier it finds right what is wrong, and wrong what is right."""

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        score = await super().score(image, sha256, prompt, ids, values)
        return Score(tuple(max(0.0, 9.0 - margin) for margin in score.margins), score.logprobs)


@dataclass
class Crowd:
    """All that the volunteers share. The engine starts with the first task that one of them is told."""

    folder: Path
    names: Sequence[str]
    after: int
    nursery: trio.Nursery
    engine: VllmEngine | None = None

    def tenant(self, name: str, task: Task) -> Tenant:
        if self.engine is None:
            self.engine = VllmEngine(MODEL, task, SETTINGS, self.folder / f"{self.names[0]}-engine.log")
            self.nursery.start_soon(self.engine.run)
        if name == "cheat":
            return Cheat(self.engine, len(self.names), self.after, self.folder / f"{name}.lies")
        kind = Liar if name == "liar" else Tenant
        return kind(self.engine, len(self.names))


class SharedEngines:
    """In the place of p2pcap.node.engines.Engines: a part of the crowd's engine."""

    crowd: Crowd

    def __init__(
        self, options: EngineOptions, log_file: Path, say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.pool: EnginePool | None = None
        self.preparing = ""
        self.notices: tuple[str, ...] = ()
        self._name = log_file.parent.name
        self._changed = changed

    def prepare(self, text: str) -> None:
        """Nothing is to be prepared."""

    async def open(self, directory: Path, task: Task) -> EnginePool:
        self.pool = EnginePool([(self._name, self.crowd.tenant(self._name, task))], self._changed)
        return self.pool

    async def run(self) -> None:
        assert self.pool is not None
        await self.pool.run()

    def units(self) -> tuple[()]:
        return ()


async def main(arguments: Sequence[str]) -> None:
    """Run them until SIGTERM."""
    ticket, folder, names, after = arguments
    where, given = Path(folder), Ticket.parse(ticket)
    async with trio.open_nursery() as nursery:
        SharedEngines.crowd = Crowd(where, names.split(","), int(after), nursery)
        nodes = [_node(where / name, given, name) for name in names.split(",")]
        for node in nodes:
            await nursery.start(node.run)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)
        for node in nodes:
            node.stop()
        for node in nodes:
            await node.ended.wait()
        nursery.cancel_scope.cancel()


def _node(directory: Path, ticket: Ticket, name: str) -> Node:
    directory.mkdir(parents=True, exist_ok=True)
    options = NodeOptions(directory, "volunteer", ticket, (LOOPBACK,), name=name, model=MODEL, image_cap=IMAGE_CAP)
    return Node(options, lambda line: print(f"{name}: {line}", flush=True))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    vars(p2pcap.node.volunteering)["Engines"] = SharedEngines
    trio.run(main, sys.argv[-4:])
