"""Asking a web server for something: redirects, deadlines, and what an answer may be.

Always holds: each address on the way of a redirect is checked like the first one, and waits for a place at its own
host; `Authorization` goes to the origin it is meant for and to no other; a body is never decompressed, so its bytes are
those that were counted; each wait for a server has a deadline.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx2
import trio

from p2pcap import __version__
from p2pcap.errors import ImageError, ImageResting, ImageUnavailable, SourceError
from p2pcap.retry_after import retry_after
from p2pcap.sources.files import Reserve
from p2pcap.sources.locations import WebFile, parse
from p2pcap.sources.web.hosts import Busy, Hosts, Resting
from p2pcap.sources.web.limits import Deadline, Limits
from p2pcap.sources.web.transport import Transport

AGENT = "p2pcap"
"""What robots.txt and X-Robots-Tag call us."""

USER_AGENT = f"{AGENT}/{__version__} (captions images; robots.txt knows it as {AGENT})"
HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
REDIRECTS = (301, 302, 303, 307, 308)
LITTLE = 16 * 1024
"""A redirect's body up to this length is read, so that its connection can be used again."""

STEP = 256 * 1024
"""Bytes of a body that room is asked for at one time, at most."""

TURN = 64
"""Parts of a body after which other tasks get a turn, though more have come."""

CRUMBS, CRUMB = 4_096, 64
"""So many parts may be smaller than this on average: each costs us more than it costs the server."""

CLOSE_SECONDS = 2.0

Check = Callable[[httpx2.URL], Awaitable[None]]
"""Raises ImageError for an address that is not to be asked."""


class Answer:
    """What a server answered, its body still to come."""

    def __init__(self, response: httpx2.Response, deadline: Deadline) -> None:
        self._response = response
        self._deadline = deadline
        self.status = response.status_code
        self.headers = response.headers
        self.url = str(response.request.url)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._body = aiter(response.stream)
        self._parts = 0

    @property
    def length(self) -> int | None:
        """The body's bytes, as the server says."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    async def next(self) -> bytes:
        """The next part of the body, of at most 64 KiB; empty when it has come to its end. Raises ImageUnavailable when
        it breaks off."""
        with self._deadline:
            return await self._next()

    async def _next(self) -> bytes:
        part = await anext(self._body, b"")
        self._deadline.came(len(part))
        self._parts += 1
        if self._parts % TURN == 0:
            await self._rest()
        return part

    async def _rest(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._parts >= CRUMBS and self._deadline.received < self._parts * CRUMB:
            raise ImageUnavailable("server-error", "The server sends its answer in crumbs.")

    async def read(self, limit: int, reserve: Reserve | None = None) -> bytes:
        """The whole body. `reserve` is asked for room before each STEP bytes of it, and may take its time. Raises
        ImageError "too-large" when it has more bytes than `limit`, and what `next` raises."""
        most = limit if self.length is None else self.length
        parts: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                room = min(size + STEP, most)
                if reserve is not None:
                    await reserve(room, self.length or 0)
                size, more = await self._read_up_to(room, parts, size, limit)
            return b"".join(parts)
        finally:
            parts.clear()  # an error that is kept, for the next try as a rule, keeps this list with its traceback

    async def _read_up_to(self, room: int, parts: list[bytes], size: int, limit: int) -> tuple[int, bool]:
        """Add to the `size` bytes in `parts` until they are more than `room`. Returns how many there are, and whether
        there may be more."""
        with self._deadline:
            while size <= room:
                part = await self._next()
                if not part:
                    return size, False
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                parts.append(part)
        return size, True

    async def close(self) -> None:
        """Give the connection back, or close it when something of the body is left."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            closing = getattr(self._body, "aclose", None)
            if closing is not None:
                await closing()
            await self._response.aclose()


