"""The node's end of the socket pair to one engine process.

Always holds: a call of `ask`, `score` or `use` ends with a reply, with the image's or the task's fault, or with
EngineDied as soon as the socket closes; never later. What is asked within one turn of the scheduler leaves in one
write, in the order in which it was asked.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import trio

from p2pcap.engine import frames
from p2pcap.engine.base import NO_FIELDS, Finish, Output, Score, Spelt
from p2pcap.errors import EngineDied, FrameError, ImageError, ModelError
from p2pcap.project.task import Task

WRITE_BYTES = 1024 * 1024
"""Frames are joined into writes of about this size."""


class Expected:
    """The place where a reply is put for the task that waits for it since `asked`; `message` stays None when none will
    come."""

    __slots__ = ("asked", "come", "message")

    def __init__(self) -> None:
        self.asked = trio.current_time()
        self.come = trio.Event()
        self.message: frames.Reply | None = None


class Link:
    """Asks over `socket`; everything that is not a reply goes to `on_message`."""

    def __init__(self, socket: trio.socket.SocketType, on_message: Callable[[frames.ToNode], None]) -> None:
        self._stream = trio.SocketStream(socket)
        self._on_message = on_message
        self._numbers = count()
        self._open: dict[int, Expected] = {}
        self._outgoing: deque[bytes] = deque()
        self._more = trio.Event()
        self._worked = float("-inf")
        self._tokens = 0
        self.closed = trio.Event()
        self.fault = ""
        """Why the connection was given up, when the process broke the framing."""

    @property
    def quiet_since(self) -> float:
        """The last moment at which the process had nothing to do, or showed that it works: by an answer, or by tokens
        that it read or made."""
        first = next(iter(self._open.values()), None)
        return trio.current_time() if first is None else max(first.asked, self._worked)

    async def run(self) -> None:
        """Carries messages until the process closes its end or breaks the framing, and not sooner.

        Cancelling it does nothing: a process that is to end must still be told so. Kill it, and this returns.
        """
        with trio.CancelScope(shield=True):
            async with self._stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        self._close()

    async def ask(
        self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS, task_number: int = 0
    ) -> tuple[Output, ...]:
        """One output for each prompt. Raises ImageError or EngineDied. Cancelling it gives the work up."""
        reply = await self._reply(frames.Ask(next(self._numbers), sha256, image, dict(fields), task_number))
        assert isinstance(reply, frames.Answer)
        return reply.outputs

    async def score(
        self,
        image: bytes,
        sha256: bytes,
        prompt: int,
        ids: Sequence[int],
        values: Mapping[str, str] = NO_FIELDS,
        task_number: int = 0,
    ) -> Score:
        """What the model thinks of that answer. Raises ImageError or EngineDied. Cancelling it gives the work up."""
        number = next(self._numbers)
        request = frames.Score(number, sha256, image, prompt, tuple(ids), dict(values), task_number)
        reply = await self._reply(request)
        assert isinstance(reply, frames.Scored)
        return reply.score

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish, task_number: int = 0) -> Spelt:
        """What the tokens are as an answer. Raises ImageError or EngineDied."""
        reply = await self._reply(frames.Spell(next(self._numbers), prompt, tuple(ids), finish, task_number))
        assert isinstance(reply, frames.Spelt)
        return reply.spelling

    async def cut(self, prompt: int, text: str, finish: Finish, task_number: int = 0) -> tuple[tuple[int, ...], ...]:
        """The tokens that a text may have been made of. Raises ImageError or EngineDied."""
        reply = await self._reply(frames.Cut(next(self._numbers), prompt, text, finish, task_number))
        assert isinstance(reply, frames.Readings)
        return reply.readings

    async def use(self, task: Task, task_number: int) -> None:
        """Makes that a task to ask for. Raises ModelError when it cannot be one, or EngineDied."""
        reply = await self._reply(frames.Use(next(self._numbers), task, task_number))
        assert isinstance(reply, frames.Used)
        if reply.refusal:
            raise ModelError(reply.refusal)

    async def _reply(self, request: frames.Request | frames.Use) -> frames.Reply:
        """The message that answers the request. Raises ImageError when that is a Fault, and EngineDied."""
        if self.closed.is_set():
            raise EngineDied("The engine's process is gone.")
        expected = self._open[request.number] = Expected()
        self.send(request)
        try:
            await expected.come.wait()
        finally:
            if self._open.pop(request.number, None):
                self.send(frames.Cancel(request.number))
        match expected.message:
            case None:
                raise EngineDied("The engine's process ended before it answered.")
            case frames.Fault(code=code, reason=reason):
                raise ImageError(code, reason)
            case reply:
                return reply

    def send(self, message: frames.ToEngine) -> None:
        """Queues a message. The queue is bounded by the engine's capacity: one image a call of `ask`."""
        if self.closed.is_set():
            return
        self._outgoing.append(frames.encode(message))
        self._more.set()

    async def _read(self) -> None:
        reader = frames.frames_to_node()
        try:
            while data := await self._stream.receive_some(frames.READ_BYTES):
                for message in reader.feed(data):
                    self._take(message)
        except trio.BrokenResourceError:
            return  # it was killed with messages unread; to the node that is an end like any other
        except FrameError as error:
            self.fault = str(error)

    def _take(self, message: frames.ToNode) -> None:
        if self._shows_work(message):
            self._worked = trio.current_time()
        if not isinstance(message, frames.Reply):
            self._on_message(message)
        elif expected := self._open.pop(message.number, None):  # none: it was cancelled meanwhile
            expected.message = message
            expected.come.set()

    def _shows_work(self, message: frames.ToNode) -> bool:
        """Not every reply does: a task is taken or refused without asking the model anything."""
        match message:
            case frames.Answer() | frames.Fault() | frames.Scored():
                return True
            case frames.Load(load):
                before, self._tokens = self._tokens, load.read + load.made
                return self._tokens != before
        return False

    async def _write(self) -> None:
        try:
            while True:
                await self._more.wait()
                self._more = trio.Event()
                while self._outgoing:
                    await self._stream.send_all(self._next_write())
        except trio.BrokenResourceError:
            return  # reading sees the end as well and says so

    def _next_write(self) -> bytes:
        taken = [self._outgoing.popleft()]
        size = len(taken[0])
        while self._outgoing and size < WRITE_BYTES:
            taken.append(self._outgoing.popleft())
            size += len(taken[-1])
        return b"".join(taken)

    def _close(self) -> None:
        self.closed.set()
        self._outgoing.clear()
        unanswered, self._open = self._open, {}
        for expected in unanswered.values():
            expected.come.set()
