"""A small page of text that somebody named: read over https, all of it or nothing.

Always holds: nothing is asked in clear; a redirect leads to https on the public internet, or is not followed; reading
ends after PAGE_SECONDS at the latest.
"""

import httpx2
import trio

from p2pcap.errors import ImageError, SourceError, SourceGone
from p2pcap.sources.web.client import Client, port_of
from p2pcap.sources.web.guard import Guard
from p2pcap.sources.web.hosts import Hosts
from p2pcap.sources.web.limits import Limits
from p2pcap.sources.web.transport import Transport

PAGE_SECONDS = 30.0

_LIMITS = Limits(tries=1, redirects=3)


async def page(url: str, limit: int) -> bytes:
    """The bytes at `url`, of which there may be `limit`. Its host may lie anywhere, since its reader chose it; those
    that it redirects to may not. Raises SourceError."""
    named = _https(url)
    guard = Guard((f"{named.host}:{port_of(named)}",))
    hosts = Hosts(_LIMITS, trio.CapacityLimiter(1), lambda *_: True)
    try:
        async with Client(Transport(guard), hosts, _LIMITS) as client:
            with trio.fail_after(PAGE_SECONDS):
                async with client.get(url, check=_check) as answer:
                    return await answer.read(limit)
    except (ImageError, trio.TooSlowError) as error:
        why = error.reason if isinstance(error, ImageError) else f"It took more than {PAGE_SECONDS:.0f} seconds."
        raise SourceGone(f"{url} cannot be read. {why.replace('The image', 'The page')}") from error


async def _check(url: httpx2.URL) -> None:
    if url.scheme != "https":
        raise ImageError("bad-redirect", "It redirects to an address without https.")


def _https(url: str) -> httpx2.URL:
    try:
        named = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise SourceError(f"{url[:200]} is no web address.") from error
    if named.scheme != "https" or not named.host:
        raise SourceError(f"{url[:200]} is no https address.")
    return named