class Client:
    """Asks by the rules of this module. A context manager: its connections are closed in the end."""

    def __init__(
        self, transport: Transport, hosts: Hosts, limits: Limits, secret: tuple[str, str] | None = None
    ) -> None:
        """`secret` is an origin and what is sent there, and nowhere else, as `Authorization`."""
        self._transport = transport
        self._hosts = hosts
        self._limits = limits
        self.secret = secret

    @asynccontextmanager
    async def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        check: Check | None = None,
        accept: Collection[int] = (),
        longest: float = math.inf,
    ) -> AsyncIterator[Answer]:
        """The answer at `url`, and where it redirects to, `Limits.redirects` times at most.

        `check` is asked before each address is. Answers that are not 2xx, nor in `accept`, are raised as ImageError or
        ImageUnavailable; ImageResting, when nothing was asked at all. `longest`: seconds that all of it may take, but
        for our own waiting.
        """
        deadline, seen, target = Deadline(self._limits, longest), set[str](), _address(url)
        while str(target) not in seen and len(seen) <= self._limits.redirects:
            seen.add(str(target))
            async with self._place(target, check, len(seen) > 1):
                answer = await self._ask(target, headers or {}, deadline)
                try:
                    following = _redirect(answer)
                    fault = _fault(answer, accept) if following is None else None
                    if following is None and fault is None:
                        yield answer
                        return
                    await _drain(answer)
                    if fault is not None:
                        raise fault
                finally:
                    await answer.close()
            assert following is not None
            target = following
        raise ImageError("bad-redirect", "The address redirects in a circle, or too often.")

    @asynccontextmanager
    async def _place(self, url: httpx2.URL, check: Check | None, asked: bool) -> AsyncIterator[None]:
        """A place at the host of an address that may be asked. Whoever led us there, or was to, was `asked` then."""
        try:
            if check is not None:
                await check(url)
            async with self._hosts.place(url.host, port_of(url)):
                yield
        except ImageResting as error:
            if asked:
                raise Resting(error.code, error.reason) from error
            raise

    async def _ask(self, url: httpx2.URL, headers: Mapping[str, str], deadline: Deadline) -> Answer:
        sent = {**HEADERS, **headers}
        if self.secret is not None and origin(url) == self.secret[0]:
            sent["Authorization"] = self.secret[1]
        request = httpx2.Request("GET", url, headers=sent, extensions={"timeout": self._limits.timeouts})
        with deadline:
            response = await self._transport.handle_async_request(request)
        return Answer(response, deadline)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._transport.aclose()


def origin(url: httpx2.URL) -> str:
    """Scheme, host and port, as one text."""
    return f"{url.scheme}://{url.host}:{port_of(url)}"


def port_of(url: httpx2.URL) -> int:
    """The port that is connected to."""
    return url.port or (443 if url.scheme == "https" else 80)


def too_large(limit: int) -> ImageError:
    """What is said of a body of more than `limit` bytes."""
    return ImageError("too-large", f"The image has more than {limit} bytes.")


def _address(text: str) -> httpx2.URL:
    """The address, if it is one of the web's. Raises ImageError."""
    try:
        url = httpx2.URL(text)
        if not isinstance(parse(str(url)), WebFile):
            raise ImageError("bad-address", "The address is none of the web's.")
    except (httpx2.InvalidURL, SourceError, ValueError) as error:
        raise ImageError("bad-address", "The address is none of the web's.") from error
    return url


def _redirect(answer: Answer) -> httpx2.URL | None:
    """Where the answer sends us. Raises ImageError for a place that is none."""
    if answer.status not in REDIRECTS:
        return None
    if "Location" not in answer.headers:
        raise ImageError("bad-redirect", "The address redirects to no address.")
    try:
        there = httpx2.URL(answer.url).join(answer.headers["Location"])
    except (httpx2.InvalidURL, ValueError) as error:
        raise ImageError("bad-address", "The address redirects to what is no address.") from error
    return _address(str(there.copy_with(fragment=None)))


async def _drain(answer: Answer) -> None:
    if answer.length is not None and answer.length <= LITTLE:
        with suppress(ImageUnavailable):  # nobody needs this body; without its end the connection is closed
            await answer.read(LITTLE)


def _fault(answer: Answer, accept: Collection[int]) -> ImageError | None:
    """What the status means where it is not what was hoped for, or an encoding that was not asked for."""
    status = answer.status
    if status in (429, 503):
        return Busy(retry_after(answer.headers.get("Retry-After", ""), datetime.now(UTC)) or 0.0)
    if status >= 500 or status < 200 or status in (408, 425):
        return ImageUnavailable("server-error", f"The server answers with status {status}.")
    if status not in accept and status in (404, 410, 416):
        return ImageError("gone", f"The server answers with status {status}.")
    if status not in accept and status >= 300:
        return ImageError("refused", f"The server answers with status {status}.")
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        return ImageError("undecodable", "The server sends compressed content that was not asked for.")
    return None
