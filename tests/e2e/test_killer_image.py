"""An image that kills the real engine whenever it is in hand: it is found, and no other is blamed."""

import hashlib
import os
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from models.shapes.pictures import DESCRIBE, draw
from models.shapes.pictures import encode as encode_picture
from p2pcap.codec import encode
from p2pcap.engine.base import NO_FIELDS, EngineState, Output
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.ledger.evidence import open_evidence
from p2pcap.project.chunks import table_of
from p2pcap.project.items import Item
from p2pcap.project.opened import open_project, payload_hash
from p2pcap.project.records import Plan, Policy, Stage
from p2pcap.project.sampling import Sampling
from p2pcap.project.task import Model, Prompt, Task
from tests.engine.hosted import MODEL, SETTINGS
from tests.makers import Made, chunk_of, manifest_of, root_of
from tests.twins import ME, TwinStation, TwinSwarm, each_once, places

LONGEST = 280.0
COUNT, KILLER, ATTEMPTS = 192, 100, 3
PICTURES = [draw("held-out", 41, number) for number in range(COUNT)]
FILES = [encode_picture(picture, "jpg") for picture in PICTURES]
TASK = Task(Model("shapes"), (Prompt("caption", DESCRIBE),), sampling=Sampling(max_tokens=48), dtype="float32")


@dataclass(frozen=True)
class Pictures(Made):
    """A project over FILES."""

    @property
    def images(self) -> dict[bytes, bytes]:
        return {hashlib.sha256(file).digest(): file for file in FILES}


def project() -> Pictures:
    hashes = [hashlib.sha256(file).digest() for file in FILES]
    items = tuple(Item(f"{n}.jpg", hash_, len(file)) for n, (hash_, file) in enumerate(zip(hashes, FILES, strict=True)))
    plan = encode(Plan("Shapes", (Stage("caption", TASK),), table_of([chunk_of(items)]), Policy(attempts=ATTEMPTS)))
    root = root_of()
    return Pictures(open_project(root, manifest_of(root, plan), plan, payload_hash(root)), (items,))


class Fragile:
    """The real engine; kill -9 hits it whenever `killer` is in hand. No image that is known does this to vLLM."""

    def __init__(self, engine: VllmEngine, killer: bytes) -> None:
        self._engine = engine
        self._killer = killer
        self._in_hand = 0
        self.together: list[int] = []
        self.asked: Counter[bytes] = Counter()

    @property
    def state(self) -> EngineState:
        return self._engine.state

    @property
    def capacity(self) -> int:
        return self._engine.capacity

    async def wait_ready(self) -> None:
        await self._engine.wait_ready()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        self.asked[image] += 1
        self._in_hand += 1
        try:
            if image == self._killer:
                self.together.append(self._in_hand)
                assert self._engine.state.pid
                os.kill(self._engine.state.pid, signal.SIGKILL)
            return await self._engine.caption(image, sha256, fields)
        finally:
            self._in_hand -= 1


@pytest.mark.slow
def test_an_image_that_kills_the_engine_becomes_an_error_row_and_all_others_are_captioned(tmp_path: Path) -> None:
    made = project()
    real = VllmEngine(MODEL, TASK, SETTINGS, tmp_path / "engine.log")
    engine = Fragile(real, FILES[KILLER])

    async def main() -> TwinStation:
        with trio.fail_after(LONGEST):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(real.run)
                swarm = TwinSwarm(made, nursery)
                _, station = swarm.join(ME, engine)
                await swarm.work()
                nursery.cancel_scope.cancel()
        return station

    station = trio.run(main)
    assert places(station) == each_once(made)
    rows = {row.item: row for _, row in station.rows}
    assert {item: row.error for item, row in rows.items() if row.error} == {KILLER: "engine-died"}
    told = {item: row.answers[0].text for item, row in rows.items() if row.answers}
    right = sum(text == PICTURES[item].answers[DESCRIBE] for item, text in told.items())
    assert right >= 0.95 * len(told)
    assert real.state.restarts == ATTEMPTS
    assert engine.asked[FILES[KILLER]] == ATTEMPTS
    assert engine.together[0] > 10 >= engine.together[1] >= engine.together[-1] == 1, "in ever smaller company"
    ids = [known for one in station.published if one.evidence for known in open_evidence(one.evidence).items()]
    answered = {item: row.answers[0].tokens for item, row in rows.items() if row.answers}
    assert {item: len(known[0]) for item, known in ids} == answered
