"""One request to a server with OpenAI's interface, and its whole answer. Runs in the engine's process only.

httpx2's transport is used without its client, which keeps every cookie that a server sets, follows what the environment
says of proxies, and logs each address. So a volunteer's requests go to the address that was named and nowhere else: no
proxy, no redirect. Certificates are verified; SSL_CERT_FILE and SSL_CERT_DIR name others than the system's.

Always holds: each exchange ends, within a time and a number of bytes; whatever goes wrong is Unanswered; and no text
made here has a key in it.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from p2pcap import __version__
from p2pcap.engine.endpoints import Endpoint
from p2pcap.errors import EngineError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 180.0
"""For a question, from its first byte to the last one of its answer."""

LOOK_SECONDS = 20.0
"""For the list of models."""

MAX_ANSWER = 4 * 1024 * 1024
"""8,192 tokens of 128 bytes, and reasoning three times as long."""

KEEP_ALIVE = 2.0
"""Seconds that an idle connection is kept; servers close theirs after five, some of them in the middle of a request."""


class Unanswered(EngineError):
    """No answer came. The reason goes on where the server's name ends. `sent`: the server may have begun to work on the
    request; `slow`: it took too long; `after`: the seconds of quiet that it asks for."""

    def __init__(self, reason: str, sent: bool, slow: bool = False, after: float | None = None) -> None:
        super().__init__(reason)
        self.sent = sent
        self.slow = slow
        self.after = after


@dataclass(frozen=True)
class Reply:
    """What a server answered: its status, its headers by lower-case name, and the bytes of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """Speaks HTTP with one server. `answer_seconds` is for each question."""

    def __init__(self, endpoint: Endpoint, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.endpoint = endpoint
        self._seconds = answer_seconds
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEP_ALIVE)
        context: ssl.SSLContext = httpx2.create_ssl_context()
        self._transport = httpx2.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)

    async def look(self, path: str) -> Reply:
        """The answer to a GET. Raises Unanswered."""
        return await self._exchange(httpx2.Request("GET", self.endpoint.url(path), headers=self._headers), LOOK_SECONDS)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """The answer to a POST. Raises Unanswered."""
        headers = self._headers | {"Content-Type": "application/json"}
        content = msgspec.json.encode(body)
        request = httpx2.Request("POST", self.endpoint.url(path), headers=headers, content=content)
        return await self._exchange(request, self._seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"p2pcap/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
        return headers | ({"Authorization": f"Bearer {self.endpoint.key}"} if self.endpoint.key else {})

    async def _exchange(self, request: httpx2.Request, seconds: float) -> Reply:
        waits = {"connect": CONNECT_SECONDS, "read": seconds, "write": seconds, "pool": seconds}
        request.extensions = {"timeout": waits}
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.handle_async_request(request)
                try:
                    return Reply(response.status_code, _headers(response), await _body(response))
                finally:
                    await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unanswered(_no_connection(error), sent=False) from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise Unanswered(f"gave no answer within {seconds:.0f} s", sent=True, slow=True) from error
        except (httpx2.TransportError, httpx2.InvalidURL, ValueError) as error:
            raise Unanswered("broke off in the middle of an answer", sent=True) from error


async def _body(response: httpx2.Response) -> bytes:
    """The body as it was sent, never unpacked. Raises Unanswered when it is too long."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER:
            raise Unanswered(f"sent an answer of more than {MAX_ANSWER} bytes", sent=True)
        parts.append(part)
    return b"".join(parts)


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _no_connection(error: Exception) -> str:
    """Why there is no connection, as the end of a sentence that begins with the server."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"shows a certificate that does not hold ({seen.verify_message})"
        if isinstance(seen, ssl.SSLError):
            return "does not speak TLS there"
        seen = seen.__cause__ or seen.__context__
    return "cannot be reached"
