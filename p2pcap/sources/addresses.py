"""Images that each have an address of their own: on the web, or a file on the Hub.

The hosts of a chunk take turns, so that one slow host does not keep the others waiting.

Always holds: one image's failure stops no other, nor does an address that this machine may not read, as long as it may
read any; what images have in memory, on their way or waiting for whoever takes them, has a bound (`Files.room`).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import trio
from msgspec import UNSET

from p2pcap.errors import (
    ImageError,
    ImageResting,
    ImageUnavailable,
    SourceDenied,
    SourceError,
    SourceGone,
    SourceUnavailable,
)
from p2pcap.project.items import Item
from p2pcap.project.records import FetchRules
from p2pcap.sources.files import Files
from p2pcap.sources.locations import Location, WebFile, parse
from p2pcap.sources.room import Part, Share

IN_HAND = 128
"""Images asked for at one time. Fewer are on their way at once: hosts have their limits, and so have all together."""

PARSED = 256
"""Addresses that are looked at until other tasks get a turn."""

REFUSED_SECONDS = 600.0
"""How long an image that this machine may not read is left to others."""

BLANK = frozenset({"", "none", "null", "nan", "n/a"})
"""What datasets write where there is no address, in lower case."""

Hosts = dict[str, list[tuple[int, Location]]]
"""Places by the hosts that have them; what is on no web server is one host."""

Put = Callable[[int, bytes | ImageError], Awaitable[None]]


async def read(files: Files, wanted: Mapping[int, Item], rules: FetchRules, put: Put) -> None:
    """Give `put` each wanted image, by its place, in the order in which they come; one call at a time.

    Raises SourceDenied when this machine may read none of what the addresses name, and SourceError when it cannot; what
    `put` was not given by then may be asked for again.
    """
    hosts: Hosts = {}
    for count, (place, item) in enumerate(wanted.items()):
        if count % PARSED == 0:
            await trio.lowlevel.checkpoint()
        try:
            location = _location(item)
        except ImageError as error:
            await put(place, error)
        else:
            hosts.setdefault(_host(location), []).append((place, location))
    with files.room.open() as part:
        await _Reading(files, rules.image, part, put).run(in_turn(hosts))


class _Reading:
    """One call of `read`. `fault` is the first error that ends all of it; `refused` are the places that this machine
    may not read, until it is known that there are others."""

    def __init__(self, files: Files, limit: int, part: Part, put: Put) -> None:
        self._files = files
        self._limit = limit
        self._part = part
        self._put = put
        self._turn = trio.Lock()
        self._slots = trio.Semaphore(IN_HAND)
        self._refused: list[int] = []
        self._all_refused = True
        self._refusal: SourceDenied | None = None
        self._fault: BaseException | None = None

    async def run(self, places: Iterable[tuple[int, Location]]) -> None:
        """Fetch all of `places`. An error of `put`, or of a source, is raised as it is and not in a group."""
        async with trio.open_nursery() as nursery:
            for place, location in places:
                await self._slots.acquire()
                await self._part.begin()
                nursery.start_soon(self._one, place, location, nursery.cancel_scope)
        if self._fault is not None:
            raise self._fault
        if self._refused and self._refusal is not None:
            raise self._refusal

    async def _one(self, place: int, location: Location, all_of_it: trio.CancelScope) -> None:
        share = Share(self._part)
        try:
            image = await self._image(location, share)
            share.keep(len(image) if isinstance(image, bytes) else 0)
            async with self._turn:
                await self._give(place, image)
        except Exception as error:  # noqa: BLE001 - raised again by `run`, alone as the caller expects it
            self._fault = self._fault or error
            all_of_it.cancel()
        finally:
            share.keep(0)
            self._slots.release()

    async def _image(self, location: Location, share: Share) -> bytes | ImageError | SourceDenied:
        try:
            return await self._files.image(location, self._limit, share.take)
        except (ImageError, SourceDenied) as error:
            return error
        except SourceGone as error:
            return ImageError("gone", str(error))
        except SourceUnavailable as error:
            return ImageUnavailable("unavailable", str(error))

    async def _give(self, place: int, image: bytes | ImageError | SourceDenied) -> None:
        """To `put`; but nothing is said of what is refused while all is."""
        if isinstance(image, SourceDenied):
            self._refusal = self._refusal or image
            self._refused.append(place)
        else:
            self._all_refused = False
            await self._put(place, image)
        while self._refused and not self._all_refused:
            reason = "This volunteer may not read the image; another one may."
            await self._put(self._refused.pop(), ImageResting("unavailable", reason, REFUSED_SECONDS))


def _location(item: Item) -> Location:
    """Where the image is. Raises ImageError."""
    if item.url is UNSET:
        raise ImageUnavailable("unavailable", "No peer has the image, and it has no address.")
    if item.url.strip().lower() in BLANK:
        raise ImageError("bad-address", "The dataset has no address for the image.")
    try:
        return parse(item.url.strip())
    except SourceError as error:
        raise ImageError("bad-address", "The address is none of the web's or of the Hub's.") from error


def _host(location: Location) -> str:
    return location.host if isinstance(location, WebFile) else ""


def in_turn(hosts: Hosts) -> Iterator[tuple[int, Location]]:
    """All places so that each host comes up once in every round."""
    waiting = deque(deque(found) for found in hosts.values())
    while waiting:
        host = waiting.popleft()
        yield host.popleft()
        if host:
            waiting.append(host)
