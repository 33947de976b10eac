"""A web server on loopback that does what it is told, however wrong, and counts requests and bytes."""

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from types import TracebackType
from typing import Self

from p2pcap.sources.web.ranges import content_range

HEAD = 64 * 1024


@dataclass(frozen=True)
class Request:
    """One request; the header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]

    def range(self, length: int) -> tuple[int, int] | None:
        """Start and end of the one range that is asked for."""
        text = self.headers.get("range", "")
        if not text.startswith("bytes="):
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        part = content_range(f"bytes {first}-{min(int(last), length - 1)}/{length}")
        return (part.start, part.end) if part is not None and part.end > part.start else (length, length)


class Connection:
    """The server's end; what a route sends by it is counted. A route that returns keeps it open for more requests."""

    def __init__(self, server: "WebServer", ours: socket.socket, path: str) -> None:
        self.server = server
        self._socket = ours
        self._path = path

    def send(self, data: bytes) -> None:
        self.server.sent[self._path] += len(data)
        self._socket.sendall(data)

    def close(self) -> None:
        raise ConnectionError

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionError

    def stall(self) -> None:
        """Say nothing more until the server ends, or the client goes."""
        self._socket.recv(1)
        raise ConnectionError


Route = Callable[[Request, Connection], None]


class WebServer:
    """Serves `routes` by path, and `fallback` for all others.

    `requests` lists what was asked, `sent` counts bytes by path with their heads, `connections` what was opened, and
    `most` is the most requests that were answered at one time.
    """

    def __init__(
        self,
        routes: Mapping[str, Route] | None = None,
        fallback: Route | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.routes = dict(routes or {})
        self.tls = tls
        self.fallback = fallback or reply(b"no such page", status=404)
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()
        self.connections = 0
        self.most = 0
        self._now = 0
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def asked(self, path: str) -> int:
        """How often this path was asked for."""
        return sum(request.path == path for request in self.requests)

    def wait_until_closed(self, count: int) -> None:
        """Wait until `count` connections were opened and none of them is open any more."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.connections >= count and not self._open, 10)

    def __enter__(self) -> Self:
        self._start(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for each in self._open:
                with suppress(OSError):  # the client was faster
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    def _start(self, target: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=target, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open.append(ours)
            self._start(self._serve if self.tls is None else self._greet, ours)

    def _greet(self, plain: socket.socket) -> None:
        assert self.tls is not None
        with self._lock:
            self._open.remove(plain)
        try:
            ours = self.tls.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        with self._lock:
            self._open.append(ours)
        self._serve(ours)

    def _serve(self, ours: socket.socket) -> None:
        try:
            while (request := _read(ours)) is not None:
                self._answer(request, ours)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.remove(ours)
                ours.close()
                self._changed.notify_all()

    def _answer(self, request: Request, ours: socket.socket) -> None:
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            path = request.path.partition("?")[0]
            self.routes.get(path, self.fallback)(request, Connection(self, ours, path))
        finally:
            with self._lock:
                self._now -= 1


def _read(ours: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = ours.recv(HEAD)
        if not part:
            return None
        data += part
    first, *lines = data.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, path, headers)


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reply(body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None) -> Route:
    """The whole of `body`."""
    whole = head(status, {"Content-Length": str(len(body)), **(headers or {})}) + body
    return lambda _request, connection: connection.send(whole)


def image(body: bytes, headers: Mapping[str, str] | None = None) -> Route:
    return reply(body, headers={"Content-Type": "image/jpeg", **(headers or {})})


def redirect(to: str, status: int = 302) -> Route:
    return reply(b"elsewhere", status, {"Location": to})


def sends(*parts: bytes) -> Route:
    """These bytes as they are, then the end of the connection."""

    def route(_request: Request, connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        connection.close()

    return route


def stalls(*parts: bytes) -> Route:
    """These bytes, then nothing for ever."""

    def route(_request: Request, connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        connection.stall()

    return route


def resets(*parts: bytes) -> Route:
    """These bytes, then a reset."""

    def route(_request: Request, connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        connection.reset()

    return route


def together(number: int, route: Route) -> Route:
    """As `route`, for so many requests at one time: the first ones wait until all are there."""
    gate = threading.Barrier(number, timeout=10.0)

    def waiting(request: Request, connection: Connection) -> None:
        gate.wait()
        route(request, connection)

    return waiting


def endless(start: bytes, part: bytes) -> Route:
    """`part` again and again until the client goes."""

    def route(_request: Request, connection: Connection) -> None:
        connection.send(start)
        while True:
            connection.send(part)

    return route


def in_turn(*routes: Route) -> Route:
    """Another answer each time; the last one stays."""
    lock, left = threading.Lock(), list(routes)

    def route(request: Request, connection: Connection) -> None:
        with lock:
            answer = left.pop(0) if len(left) > 1 else left[0]
        answer(request, connection)

    return route


def file(body: bytes, tag: str | None = None, breaks_after: int | None = None) -> Route:
    """A file of which ranges are given. With `breaks_after`, the connection ends after so many bytes of an answer."""

    def route(request: Request, connection: Connection) -> None:
        extra = {"ETag": tag} if tag else {}
        wanted = request.range(len(body))
        if wanted is None or (tag and request.headers.get("if-range", tag) != tag):
            connection.send(head(200, {"Content-Length": str(len(body)), **extra}) + body)
            return
        start, end = wanted
        if start >= len(body):
            connection.send(head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0", **extra}))
            return
        about = {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}", "Content-Length": str(end - start), **extra}
        connection.send(head(206, about) + body[start:end][:breaks_after])
        if breaks_after is not None and end - start > breaks_after:
            connection.close()

    return route
