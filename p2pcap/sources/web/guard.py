"""Which machines a node connects to when somebody else chose the address.

Names are resolved once, here; every address of a name must be public, or none is used, and the connection goes to an
address that was checked. The check stands where connections are made, so a redirect, a name whose answer changes from
one question to the next, and an address written in an unusual way all come by it.

Always holds: without an exception, no connection is made to an address that is not public, nor to a port that is not
the web's; the table of names that lead nowhere has a bound.
"""

import math
import socket
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpcore2
import trio

from p2pcap.errors import ImageError, ImageUnavailable

PORTS = (80, 443)

NEXT_AFTER = 0.25
"""Seconds until the next address of a name is tried beside the one before (RFC 8305)."""

MOST_ADDRESSES = 4
"""Addresses of a name that are tried."""

UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays to IPv6, withdrawn
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),  # both for documentation
)
"""What Python's `is_global` calls global in some of the versions that p2pcap runs with."""

LOOKUP_SECONDS = 5.0
"""How long an answer about a name is waited for where nothing else is said."""

DEAD_SECONDS, MOST_DEAD = 60.0, 4_096
"""How long a name that led nowhere is not asked for again, and how many such names are remembered. Whoever asks for one
has a thread of the system's resolver for 10 to 30 seconds when its servers do not answer."""

_resolvers = trio.CapacityLimiter(128)
"""Threads that wait for answers about names. A resolver that hangs takes these, and no thread of anything else."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address belongs to the internet at large; one that carries another inside must do so in both."""
    if any(address in network for network in NOT_PUBLIC if network.version == address.version):
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    inner = [address.sixtofour, *(address.teredo or ())]
    return address in UNICAST and address.is_global and all(is_public(each) for each in inner if each is not None)


async def lookup(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of `host`, best first. The `seconds` begin when a thread does: that there was none says nothing of
    the name. Raises OSError, TimeoutError among them, and UnicodeError for what can be no name."""
    token, scope = trio.lowlevel.current_trio_token(), trio.CancelScope()

    def begin() -> None:
        scope.deadline = trio.current_time() + seconds

    def ask() -> list[str]:
        token.run_sync_soon(begin)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    with scope:
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=_resolvers)
    raise TimeoutError


class Guard(httpcore2.AsyncNetworkBackend):
    """Makes the connections of a pool. `exceptions` ("host" or "host:port") may lie anywhere; with `trusted`
    everything may."""

    def __init__(self, exceptions: Collection[str] = (), trusted: bool = False) -> None:
        self._exceptions = frozenset(each.lower() for each in exceptions)
        self._trusted = trusted
        self._sockets = httpcore2.TrioBackend()
        self._dead: OrderedDict[str, tuple[float, str, str]] = OrderedDict()

    def excepts(self, host: str, port: int) -> bool:
        """Whether this place may lie at any address."""
        return self._trusted or not self._exceptions.isdisjoint(places(host, port))

    async def check(self, host: str, port: int, seconds: float = LOOKUP_SECONDS) -> list[str]:
        """The addresses that `host` may be reached at, found out in so many `seconds`.

        Raises ImageError "bad-address" when one of them is not public, ImageUnavailable when there are none.
        """
        excepted = self.excepts(host, port)
        if not excepted and port not in PORTS:
            raise ImageError("bad-address", "The address names a port that is not the web's.")
        found = await self._addresses(host, port, seconds)
        if not excepted and not _all_public(found):
            raise ImageError("bad-address", "The address leads to a machine that is not on the public internet.")
        return found

    async def _addresses(self, host: str, port: int, seconds: float) -> list[str]:
        until, code, reason = self._dead.get(host, (-math.inf, "", ""))
        if trio.current_time() < until:
            raise ImageUnavailable(code, reason)
        try:
            return await lookup(host, port, seconds)
        except UnicodeError as error:
            raise ImageError("bad-address", "The address names no host.") from error
        except TimeoutError as error:
            raise self._failed(host, "timeout", "The host's name was not answered for in time.") from error
        except OSError as error:
            raise self._failed(host, "unreachable", "The host's name is not known here.") from error

    def _failed(self, host: str, code: str, reason: str) -> ImageUnavailable:
        """What is said of a name that leads nowhere, now and for a while."""
        self._dead[host] = (trio.current_time() + DEAD_SECONDS, code, reason)
        self._dead.move_to_end(host)
        if len(self._dead) > MOST_DEAD:
            self._dead.popitem(last=False)
        return ImageUnavailable(code, reason)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to a checked address of `host`; `timeout` bounds the question for its name, and then the wait
        for the connection. Raises what `check` raises, and httpcore2.ConnectError."""
        found = await self.check(host.strip("[]"), port, timeout if timeout is not None else LOOKUP_SECONDS)
        with trio.move_on_after(timeout if timeout is not None else 60.0) as scope:
            return await self._first(found[:MOST_ADDRESSES], port, socket_options)
        assert scope.cancelled_caught
        raise httpcore2.ConnectTimeout("the host did not answer")

    async def sleep(self, seconds: float) -> None:
        """Between two tries of a pool that tries again."""
        await trio.sleep(seconds)

    async def _first(
        self, addresses: Sequence[str], port: int, options: Iterable[httpcore2.SOCKET_OPTION] | None
    ) -> httpcore2.AsyncNetworkStream:
        """The first connection that comes about; each address begins a little after the one before it, or as soon as
        that failed."""
        if len(addresses) == 1:
            return await self._sockets.connect_tcp(addresses[0], port, socket_options=options)
        made: list[httpcore2.AsyncNetworkStream] = []
        kept = None
        try:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    failed = trio.Event()
                    nursery.start_soon(self._try, address, port, options, made, failed, nursery.cancel_scope)
                    with trio.move_on_after(NEXT_AFTER):
                        await failed.wait()
            kept = next(iter(made), None)
        finally:
            with trio.CancelScope(shield=True):
                for late in made:
                    if late is not kept:
                        await late.aclose()
        if kept is None:
            raise httpcore2.ConnectError("no address of the host answered")
        return kept

    async def _try(
        self,
        address: str,
        port: int,
        options: Iterable[httpcore2.SOCKET_OPTION] | None,
        made: list[httpcore2.AsyncNetworkStream],
        failed: trio.Event,
        others: trio.CancelScope,
    ) -> None:
        try:
            made.append(await self._sockets.connect_tcp(address, port, socket_options=options))
        except httpcore2.ConnectError:
            failed.set()
        else:
            others.cancel()


def places(host: str, port: int) -> tuple[str, ...]:
    """The ways in which an exception may name this place."""
    host = host.lower().strip("[]")
    bracketed = f"[{host}]" if ":" in host else host
    return (host, bracketed, f"{bracketed}:{port}")


def _all_public(addresses: Sequence[str]) -> bool:
    return bool(addresses) and all(is_public(ip_address(each.partition("%")[0])) for each in addresses)
