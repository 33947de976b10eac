"""How the engine's process is supervised: tasks, silence, smaller settings, what people are told. The test speaks for
the process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from p2pcap.engine import frames, vllm_engine
from p2pcap.engine.base import EngineLoad, EngineSettings, EngineState, Output
from p2pcap.engine.vllm_engine import ANSWER_SECONDS, VllmEngine
from p2pcap.errors import EngineDied, ModelError
from tests.engine.hosted import MODEL, TASK
from tests.engine.process_twin import TwinLife
from tests.twins import simulated

OTHER = replace(TASK, prompts=TASK.prompts[:1])
CHOSEN = EngineSettings()
READY = frames.Ready("1", "cpu twin", b"twintwin")
OUTPUTS = (Output("a cat", 3, "stop"),)
SHORT = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


class Supervised:
    """An engine whose processes are twins; `told` has its states."""

    def __init__(self, settings: EngineSettings, lives: "trio.MemoryReceiveChannel[TwinLife]") -> None:
        self.told: list[EngineState] = []
        self.engine = VllmEngine(MODEL, TASK, settings, Path("no.log"), self.told.append)
        self._lives = lives

    async def next_life(self) -> TwinLife:
        """The next process, once it was told what to begin with."""
        life = await self._lives.receive()
        assert isinstance(await life.process.hear(), frames.Start)
        return life

    async def next_ready(self) -> TwinLife:
        """The next process; it takes images."""
        life = await self.next_life()
        await life.process.say(READY)
        await self.engine.wait_ready()
        return life


@asynccontextmanager
async def supervised(settings: EngineSettings = CHOSEN, run: bool = True) -> AsyncIterator[Supervised]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_engine, "Life", TwinLife)
        TwinLife.begun, lives = trio.open_memory_channel[TwinLife](9)
        TwinLife.may_begin = trio.Event()
        made = Supervised(settings, lives)
        async with trio.open_nursery() as nursery:
            if run:
                TwinLife.may_begin.set()
                nursery.start_soon(made.engine.run)
            yield made
            nursery.cancel_scope.cancel()


async def answer(life: TwinLife, pause: float) -> None:
    """Answers one image after the other, each after a pause."""
    while True:
        match await life.process.hear():
            case frames.Ask(number):
                await trio.sleep(pause)
                await life.process.say(frames.Answer(number, OUTPUTS))


async def ask(engine: VllmEngine, count: int) -> int:
    """How many of so many images, asked at once, are answered."""
    answered: list[int] = []

    async def one(number: int) -> None:
        try:
            await engine.caption(b"%d" % number, bytes(32))
        except EngineDied:
            return
        answered.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return len(answered)


@simulated
async def test_a_slow_engine_with_a_long_queue_is_left_at_work() -> None:
    async with supervised() as made, trio.open_nursery() as nursery:
        nursery.start_soon(answer, await made.next_ready(), 60.0)
        assert await ask(made.engine, 40) == 40
        assert trio.current_time() > 2 * ANSWER_SECONDS
        assert made.engine.state.restarts == 0
        nursery.cancel_scope.cancel()


@simulated
async def test_an_engine_that_makes_tokens_is_left_at_work_and_one_that_makes_none_is_killed() -> None:
    async with supervised() as made, trio.open_nursery() as nursery:
        life = await made.next_ready()
        counts: list[int] = []

        async def one() -> None:
            counts.append(await ask(made.engine, 1))

        nursery.start_soon(one)
        for tokens in range(4):
            await trio.sleep(ANSWER_SECONDS * 0.9)
            await life.process.say(frames.Load(EngineLoad(running=1, made=tokens + 1)))
        await trio.sleep(ANSWER_SECONDS * 0.9)
        assert made.engine.state.restarts == 0
        await trio.sleep(ANSWER_SECONDS * 0.2)
        assert counts == [0]
        assert made.engine.state.restarts == 1
        assert "gave no answer for 900 s" in " ".join(state.detail for state in made.told)
        await made.next_ready()


@simulated
async def test_a_task_told_while_the_engine_comes_up_smaller_leaves_it_smaller() -> None:
    async with supervised(EngineSettings(max_num_seqs=64)) as made, trio.open_nursery() as nursery:
        first = await made.next_life()
        nursery.start_soon(made.engine.use, OTHER)
        await trio.testing.wait_all_tasks_blocked()
        first.printed_text = SHORT
        first.kill()
        second = await made.next_ready()
        assert second.start.settings.max_num_seqs == 32
        asked = await second.process.hear()
        assert isinstance(asked, frames.Use)
        await second.process.say(frames.Used(asked.number))
        await trio.testing.wait_all_tasks_blocked()
        assert made.engine.capacity == VllmEngine(MODEL, OTHER, second.start.settings, Path("no.log")).capacity
        assert "32 answers at once" in made.engine.state.notice
        second.kill()
        third = await made.next_ready()
        assert (third.start.settings.max_num_seqs, third.start.task, third.start.again) == (32, OTHER, True)


@simulated
async def test_a_task_for_an_engine_that_is_away_is_asked_of_it_when_it_is_back() -> None:
    async with supervised() as made, trio.open_nursery() as nursery:
        life = await made.next_ready()
        for _ in range(3):
            life.kill()
            life = await made.next_ready()
        life.kill()
        await trio.sleep(0.1)  # within the seconds before the next start
        assert made.engine.state.phase == "restarting"
        refused = trio.Event()

        async def use() -> None:
            with pytest.raises(ModelError, match="template"):
                await made.engine.use(replace(TASK, chat_template="{{ 1/0 }}"))
            refused.set()

        nursery.start_soon(use)
        await trio.sleep(0.5)
        assert not refused.is_set(), "nobody is there who could say"
        life = await made.next_ready()
        assert life.start.task == TASK
        asked = await life.process.hear()
        assert isinstance(asked, frames.Use)
        await life.process.say(frames.Used(asked.number, "Its template is broken."))
        await refused.wait()


@simulated
async def test_a_task_told_in_the_moment_of_a_start_is_asked_of_the_process_that_begins() -> None:
    """The process has been told to begin with the task before: asked for the new one, it would not know it."""
    async with supervised(run=False) as made, trio.open_nursery() as nursery:
        nursery.start_soon(made.engine.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(made.engine.use, OTHER)
        await trio.testing.wait_all_tasks_blocked()
        TwinLife.may_begin.set()
        life = await made.next_ready()
        assert life.start.task == TASK
        asked = await life.process.hear()
        assert isinstance(asked, frames.Use)
        assert asked.task == OTHER
        nursery.cancel_scope.cancel()


@simulated
async def test_a_task_before_any_process_is_what_the_first_begins_with() -> None:
    async with supervised(run=False) as made, trio.open_nursery() as nursery:
        await made.engine.use(OTHER)
        TwinLife.may_begin.set()
        nursery.start_soon(made.engine.run)
        life = await made.next_ready()
        assert life.start.task == OTHER
        nursery.cancel_scope.cancel()


@simulated
async def test_people_are_told_of_a_server_that_does_not_work_and_of_memory_beside_it() -> None:
    async with supervised() as made:
        life = await made.next_ready()
        for notice in ("http://x/v1 is busy.", "http://x/v1 is busy.", ""):
            await life.process.say(frames.Load(EngineLoad(running=1, notice=notice)))
            await trio.testing.wait_all_tasks_blocked()
            assert made.engine.state.notice == notice
        assert [state.notice for state in made.told][-2:] == ["http://x/v1 is busy.", ""], "told of it once"
        life.printed_text = SHORT
        life.kill()
        life = await made.next_ready()
        memory = made.engine.state.notice
        assert memory.startswith("Memory was short")
        await life.process.say(frames.Load(EngineLoad(running=1, notice="http://x/v1 is busy.")))
        await trio.testing.wait_all_tasks_blocked()
        assert made.engine.state.notice == f"{memory} http://x/v1 is busy."
        assert made.told[-1].notice == made.engine.state.notice
        life.kill()
        await made.next_ready()
        assert made.engine.state.notice.startswith("Memory was short")
        assert "busy" not in made.engine.state.notice


def capacity(settings: EngineSettings) -> int:
    return VllmEngine(MODEL, TASK, settings, Path("no.log")).capacity


def test_each_server_has_a_batch_of_its_own() -> None:
    servers = tuple(f"http://127.0.0.1:{port}/v1" for port in range(1, 4))
    assert capacity(EngineSettings(max_num_seqs=8, endpoints=servers)) == capacity(EngineSettings(max_num_seqs=24))
    assert capacity(EngineSettings(max_num_seqs=8, endpoints=servers[:1])) == capacity(EngineSettings(max_num_seqs=8))
