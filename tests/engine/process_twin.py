"""The other end of the socket to an engine's process, and a process's life, both in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2pcap.engine import frames
from p2pcap.engine.life import End
from p2pcap.engine.link import Link


class ProcessTwin:
    """The other end: hears what the node sends, says what it is told to."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.stream = trio.SocketStream(socket)
        self._reader = frames.frames_to_engine()
        self._heard: list[frames.ToEngine] = []

    async def hear(self) -> frames.ToEngine:
        while not self._heard:
            self._heard += self._reader.feed(await self.stream.receive_some(65_536))
        return self._heard.pop(0)

    async def say(self, *messages: frames.ToNode) -> None:
        await self.stream.send_all(b"".join(map(frames.encode, messages)))


class TwinLife:
    """In place of life.Life: the process is `process`, and the test speaks for it. Processes begin once `may_begin` is
    set, and come out of `begun`."""

    may_begin: trio.Event
    begun: "trio.MemorySendChannel[TwinLife]"
    pid = 4_711

    def __init__(self, start: frames.Start, log_file: Path, on_message: Callable[[frames.ToNode], None]) -> None:
        self.start = start
        self._on_message = on_message
        self._reason = "The twin ended."
        self.printed_text = ""
        self.link: Link
        self.process: ProcessTwin

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        ours, theirs = trio.socket.socketpair()
        await self.may_begin.wait()
        self.link, self.process = Link(ours, self._on_message), ProcessTwin(theirs)
        self.link.send(self.start)
        self.begun.send_nowait(self)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            try:
                yield
            finally:
                self.process.stream.socket.close()

    def printed(self) -> str:
        return self.printed_text

    def kill(self, reason: str = "The twin was killed.") -> None:
        self._reason = reason
        self.process.stream.socket.close()

    def end(self) -> End:
        return End(self._reason, printed=self.printed_text)
