"""A twin of an engine as pools hold them."""

from collections.abc import Mapping, Sequence

import msgspec
import trio

from p2pcap.engine.base import NO_FIELDS, EngineState, Output, Score
from p2pcap.errors import EngineDied, EngineStartError
from p2pcap.project.task import Task
from tests.twins import TwinEngine


class Member(TwinEngine):
    """A twin that somebody has to run, and that fails for good when told to."""

    def __init__(self, capacity: int = 4, fields: EngineState | None = None) -> None:
        super().__init__(capacity)
        self.fields = fields or EngineState(engine_class=b"twintwin")
        self.ending = trio.Event()
        self.uses: list[Task] = []
        self.scored = 0

    @property
    def state(self) -> EngineState:
        phase = "failed" if self.failed else super().state.phase
        return msgspec.structs.replace(self.fields, phase=phase)

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        if self.failed:
            raise EngineDied("The twin has failed.")
        return await super().caption(image, sha256, fields)

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        self.scored += 1
        return Score((), ())

    async def use(self, task: Task) -> None:
        self.uses.append(task)

    async def run(self) -> None:
        await self.ending.wait()
        self.fail()
        raise EngineStartError("The twin does not start.")

    def fail(self) -> None:
        """It will not come back, and what it has in hand dies."""
        self.restart_seconds = 0.0
        self.die()
        self.failed = True
