"""Images that each have an address of their own: on the web, or a file on the Hub.

The hosts of a chunk take turns, so that one slow host does not keep the others waiting.

Always holds: one image's failure stops no other; no more than ROOM bytes of images are in memory, on their way or
waiting for whoever takes them.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import trio
from msgspec import UNSET

from p2pcap.errors import ImageError, ImageUnavailable, SourceError
from p2pcap.project.items import Item
from p2pcap.project.records import FetchRules
from p2pcap.sources.files import Files
from p2pcap.sources.locations import Location, WebFile, parse

IN_HAND = 128
"""Images asked for at one time. Fewer are on their way at once: hosts have their limits, and so have all together."""

ROOM = 128 * 1024 * 1024
"""Bytes of images in memory."""

BLANK = frozenset({"", "none", "null", "nan", "n/a"})
"""What datasets write where there is no address, in lower case."""

Put = Callable[[int, bytes | ImageError], Awaitable[None]]
Found = tuple[int, bytes | ImageError]


class Room:
    """The memory that images may take. New ones begin only while half of it is free, so that those on their way find
    room and their servers need not wait for us."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._freed = trio.Event()

    async def begin(self) -> None:
        """Wait until half of the room is free."""
        while self._taken > self._size // 2:
            await self._freed.wait()

    async def take(self, size: int) -> None:
        """Wait for `size` bytes. More than all of it is given once the room is empty."""
        while self._taken and self._taken + size > self._size:
            await self._freed.wait()
        self._taken += size

    def give_back(self, size: int) -> None:
        """What was taken is free again."""
        self._taken -= size
        self._freed.set()
        self._freed = trio.Event()


class Share:
    """What one image takes of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0

    async def take(self, size: int) -> None:
        """Take `size` bytes in place of what was taken before: at once when it is less. Nothing is held while more is
        waited for, or two might wait for each other."""
        if size <= self._taken:
            self._room.give_back(self._taken - size)
        else:
            self.give_back()
            await self._room.take(size)
        self._taken = size

    def give_back(self) -> None:
        """Nothing is taken any more."""
        self._room.give_back(self._taken)
        self._taken = 0


async def read(files: Files, wanted: Mapping[int, Item], rules: FetchRules, put: Put) -> None:
    """Give `put` each wanted image, by its place, in the order in which they come; one call at a time.

    Raises SourceDenied and SourceError when this machine cannot read what the addresses name.
    """
    reading = _Reading(files, rules.image)
    places: dict[int, Location] = {}
    for place, item in wanted.items():
        try:
            places[place] = _location(item)
        except ImageError as error:
            await put(place, error)
    await reading.run(in_turn(places), put)


class _Reading:
    """One call of `read`. `fault` is the first error that ends all of it."""

    def __init__(self, files: Files, limit: int) -> None:
        self._files = files
        self._limit = limit
        self._room = Room(ROOM)
        self._fault: BaseException | None = None

    async def run(self, places: Iterable[tuple[int, Location]], put: Put) -> None:
        """Fetch all of `places`. An error of `put`, or of a source, is raised as it is and not in a group."""
        slots, turn = trio.Semaphore(IN_HAND), trio.Lock()
        async with trio.open_nursery() as nursery:
            for place, location in places:
                await slots.acquire()
                await self._room.begin()
                nursery.start_soon(self._one, place, location, put, turn, slots, nursery.cancel_scope)
        if self._fault is not None:
            raise self._fault

    async def _one(
        self,
        place: int,
        location: Location,
        put: Put,
        turn: trio.Lock,
        slots: trio.Semaphore,
        all_of_it: trio.CancelScope,
    ) -> None:
        share = Share(self._room)
        try:
            image = await self._image(location, share)
            async with turn:
                await put(place, image)
        except Exception as error:  # noqa: BLE001 - raised again by `run`, alone as the caller expects it
            self._fault = self._fault or error
            all_of_it.cancel()
        finally:
            share.give_back()
            slots.release()

    async def _image(self, location: Location, share: Share) -> bytes | ImageError:
        try:
            image = await self._files.image(location, self._limit, share.take)
        except ImageError as error:
            return error
        await share.take(len(image))
        return image


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


def in_turn(places: Mapping[int, Location]) -> Iterator[tuple[int, Location]]:
    """The places so that each host comes up once in every round."""
    hosts: dict[str, list[tuple[int, Location]]] = {}
    for place, location in places.items():
        hosts.setdefault(location.host if isinstance(location, WebFile) else "", []).append((place, location))
    waiting = deque(deque(found) for found in hosts.values())
    while waiting:
        host = waiting.popleft()
        yield host.popleft()
        if host:
            waiting.append(host)
