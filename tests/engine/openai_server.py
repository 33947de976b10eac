"""A server with OpenAI's interface on loopback that does what it is told, however wrong, and notes what it is asked."""

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from p2pcap.engine.probing import GREY

HEAD = 64 * 1024


@dataclass(frozen=True)
class Asked:
    """One request; header names in lower case; `body` of a question."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def picture(self) -> str:
        """The data URL, or "" for a question without one."""
        content = self.body["messages"][-1]["content"]
        return "" if isinstance(content, str) else str(content[0]["image_url"]["url"])

    @property
    def text(self) -> str:
        """The prompt."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else str(content[-1]["text"])

    @property
    def is_probe(self) -> bool:
        return self.picture == GREY or self.text == "Say hello."


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes, headers: Mapping[str, str] | None = None, length: int | None = None) -> bytes:
    """A response as it goes over the wire."""
    named = {"Content-Type": "application/json", "Content-Length": str(len(body) if length is None else length)}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in (named | dict(headers or {})).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(text: Any = "a picture", finish: str | None = "stop", headers: Mapping[str, str] | None = None,
           usage: Any = None, **message: Any) -> Behaviour:  # fmt: skip
    """A good answer; without `usage` the server does not count tokens."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        said = {"role": "assistant", "content": text} | message
        body: dict[str, Any] = {"choices": [{"index": 0, "message": said, "finish_reason": finish}]}
        writer.write(http(200, json.dumps(body | ({"usage": usage} if usage is not None else {})).encode(), headers))

    return behave


def status(code: int, text: str = "", headers: Mapping[str, str] | None = None) -> Behaviour:
    """An error as OpenAI words it."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(http(code, json.dumps({"error": {"message": text}}).encode(), headers))

    return behave


def raw(data: bytes, close: bool = True) -> Behaviour:
    """Just these bytes."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            raise ConnectionError

    return behave


def reset() -> Behaviour:
    """The connection breaks."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        end: socket.socket = writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionError

    return behave


def stall(after: bytes = b"") -> Behaviour:
    """Nothing more comes until the client goes."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await asyncio.get_running_loop().create_future()

    return behave


def drip(data: bytes, every: float) -> Behaviour:
    """A byte at a time, and each of them in time."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for number in range(len(data)):
            writer.write(data[number : number + 1])
            await asyncio.sleep(every)

    return behave


def held(release: asyncio.Event, then: Behaviour | None = None) -> Behaviour:
    """The answer comes when the test says so."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await (then or answer())(asked, writer)

    return behave


class OpenAIServer:
    """Serves `models`. Questions are answered by `script`, the first each, then by `always`; what only tries whether
    the server works, by `probes`; GET /models by `listing`. `asked` lists all, `most` is the most at one time."""

    def __init__(
        self, models: tuple[str, ...] = ("shapes",), owner: str = "tester", tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.script: deque[Behaviour] = deque()
        self.always = answer()
        self.probes = answer()
        cards = {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner} for name in models]}
        self.listing = raw(http(200, json.dumps(cards).encode()), close=False)
        self.asked: list[Asked] = []
        self.most = self.now = 0
        self.changed = asyncio.Condition()
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1" if self._tls is None else f"https://localhost:{self._port}/v1"

    @property
    def questions(self) -> list[Asked]:
        """What was asked about images."""
        return [asked for asked in self.asked if asked.method == "POST" and not asked.is_probe]

    @property
    def probed(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "POST" and asked.is_probe]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so, which a request or the end of one may bring about."""
        async with self.changed:
            await self.changed.wait_for(true)

    async def start(self) -> None:
        """Listen, on the port of the last time."""
        room = 64 * 1024 * 1024
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=room, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone, all connections with it."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._serve(await _read(reader), reader, writer)
        finally:
            self._serving.discard(task)
            self._open.discard(writer)
            writer.close()

    async def _serve(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(1, asked)
        try:
            await self._until_gone(self._behaviour(asked)(asked, writer), reader)
            await writer.drain()
        finally:
            await self._count(-1)

    async def _until_gone(self, work: Awaitable[None], reader: asyncio.StreamReader) -> None:
        """As long as the client is there: it sends nothing before it has its answer."""
        doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([doing, gone], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ConnectionError
            doing.result()
        finally:
            doing.cancel()
            gone.cancel()
            await asyncio.gather(doing, gone, return_exceptions=True)

    def _behaviour(self, asked: Asked) -> Behaviour:
        if asked.method == "GET":
            return self.listing
        if asked.is_probe:
            return self.probes
        return self.script.popleft() if self.script else self.always

    async def _count(self, by: int, asked: Asked | None = None) -> None:
        async with self.changed:
            self.now += by
            self.most = max(self.most, self.now)
            self.asked += [asked] if asked is not None else []
            self.changed.notify_all()


async def _read(reader: asyncio.StreamReader) -> Asked:
    """A request. Raises IncompleteReadError when the client is gone."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, json.loads(body) if body else None)
