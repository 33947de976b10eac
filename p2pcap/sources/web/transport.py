"""How requests leave this machine: over connections that a guard made, or by a proxy where the environment says so.

It is used without httpx2's client above it: that one keeps every cookie a stranger sets, logs each address, and takes
user names out of addresses, and none of this is wanted here.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY mean what they mean to curl; only http and https proxies are known.
With a proxy, the guard looks the host's name up here before the proxy is asked, and refuses what it would refuse to
connect to. A proxy then asks for the name again, so a name that changes its answer in between is the proxy's to refuse;
a name that this machine cannot look up is given to the proxy only where `unknown_names` says so.

Always holds: no error of httpcore2 leaves this module.
"""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Self
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from p2pcap.errors import ImageError, ImageUnavailable, SourceError
from p2pcap.sources.web.guard import Guard
from p2pcap.sources.web.limits import FETCHES
from p2pcap.sources.web.pool import IDLE_SECONDS, Pool


class Truncated(ImageUnavailable):
    """The connection ended before the body did. Asked again a few times, it becomes the lasting error of that name."""

    def __init__(self) -> None:
        super().__init__("truncated", "The server sent less than it said.")


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests over guarded connections. Raises ImageError and ImageUnavailable."""

    def __init__(self, guard: Guard, unknown_names: bool = False) -> None:
        self._guard = guard
        self._unknown_names = unknown_names
        context = httpx2.create_ssl_context()
        self._direct = Pool(context, guard)
        self._proxies = {scheme: _proxy(context, scheme) for scheme in ("http", "https") if _proxy_url(scheme)}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response to `request`, its body still to come."""
        url = request.url
        with _mapped():
            pool: Pool | httpcore2.AsyncHTTPProxy = self._direct
            if url.scheme in self._proxies and not proxy_bypass(url.host):
                await self._check(url)
                pool = self._proxies[url.scheme]
            sent = httpcore2.Request(
                request.method,
                httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.content,
                extensions=request.extensions,
            )
            response = await pool.handle_async_request(sent)
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response), request=request)

    async def _check(self, url: httpx2.URL) -> None:
        try:
            await self._guard.check(url.host, url.port or (443 if url.scheme == "https" else 80))
        except ImageUnavailable:
            if not self._unknown_names:
                raise

    async def aclose(self) -> None:
        """Close all connections."""
        await self._direct.aclose()
        for proxy in self._proxies.values():
            await proxy.aclose()

    async def __aenter__(self) -> Self:
        return self


class _Body(httpx2.AsyncByteStream):
    """The body of a response as it comes, with errors that tell a lie about its length from a broken connection."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response
        self._parts = response.aiter_stream()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _mapped():
            try:
                async for part in self._parts:
                    yield part
            except httpcore2.RemoteProtocolError as error:
                raise Truncated from error

    async def aclose(self) -> None:
        await self._parts.aclose()
        await self._response.aclose()


@contextmanager
def _mapped() -> Iterator[None]:
    """Errors of httpcore2 as ours. ValueError is what a host's name that TLS cannot ask for ends in."""
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise ImageUnavailable("timeout", "The server was too slow.") from error
    except (httpcore2.NetworkError, httpcore2.ProxyError) as error:
        raise ImageUnavailable("unreachable", "The server cannot be reached, or broke off.") from error
    except httpcore2.RemoteProtocolError as error:
        raise ImageUnavailable("server-error", "The server does not speak HTTP as it should.") from error
    except (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol, ValueError) as error:
        raise ImageError("bad-address", "The address cannot be asked for over HTTP.") from error


def _proxy_url(scheme: str) -> str | None:
    named = getproxies()
    return named.get(scheme) or named.get("all") or None


def _proxy(context: ssl.SSLContext, scheme: str) -> httpcore2.AsyncHTTPProxy:
    """The pool behind the environment's proxy for `scheme`. Raises SourceError for one that cannot be used."""
    named = _proxy_url(scheme) or ""
    try:
        proxy = httpx2.Proxy(named if "://" in named else f"http://{named}")
    except (ValueError, httpx2.InvalidURL) as error:
        raise SourceError(f"{scheme.upper()}_PROXY names no proxy. Correct it, or unset it.") from error
    if proxy.url.scheme not in ("http", "https"):
        raise SourceError(f"The proxy in {scheme.upper()}_PROXY is no http proxy. Name one, or unset it.")
    return httpcore2.AsyncHTTPProxy(
        proxy_url=httpcore2.URL(
            scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
        ),
        proxy_auth=proxy.raw_auth,
        ssl_context=context,
        max_connections=2 * FETCHES,
        max_keepalive_connections=FETCHES,
        keepalive_expiry=IDLE_SECONDS,
        network_backend=httpcore2.TrioBackend(),
    )
