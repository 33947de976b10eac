"""What sites say of robots: robots.txt (RFC 9309) before an image is asked for, X-Robots-Tag when it comes.

A site's robots.txt is asked for once, kept for a while, and shared by all who wait for it. Only lines about us, or
about everybody, are given to the parser: it spends time and memory on each pair of a robot's name and a rule, so a
stranger's half megabyte could hold the node for hours.

Always holds: the table of sites has a bound, in sites and in rules.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import httpx2
import trio
from protego import Protego

from p2pcap.errors import ImageError, ImageResting, ImageUnavailable
from p2pcap.sources.web.client import AGENT, Client, origin
from p2pcap.sources.web.hosts import Busy
from p2pcap.sources.web.limits import Limits
from p2pcap.sources.web.tries import with_tries

MOST_BYTES = 500 * 1024
"""Of a robots.txt; what follows is not read (RFC 9309, 2.5)."""

MOST_RULES = 4_096
"""Of one site, those about us; what follows is not read. Each is compared with each address."""

MOST_RULE = 512
"""Characters of a rule's path; a longer one is left out."""

MOST_SITES, MOST_KEPT = 2_048, 16_384
"""Sites that are remembered, and rules of all of them together."""

KEEP_SECONDS = 24 * 3_600.0
"""How long a robots.txt is believed (RFC 9309, 2.4)."""

KEEP_FAILURE = 60.0
"""How long it is believed that a site cannot say."""

OPTED_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""What img2dataset heeds by default, and `none`, which includes `noindex`."""

VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""What stands before a colon and is no robot's name."""

LINE = re.compile(r"\s*(user-?agent|allow|disallow)\s*:\s*([^#]*)", re.IGNORECASE)


@dataclass
class Site:
    """What is known of a site until `until`. `fault`: why it cannot be asked for anything; no `rules`: all goes."""

    lock: trio.Lock
    until: float = 0.0
    rules: Protego | None = None
    size: int = 0
    fault: ImageUnavailable | None = None


class Robots:
    """The sites' robots.txt files, fetched by `client`."""

    def __init__(self, client: Client, limits: Limits) -> None:
        self._client = client
        self._limits = limits
        self._sites: OrderedDict[str, Site] = OrderedDict()

    async def check(self, url: httpx2.URL) -> None:
        """Raises ImageError "opted-out" when the site keeps us from this address, ImageUnavailable when it cannot be
        found out, ImageResting when the site is not to be asked now."""
        site = self._site(origin(url))
        if site.until <= trio.current_time():
            async with site.lock:
                if site.until <= trio.current_time():
                    await self._learn(site, url)
        if site.fault is not None:
            raise ImageUnavailable(site.fault.code, "The site's robots.txt cannot be read now.")
        if site.rules is not None and not site.rules.can_fetch(str(url), AGENT):
            raise ImageError("opted-out", "The site's robots.txt keeps robots from this address.")

    async def _learn(self, site: Site, url: httpx2.URL) -> None:
        site.rules, site.size, site.fault = None, 0, None
        keep = KEEP_SECONDS
        try:
            lines = await with_tries(lambda: self._lines(str(url.join("/robots.txt"))), self._limits)
            site.rules, site.size = Protego.parse("\n".join(lines)), len(lines)
        except ImageResting:
            raise  # nothing was learned
        except ImageUnavailable as error:
            site.fault, keep = error, 0.0 if self._will_rest(error) else KEEP_FAILURE
        except ImageError:
            pass  # a site that has none, or does not show it, keeps nobody from anything (RFC 9309, 2.3.1.3)
        site.until = trio.current_time() + keep
        self._make_room(site)

    def _will_rest(self, error: ImageUnavailable) -> bool:
        """Whether the host is left alone from now on; whoever comes next is told so by `client`."""
        return isinstance(error, Busy) and error.after > self._limits.patience

    async def _lines(self, url: str) -> list[str]:
        async with self._client.get(url, longest=self._limits.grace) as answer:
            text = bytearray()
            while len(text) < MOST_BYTES and (part := await answer.next()):
                text += part
        return list(about_us(text[:MOST_BYTES].decode("utf-8", errors="replace").splitlines()))

    def _site(self, name: str) -> Site:
        site = self._sites.setdefault(name, Site(trio.Lock()))
        self._sites.move_to_end(name)
        return site

    def _make_room(self, kept: Site) -> None:
        """Forget the sites that were asked for longest ago. Whoever waits for one of them has it in hand."""
        rules = sum(site.size for site in self._sites.values())
        while self._sites and (len(self._sites) > MOST_SITES or rules > MOST_KEPT):
            name, oldest = next(iter(self._sites.items()))
            if oldest is kept:
                return
            rules -= oldest.size
            del self._sites[name]


def about_us(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a robots.txt that are about us or everybody; names that follow each other share the rules below."""
    rules, ours, in_names = 0, False, False
    for found in filter(None, map(LINE.match, lines)):
        field, value = found[1].lower(), found[2].strip()
        if field.startswith("user"):
            named = value.lower() in (AGENT, "*")
            ours, in_names = named or (ours and in_names), True
            if named:
                yield f"User-agent: {value.lower()}"
            continue
        in_names = False
        if ours and len(value) <= MOST_RULE and rules < MOST_RULES:
            rules += 1
            yield f"{field}: {value}"


def opted_out(tags: Iterable[str]) -> bool:
    """Whether one of the `X-Robots-Tag` header lines keeps us from the image. A name before a colon says whom the rest
    of its line is about."""
    return any(_opts_out(tag) for tag in tags)


def _opts_out(tag: str) -> bool:
    about = "*"
    for rule in tag.lower().split(","):
        name, colon, rest = rule.partition(":")
        if colon and name.strip() not in VALUED:
            about, rule = name.strip(), rest
        if about in ("*", AGENT) and rule.strip() in OPTED_OUT:
            return True
    return False
