"""The engine's end of the socket, with a twin of what runs the model behind it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from p2pcap.engine import frames, service
from p2pcap.engine.answering import Answering
from p2pcap.engine.base import EngineLoad, Output, Score
from p2pcap.engine.service import Service
from p2pcap.errors import EngineDied, ImageError, ModelError
from p2pcap.project.task import Model, Prompt, Task

TASK = Task(Model("m"), (Prompt("describe", "What is it?"),))


class AnsweringTwin:
    """Answers with its task's prompt, once `may` is set."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.decoding = 0
        self.may = asyncio.Event()
        self.given_up = asyncio.Event()

    async def caption(self, file: bytes, sha256: bytes, fields: Mapping[str, str]) -> tuple[Output, ...]:
        self.decoding += 1
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        finally:
            self.decoding -= 1
        if file == b"deadly":
            raise EngineDied("The twin is dead.")
        if file == b"faulty":
            raise ImageError("truncated", "The file ends.")
        return (Output(self.task.prompts[0].text, 3, "stop"),)

    async def score(
        self, file: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str]
    ) -> Score:
        return Score((0.5,) * len(ids), (-1.0,) * len(ids))


class HostTwin:
    """What runs the model."""

    version = "1"
    device = "twin"
    engine_class = b"12345678"

    def __init__(self) -> None:
        self.made: list[AnsweringTwin] = []
        self.notice = ""

    def answering(self, task: Task) -> Answering:
        if task.dtype != TASK.dtype:
            raise ModelError("It needs the model loaded anew.")
        self.made.append(AnsweringTwin(task))
        return cast(Answering, self.made[-1])

    async def check(self) -> None:
        pass

    def load(self) -> EngineLoad:
        return EngineLoad(running=7, notice=self.notice)


class Node:
    """The other end: says what it is told to, and hears what comes, Loads apart."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._reader = frames.frames_to_node()
        self._heard: list[frames.ToNode] = []
        self.loads: list[EngineLoad] = []

    async def say(self, *messages: frames.ToEngine) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, b"".join(map(frames.encode, messages)))

    async def hear(self) -> frames.ToNode:
        while not self._heard:
            await self.read()
        return self._heard.pop(0)

    async def read(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._end, 65_536)
        assert data, "the engine has closed its end"
        for message in self._reader.feed(data):
            if isinstance(message, frames.Load):
                self.loads.append(message.load)
            else:
                self._heard.append(message)


def served(test: Callable[[Node, HostTwin, Service], Awaitable[Any]]) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        host = HostTwin()
        service = Service(host, host.answering(TASK), task_number=4)
        transport, _ = await asyncio.get_running_loop().create_connection(service.protocol, sock=theirs)
        try:
            async with asyncio.timeout(10):
                await test(Node(ours), host, service)
        finally:
            ours.close()
            transport.abort()
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn

    asyncio.run(main())


def ask(number: int, file: bytes = b"x", task_number: int = 4) -> frames.Ask:
    return frames.Ask(number, bytes(32), file, {}, task_number)


def test_each_image_is_answered_for_the_task_it_names() -> None:
    other = replace(TASK, prompts=(Prompt("tags", "Tags?"),))

    async def test(node: Node, host: HostTwin, _: Service) -> None:
        await node.say(ask(0), frames.Use(1, other, 5), ask(2, task_number=5), ask(3))
        assert await node.hear() == frames.Used(1)
        for twin in host.made:
            twin.may.set()
        answers = {}
        for _number in range(3):
            answer = await node.hear()
            assert isinstance(answer, frames.Answer)
            answers[answer.number] = answer.outputs[0].text
        assert answers == {0: "What is it?", 2: "Tags?", 3: "What is it?"}

    served(test)


def test_a_task_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    async def test(node: Node, host: HostTwin, _: Service) -> None:
        host.made[0].may.set()
        await node.say(frames.Use(0, replace(TASK, dtype="float16"), 5), ask(1))
        assert await node.hear() == frames.Used(0, "It needs the model loaded anew.")
        assert isinstance(await node.hear(), frames.Answer)

    served(test)


def test_as_many_tasks_are_kept_as_the_node_may_name() -> None:
    async def test(node: Node, host: HostTwin, _: Service) -> None:
        last = 4 + frames.TASKS_KEPT - 1
        for number in range(5, last + 1):
            await node.say(frames.Use(number, TASK, number))
            assert await node.hear() == frames.Used(number)
        host.made[0].may.set()
        await node.say(ask(0))
        assert isinstance(await node.hear(), frames.Answer)

    served(test)


def test_a_fault_a_score_and_a_cancelled_call() -> None:
    async def test(node: Node, host: HostTwin, _: Service) -> None:
        await node.say(ask(0), ask(1, b"faulty"), frames.Score(2, bytes(32), b"x", 0, (5, 6), {}, 4))
        assert await node.hear() == frames.Scored(2, Score((0.5, 0.5), (-1.0, -1.0)))
        await node.say(frames.Cancel(0), ask(3), frames.Cancel(3), frames.Cancel(9))  # 3 before it began, 9 never was
        await host.made[0].given_up.wait()
        host.made[0].may.set()
        assert await node.hear() == frames.Fault(1, "truncated", "The file ends.")

    served(test)


def test_a_busy_engine_tells_its_load_and_once_more_when_it_is_idle() -> None:
    async def test(node: Node, host: HostTwin, _: Service) -> None:
        await node.say(ask(0), ask(1))
        while not node.loads:
            await node.read()
        assert node.loads[-1] == EngineLoad(running=7, decoding=2)
        host.made[0].may.set()
        while node.loads[-1].decoding:
            await node.read()

    served(test)


def test_an_idle_engine_tells_what_there_is_to_note_and_that_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HEALTH_SECONDS", 0.01)

    async def test(node: Node, host: HostTwin, _: Service) -> None:
        for notice in ("A server is away.", ""):
            host.notice = notice
            await node.read()
            assert node.loads[-1] == EngineLoad(running=7, notice=notice)
        assert len(node.loads) == 2

    served(test)


def test_what_runs_the_model_is_gone_and_the_node_is_told_why() -> None:
    async def test(node: Node, host: HostTwin, service: Service) -> None:
        host.made[0].may.set()
        await node.say(ask(0, b"deadly"))
        assert await node.hear() == frames.Gone("The twin is dead.")
        assert await service.ended == frames.DIED

    served(test)
