"""The engine's process: `python -m p2pcap.engine.process FD`, FD being its end of the socket pair to the node.

asyncio runs here, because vLLM does; trio runs in the node, and the two meet only on the socket. The process ends with
status frames.DIED when vLLM's own processes go away, and with every process of its group when the node's end of the
socket is closed: nobody is left to caption for.

Always holds: once Ready was sent, each Ask gets one Answer or Fault, unless it is cancelled or the process ends.
"""

import asyncio
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pcap.engine import frames, group
from p2pcap.engine.device import engine_class, remove_scratch
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError

if TYPE_CHECKING:
    from p2pcap.engine.captioner import Captioner

HEALTH_SECONDS = 1.0
"""How often an idle engine looks whether vLLM's processes still live; a busy one hears of it at once."""


def main() -> None:
    """Serve the node; the exit status says why that ended."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # vLLM's processes must not keep the connection open
    threading.Thread(target=_end_with_node, args=(end.fileno(),), daemon=True, name="node watch").start()
    status = asyncio.run(_serve(end))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # vLLM's threads and finalizers have nothing left to do, and some would only print errors


def _end_with_node(fd: int) -> None:
    """Waits, outside the event loop that an import or a load may block, for the node's end of the socket to close."""
    hang_up = select.poll()
    hang_up.register(fd, select.POLLRDHUP)
    hang_up.poll()
    group.kill_others(os.getpgid(0))
    remove_scratch()  # after the others, which would go on writing into it
    group.kill(os.getpgid(0))


async def _serve(end: socket.socket) -> int:
    start = _read_start(end)
    try:
        captioner = _load(start, end)
    except (ModelError, EngineStartError) as error:
        end.sendall(frames.encode(frames.Refused(str(error), isinstance(error, ModelError))))
        return frames.REFUSED
    alike = engine_class(captioner.version, captioner.device, start.task)
    end.sendall(frames.encode(frames.Ready(captioner.version, captioner.device, alike)))
    service = Service(captioner)
    end.setblocking(False)
    await asyncio.get_running_loop().create_connection(service.protocol, sock=end)
    return await service.ended


def _read_start(end: socket.socket) -> frames.Start:
    """The node's first message. Blocks: nothing else happens in this process yet."""
    reader = frames.frames_to_engine()
    while True:
        for message in reader.feed(end.recv(frames.READ_BYTES)):
            if isinstance(message, frames.Start):
                return message


def _load(start: frames.Start, end: socket.socket) -> "Captioner":
    end.sendall(frames.encode(frames.Progress("importing vLLM")))
    from p2pcap.engine.captioner import Captioner

    end.sendall(frames.encode(frames.Progress("loading the model")))
    return Captioner(start.model_dir, start.task, start.settings)


class Service:
    """Answers the node's messages from one captioner; `ended` gets the exit status when vLLM is gone."""

    def __init__(self, captioner: "Captioner") -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._captioner = captioner
        self._link = NodeLink(self._received)
        self._open: dict[int, asyncio.Task[None]] = {}
        self._health = loop.create_task(self._watch_health())

    def protocol(self) -> asyncio.Protocol:
        """What asyncio is to feed with the node's bytes."""
        return self._link

    def _received(self, message: frames.ToEngine) -> None:
        match message:
            case frames.Ask():
                task = asyncio.get_running_loop().create_task(self._answer(message))
                self._open[message.number] = task
                task.add_done_callback(lambda done: self._answered(message.number, done))
            case frames.Cancel(number) if number in self._open:
                self._open[number].cancel()

    async def _answer(self, ask: frames.Ask) -> None:
        try:
            outputs = await self._captioner.caption(ask.image, ask.sha256, ask.fields)
            self._link.send(frames.Answer(ask.number, outputs))
        except ImageError as error:
            self._link.send(frames.Fault(ask.number, error.code, error.reason))
        except EngineDied:
            self._died()

    def _answered(self, number: int, task: asyncio.Task[None]) -> None:
        del self._open[number]
        if not task.cancelled() and (defect := task.exception()) and not self.ended.done():
            self.ended.set_exception(defect)  # a traceback in the log, and the node starts another process

    async def _watch_health(self) -> None:
        while not self.ended.done():
            await asyncio.sleep(HEALTH_SECONDS)
            try:
                await self._captioner.check()
            except EngineDied:
                self._died()

    def _died(self) -> None:
        if not self.ended.done():
            self.ended.set_result(frames.DIED)


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


if __name__ == "__main__":
    main()
