"""Peers behind DNS names.

`/dnsaddr/HOST` stands for whatever addresses the TXT records at `_dnsaddr.HOST` list (libp2p's "dnsaddr" spec), so a
project can move its coordinator without a new ticket. `/dns4`, `/dns6` and `/dns` stand for a host's IP addresses; they
are asked from the operating system, which knows /etc/hosts and the local network too.

Always holds: whatever a name server says, one name costs at most MAX_LOOKUPS questions, MAX_RESULTS addresses and
NAME_SECONDS.
"""

import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import structlog
import trio
from dns.rdtypes.ANY.TXT import TXT

from p2pcap.errors import SwarmError, Unreachable
from p2pcap.identity import public_of
from p2pcap.swarm.addresses import MAX_LENGTH, Endpoint, parse_endpoints

PREFIX = "/dnsaddr/"
MAX_NAMES = 16
MAX_DEPTH = 4
MAX_LOOKUPS = 16
MAX_RESULTS = 32
MAX_HOSTS = 8
"""IP addresses of one host that are dialled."""

QUESTION_SECONDS = 5.0
NAME_SECONDS = 20.0
REFRESH_AT_LEAST = 60.0
REFRESH_AT_MOST = 600.0
RETRY_AFTER = 5.0
"""Wait after a name that could not be resolved; doubles with each further failure, up to REFRESH_AT_MOST."""
DIAL_AT_LEAST = 2.0
"""Seconds that one of several IP addresses gets to answer."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_SHAPE = re.compile(rf"/dnsaddr/({_LABEL}(?:\.{_LABEL})*)\.?(?:/p2p/([0-9A-Za-z]+))?")

log = structlog.get_logger(__name__)

Hear = Callable[[str, Sequence[Endpoint]], None]


@dataclass(frozen=True)
class Name:
    """`/dnsaddr/HOST`, and the peer that is meant if one was named."""

    host: str
    peer: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.host}" + (f"/p2p/{self.peer}" if self.peer else "")


@dataclass(frozen=True)
class Texts:
    """The TXT records of a name, each joined to one text; `ttl` in seconds."""

    texts: tuple[str, ...]
    ttl: float


Lookup = Callable[[str], Awaitable[Texts]]
"""Asks for the TXT records of a DNS name. Raises Unreachable."""


def is_name(text: str) -> bool:
    """Whether this is meant to be a /dnsaddr/ address."""
    return text.startswith(PREFIX)


def parse_name(text: str) -> Name:
    """/dnsaddr/HOST or /dnsaddr/HOST/p2p/ID. Raises SwarmError."""
    match = _SHAPE.fullmatch(text) if len(text) <= MAX_LENGTH else None
    try:
        if match is None or len(match[1]) > 240:  # with "_dnsaddr." before it, and 253 in all
            raise ValueError
        if match[2] is not None:
            public_of(match[2])
    except ValueError as error:
        form = "/dnsaddr/example.org or /dnsaddr/example.org/p2p/12D3KooW…"
        raise SwarmError(f"{text[:MAX_LENGTH]!r} is not a DNS name of peers. Write it like {form}") from error
    return Name(match[1].lower(), match[2])


class Names:
    """Keeps asking what the known names stand for, and hands the addresses to `hear`, with the name as their teller."""

    def __init__(self, hear: Hear, lookup: Lookup | None = None) -> None:
        self._hear = hear
        self._lookup = lookup or ask_txt
        self._names: dict[str, Name] = {}
        self._news = trio.Event()

    def know(self, text: str) -> None:
        """Resolve this name for as long as the node runs. Raises SwarmError when it is none, or one too many."""
        name = parse_name(text)
        if str(name) not in self._names and len(self._names) >= MAX_NAMES:
            raise SwarmError(f"There are {MAX_NAMES} DNS names already. Leave {text} out, or another one.")
        self._names[str(name)] = name
        self._news.set()

    async def run(self) -> None:
        """Resolve for ever, each name in a task of its own."""
        running: set[str] = set()
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                for text in self._names.keys() - running:
                    running.add(text)
                    nursery.start_soon(self._follow, self._names[text])
                await self._news.wait()

    async def _follow(self, name: Name) -> None:
        failures = 0
        while True:
            try:
                found, ttl = await resolve_name(name, self._lookup)
            except Unreachable as error:
                (log.debug if failures else log.warning)("name_unresolved", name=str(name), reason=str(error))
                failures += 1
                await trio.sleep(min(REFRESH_AT_MOST, RETRY_AFTER * 2 ** min(failures - 1, 16)))
            else:
                failures = 0
                log.debug("name_resolved", name=str(name), addresses=len(found))
                self._hear(str(name), found)
                await trio.sleep(min(REFRESH_AT_MOST, max(REFRESH_AT_LEAST, ttl)))


async def resolve_name(name: Name, lookup: Lookup) -> tuple[list[Endpoint], float]:
    """The peers a name stands for, names in its records followed, and for how many seconds that may be kept.

    Raises Unreachable when its own records cannot be had or hold no address of a peer.
    """
    found: dict[Endpoint, None] = {}
    with trio.move_on_after(NAME_SECONDS):
        first = await lookup(f"_dnsaddr.{name.host}")
        await _collect(name, first, lookup, found)
        if found:
            return list(found)[:MAX_RESULTS], first.ttl
        raise Unreachable(f"The records of {name} hold no address of a peer. Ask who gave the name.")
    if not found:
        raise Unreachable(f"The name servers took more than {NAME_SECONDS:g} s for {name}. Check the name.")
    return list(found)[:MAX_RESULTS], REFRESH_AT_LEAST


async def _collect(name: Name, first: Texts, lookup: Lookup, found: dict[Endpoint, None]) -> None:
    """Breadth first, so that what is near the name wins when there is more than the limits allow."""
    asked = {name.host}
    level = [(name, first)]
    for _ in range(MAX_DEPTH):
        deeper = []
        for parent, answer in level:
            for inner in _take(parent, answer.texts, found):
                if inner.host not in asked and len(asked) < MAX_LOOKUPS and len(found) < MAX_RESULTS:
                    asked.add(inner.host)
                    deeper.append((inner, await _ask_inner(inner, lookup)))
        level = deeper


async def _ask_inner(name: Name, lookup: Lookup) -> Texts:
    try:
        return await lookup(f"_dnsaddr.{name.host}")
    except Unreachable as error:
        log.debug("name_unresolved", name=str(name), reason=str(error))
        return Texts((), 0.0)


def _take(parent: Name, texts: Sequence[str], found: dict[Endpoint, None]) -> list[Name]:
    """Put a record set's addresses into `found`, and return the names in it; those of other peers are left out."""
    entries = [text.removeprefix("dnsaddr=") for text in texts[:MAX_RESULTS] if text.startswith("dnsaddr=")]
    for endpoint in parse_endpoints(entries, parent.peer):
        found[endpoint] = None
    names = []
    for entry in filter(is_name, entries):
        try:
            inner = parse_name(entry)
        except SwarmError:
            continue
        if parent.peer in (None, inner.peer) or inner.peer is None:
            names.append(Name(inner.host, inner.peer or parent.peer))
    return names


