"""A twin of an engine as pools hold them."""

from collections.abc import Mapping, Sequence

import msgspec
import trio

from p2pcap.engine.base import NO_FIELDS, EngineState, Output, Score
from p2pcap.errors import EngineDied, EngineStartError, ModelError
from p2pcap.project.task import Task
from tests.twins import TwinEngine


class Member(TwinEngine):
    """A twin that somebody has to run, and that fails for good when told to. With `dies_of_tasks` it dies of each task
    that it is to take, with `refusal` it refuses it; `served` has the task of each image that it was asked about."""

    def __init__(self, capacity: int = 4, fields: EngineState | None = None) -> None:
        super().__init__(capacity)
        self.fields = fields or EngineState(engine_class=b"twintwin")
        self.ending = trio.Event()
        self.uses: list[Task] = []
        self.served: list[Task | None] = []
        self.dies_of_tasks = False
        self.refusal = ""
        self.ended = False
        self.scored = 0

    @property
    def state(self) -> EngineState:
        phase = "failed" if self.failed else super().state.phase
        return msgspec.structs.replace(self.fields, phase=phase)

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        if self.failed:
            raise EngineDied("The twin has failed.")
        self.served.append(self.uses[-1] if self.uses else None)
        return await super().caption(image, sha256, fields)

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        self.scored += 1
        return await super().score(image, sha256, prompt, ids, values)

    async def use(self, task: Task) -> None:
        await self.wait_ready()
        await trio.sleep(0.5)
        if self.dies_of_tasks:
            self.die()
            raise EngineDied("The twin died of a task.")
        if self.refusal:
            raise ModelError(self.refusal)
        self.uses.append(task)
        await trio.sleep(0.1)  # it has the task before it says so

    async def run(self) -> None:
        try:
            await self.ending.wait()
        finally:
            self.ended = True
        self.fail()
        raise EngineStartError("The twin does not start.")

    def fail(self) -> None:
        """It will not come back, and what it has in hand dies."""
        self.restart_seconds = 0.0
        self.die()
        self.failed = True
