"""Connections that are kept to be used again, by origin.

httpcore2's own pool looks at every idle connection, with a system call each, twice for every request; with 64 of them
that costs more than the request does. Here only the one that is taken is looked at. How many are in use is not counted
here: whoever asks has a place for it (`p2pcap.sources.web.hosts`).

Always holds: no more than IDLE connections are idle; one that breaks, or that has something of an answer left, is
closed.
"""

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator

import httpcore2
import trio

IDLE = 64
IDLE_SECONDS = 15.0
"""How many idle connections are kept, and for how long one may be used again."""


class Pool:
    """Sends requests over connections that `backend` makes. Its length is the number of idle ones."""

    def __init__(self, context: ssl.SSLContext, backend: httpcore2.AsyncNetworkBackend) -> None:
        self._context = context
        self._backend = backend
        self._idle: OrderedDict[httpcore2.AsyncHTTPConnection, str] = OrderedDict()
        self._by_origin: dict[str, list[httpcore2.AsyncHTTPConnection]] = {}

    def __len__(self) -> int:
        return len(self._idle)

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """The response; closing it gives its connection back."""
        connection = await self._take(request.url.origin)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            with trio.CancelScope(shield=True):
                await connection.aclose()
            raise
        body = _Body(self, connection, request.url.origin, response)
        return httpcore2.Response(response.status, headers=response.headers, content=body)

    async def give_back(self, connection: httpcore2.AsyncHTTPConnection, origin: httpcore2.Origin) -> None:
        """Keep a connection that can be used again; the one idle for longest makes room."""
        if not connection.is_idle():
            await connection.aclose()
            return
        self._idle[connection] = str(origin)
        self._by_origin.setdefault(str(origin), []).append(connection)
        if len(self._idle) > IDLE:
            oldest = next(iter(self._idle))
            self._forget(oldest)
            await oldest.aclose()

    async def _take(self, origin: httpcore2.Origin) -> httpcore2.AsyncHTTPConnection:
        while kept := self._by_origin.get(str(origin)):
            connection = kept[-1]
            self._forget(connection)
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore2.AsyncHTTPConnection(
            origin, ssl_context=self._context, keepalive_expiry=IDLE_SECONDS, network_backend=self._backend
        )

    def _forget(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        origin = self._idle.pop(connection)
        self._by_origin[origin].remove(connection)
        if not self._by_origin[origin]:
            del self._by_origin[origin]

    async def aclose(self) -> None:
        """Close what is idle."""
        while self._idle:
            connection = next(iter(self._idle))
            self._forget(connection)
            await connection.aclose()


class _Body:
    """The body of a response, in parts."""

    def __init__(
        self,
        pool: Pool,
        connection: httpcore2.AsyncHTTPConnection,
        origin: httpcore2.Origin,
        response: httpcore2.Response,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._origin = origin
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.aiter_stream()

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._response.aclose()
        await self._pool.give_back(self._connection, self._origin)