async def ask_txt(host: str, resolver: dns.asyncresolver.Resolver | None = None) -> Texts:
    """The TXT records at `host`, from the name servers of this machine. Raises Unreachable."""
    try:
        asking = resolver or dns.asyncresolver.Resolver()
        backend = dns.asyncbackend.get_backend("trio")
        answer = await asking.resolve(host, "TXT", lifetime=QUESTION_SECONDS, backend=backend)
        records = [record for record in answer if isinstance(record, TXT)][:MAX_RESULTS]
        texts = tuple(b"".join(record.strings).decode("ascii", "replace") for record in records)
        return Texts(texts, float(answer.rrset.ttl if answer.rrset else 0))
    except (dns.exception.DNSException, OSError, UnicodeError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise Unreachable(f"No TXT records of {host}: {reason}. Check the name and this machine's DNS.") from error


async def resolve_host(transport: str) -> list[str]:
    """A /dns…/HOST/tcp/PORT address as one of numbers for each of the host's IP addresses, the families in turn.

    An address of numbers comes back as it is. Raises Unreachable.
    """
    _, family, host, rest = transport.split("/", 3)
    if family not in _FAMILIES:
        return [transport]
    try:
        with trio.fail_after(QUESTION_SECONDS):
            answers = await trio.socket.getaddrinfo(host, None, _FAMILIES[family], socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError) as error:
        reason = getattr(error, "strerror", None) or "the name servers do not answer in time"
        raise Unreachable(f"No address of the host {host}: {reason}. Check the name and this machine's DNS.") from error
    ips = dict.fromkeys((family, str(address[0])) for family, *_, address in answers if "%" not in str(address[0]))
    v4 = [f"/ip4/{ip}/{rest}" for family, ip in ips if family == socket.AF_INET]
    v6 = [f"/ip6/{ip}/{rest}" for family, ip in ips if family == socket.AF_INET6]
    return _in_turn(v6, v4)[:MAX_HOSTS]


_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


def _in_turn(first: Sequence[str], second: Sequence[str]) -> list[str]:
    longer = max(len(first), len(second))
    return [item for n in range(longer) for item in (*first[n : n + 1], *second[n : n + 1])]


async def dial_each(transports: Sequence[str], dial: Callable[[str], Awaitable[None]], seconds: float) -> None:
    """Dial one address after the other until one answers, each for its share of `seconds`. Raises Unreachable."""
    reasons = []
    share = max(DIAL_AT_LEAST, seconds / max(1, len(transports)))
    for transport in transports:
        with trio.move_on_after(share) as scope:
            try:
                return await dial(transport)
            except Unreachable as error:
                reasons.append(str(error))
        if scope.cancelled_caught:
            reasons.append(f"Nobody answered at {transport} within {share:g} s.")
    raise Unreachable(" ".join(reasons) or "The host has no address. Check the name.")
