"""Serves the node's messages from one loaded model, in the engine's process.

Always holds: each Ask and each Score gets one reply, unless it is cancelled or the process ends, and is answered for
the task it names: one image's answers never belong to two tasks. Each Use is replied to at once.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from p2pcap.engine import frames
from p2pcap.engine.base import EngineLoad
from p2pcap.errors import EngineDied, ImageError, ModelError
from p2pcap.project.task import Task

if TYPE_CHECKING:
    from p2pcap.engine.answering import Answering

HEALTH_SECONDS = 1.0
"""How often an idle engine looks whether what runs the model still lives, and what there is to note; a busy one
hears of it at once."""


class Host(Protocol):
    """What runs the model: vLLM in processes of its own, or servers elsewhere."""

    version: str
    device: str
    engine_class: bytes

    def answering(self, task: Task) -> "Answering":
        """What answers for that task. Raises ModelError when the task needs the model loaded anew, or does not fit."""
        ...

    async def check(self) -> None:
        """Raises EngineDied when nothing runs the model any more."""
        ...

    def load(self) -> EngineLoad:
        """What it is busy with now; costs nothing."""
        ...


class Service:
    """Answers the node's messages from one host; `ended` gets the exit status when the host is gone."""

    def __init__(self, host: Host, answering: "Answering", task_number: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._host = host
        self._answerings = {task_number: answering}
        self._link = NodeLink(self._received)
        self._open: dict[int, asyncio.Task[None]] = {}
        self._busy = asyncio.Event()
        self._noticed = ""
        self._watches = [loop.create_task(watch) for watch in (self._watch_health(), self._tell_load())]
        for watch in self._watches:
            watch.add_done_callback(self._ended)

    def protocol(self) -> asyncio.Protocol:
        """What asyncio is to feed with the node's bytes."""
        return self._link

    def _received(self, message: frames.ToEngine) -> None:
        match message:
            case frames.Ask() | frames.Score() | frames.Spell() | frames.Cut():
                self._begin(message)
            case frames.Use(number, task, task_number):
                self._link.send(frames.Used(number, self._use(task, task_number)))
            case frames.Cancel(number) if number in self._open:
                self._open[number].cancel()

    def _begin(self, request: frames.Request) -> None:
        """Starts to answer."""
        answering = self._answerings[request.task_number]
        task = asyncio.get_running_loop().create_task(self._reply(answering, request))
        self._open[request.number] = task
        self._busy.set()
        task.add_done_callback(lambda done: self._replied(request.number, done))

    async def _reply(self, answering: "Answering", request: frames.Request) -> None:
        try:
            self._link.send(await _answer(answering, request))
        except ImageError as error:
            self._link.send(frames.Fault(request.number, error.code, error.reason))
        except EngineDied as error:
            self._died(str(error))

    def _replied(self, number: int, task: asyncio.Task[None]) -> None:
        del self._open[number]
        self._ended(task)

    def _use(self, task: Task, task_number: int) -> str:
        """Why that task cannot be used, or "" when it can from now on."""
        try:
            self._answerings[task_number] = self._host.answering(task)
        except ModelError as error:
            return str(error)
        for oldest in sorted(self._answerings)[: -frames.TASKS_KEPT]:
            del self._answerings[oldest]
        return ""

    async def _watch_health(self) -> None:
        while not self.ended.done():
            await asyncio.sleep(HEALTH_SECONDS)
            try:
                await self._host.check()
            except EngineDied as error:
                self._died(str(error))
            if self._host.load().notice != self._noticed:
                self._send_load()

    async def _tell_load(self) -> None:
        while not self.ended.done():
            await self._busy.wait()
            await asyncio.sleep(frames.LOAD_SECONDS)
            if not self._open:
                self._busy.clear()
            self._send_load()

    def _send_load(self) -> None:
        decoding = sum(answering.decoding for answering in self._answerings.values())
        load = replace(self._host.load(), decoding=decoding)
        self._noticed = load.notice
        self._link.send(frames.Load(load))

    def _died(self, reason: str) -> None:
        if not self.ended.done():
            self._link.send(frames.Gone(reason))  # written before whoever waits for `ended` goes on
            self.ended.set_result(frames.DIED)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (defect := task.exception()) and not self.ended.done():
            self.ended.set_exception(defect)  # a traceback in the log, and the node starts another process


async def _answer(answering: "Answering", ask: frames.Request) -> frames.Reply:
    match ask:
        case frames.Ask():
            return frames.Answer(ask.number, await answering.caption(ask.image, ask.sha256, ask.fields))
        case frames.Score():
            score = await answering.score(ask.image, ask.sha256, ask.prompt, ask.ids, ask.values)
            return frames.Scored(ask.number, score)
        case frames.Spell():
            return frames.Spelt(ask.number, answering.spell(ask.prompt, ask.ids, ask.finish))
        case frames.Cut():
            return frames.Readings(ask.number, answering.cut(ask.prompt, ask.text, ask.finish))


class NodeLink(asyncio.Protocol):
    """The node's messages in, ours out. Whatever is sent within one turn of the event loop leaves in one write."""

    def __init__(self, on_message: Callable[[frames.ToEngine], None]) -> None:
        self._reader = frames.frames_to_engine()
        self._on_message = on_message
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio says that the socket is in use."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio has read from the socket."""
        for message in self._reader.feed(data):
            self._on_message(message)

    def send(self, message: frames.ToNode) -> None:
        """Queues a message; answers are small and the node reads without waiting, so nothing piles up."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frames.encode(message))

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
