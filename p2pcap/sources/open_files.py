"""Files where they really are: the data folder, the Hub, the web.

Always holds: each file is read by the rules of the place where it is, and what goes wrong there leaves this module as
one of the errors that `Files` promises. Their messages name no address: they travel in signed rows.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import httpx2
import trio

from p2pcap.errors import ImageError, ImageUnavailable, SourceDenied, SourceError, SourceGone, SourceUnavailable
from p2pcap.project.records import FetchRules
from p2pcap.sources.data_folder import DataFolder
from p2pcap.sources.files import MAX_PART, Files, Reserve
from p2pcap.sources.locations import DataFile, HubFile, Location, WebFile
from p2pcap.sources.room import Room
from p2pcap.sources.web.client import Client, port_of
from p2pcap.sources.web.guard import Guard, places
from p2pcap.sources.web.hosts import Hosts
from p2pcap.sources.web.hub import Hub, endpoint, place_of
from p2pcap.sources.web.images import read_image
from p2pcap.sources.web.limits import FETCHES, Limits
from p2pcap.sources.web.ranges import Get, read_range, size_of
from p2pcap.sources.web.robots import Robots, opted_out
from p2pcap.sources.web.transport import Transport, Truncated
from p2pcap.sources.web.tries import with_tries

DEFAULT_LIMITS = Limits()

WRITE = 1024 * 1024
"""Bytes that are written to disk at one time."""

GONE, DENIED = ("gone", "changed"), ("refused", "bad-address")
"""The codes of what is not there, and of what this machine does not get."""


@dataclass(frozen=True)
class Access:
    """What this machine may read. `private_hosts`: whether the hosts that the maintainer names may lie in private
    networks; `trusted`: this is the maintainer's own machine, and every address is his own choice; `follow_symlinks`:
    links in the data folder may lead out of it."""

    rules: FetchRules
    private_hosts: bool = True
    trusted: bool = False
    follow_symlinks: bool = False


@asynccontextmanager
async def open_files(data: Path | None, access: Access, limits: Limits = DEFAULT_LIMITS) -> AsyncIterator[Files]:
    """The files, as long as the block lasts. `data` is the folder of the locations that say `file:`, if there is one.

    Raises SourceError when the environment names a Hub or a proxy that cannot be used.
    """
    base, everywhere = endpoint(), trio.CapacityLimiter(FETCHES)
    guard = Guard(access.rules.hosts if access.private_hosts else (), access.trusted)
    hub_guard = Guard((place_of(base),), access.trusted)
    hosts, hub_hosts = Hosts(limits, everywhere, guard.excepts), Hosts(limits, everywhere, lambda *_: True)
    async with (
        Client(Transport(guard), hosts, limits) as web,
        Client(Transport(hub_guard, unknown_names=True), hub_hosts, limits) as hub,
    ):
        yield OpenFiles(DataFolder(data, access.follow_symlinks), web, Hub(hub, base), access, limits)


class OpenFiles:
    """`Files` over a data folder, the web, and the Hub."""

    def __init__(self, folder: DataFolder, web: Client, hub: Hub, access: Access, limits: Limits) -> None:
        self._folder = folder
        self._web = web
        self._hub = hub
        self._access = access
        self._limits = limits
        self._robots = Robots(web, limits)
        self.room = Room()

    async def size(self, location: Location) -> int:
        """As `Files.size`."""
        if isinstance(location, DataFile):
            return await self._folder.size(location)
        with _as_source():
            return await size_of(self._get(location), self._limits)

    async def read(self, location: Location, start: int, length: int) -> bytes:
        """As `Files.read`."""
        if length > MAX_PART:
            raise SourceError(f"A part of a file has {length} bytes, and is read whole only up to {MAX_PART}.")
        async with self.stream(location, start, length) as parts:
            return b"".join([part async for part in parts])

    async def save(self, location: Location, start: int, length: int, file: BinaryIO) -> None:
        """As `Files.save`."""
        waiting = bytearray()
        async with self.stream(location, start, length) as parts:
            async for part in parts:
                waiting += part
                if len(waiting) >= WRITE:
                    await trio.to_thread.run_sync(_write, file, bytes(waiting))
                    waiting.clear()
        await trio.to_thread.run_sync(_write, file, bytes(waiting))

    @asynccontextmanager
    async def stream(self, location: Location, start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `Files.stream`."""
        async with aclosing(self._parts(location, start, length)) as parts:
            yield parts

    async def image(self, location: Location, limit: int, reserve: Reserve | None = None) -> bytes:
        """As `Files.image`."""
        if isinstance(location, DataFile):
            return await self._folder.image(location, limit, reserve)
        try:
            return await with_tries(partial(self._image, location, limit, reserve), self._limits)
        except Truncated as error:
            raise ImageError(error.code, error.reason) from error

    async def _image(self, location: HubFile | WebFile, limit: int, reserve: Reserve | None) -> bytes:
        if isinstance(location, HubFile):
            return await self._hub_image(location, limit, reserve)
        return await self._web_image(location, limit, reserve)

    async def _hub_image(self, file: HubFile, limit: int, reserve: Reserve | None) -> bytes:
        async with self._hub.get(file, {}) as answer:
            return await read_image(answer, limit, reserve)

    async def _web_image(self, file: WebFile, limit: int, reserve: Reserve | None) -> bytes:
        async with self._web.get(file.url, check=self._check_image, longest=self._limits.image) as answer:
            if self._access.rules.robots and opted_out(answer.headers.get_list("X-Robots-Tag")):
                raise ImageError("opted-out", "The site's X-Robots-Tag keeps robots from the image.")
            return await read_image(answer, limit, reserve)

    def _parts(self, location: Location, start: int, length: int) -> AsyncGenerator[bytes, None]:
        if isinstance(location, DataFile):
            return self._folder.parts(location, start, length)
        return _with_our_errors(read_range(self._get(location), start, length, self._limits))

    def _get(self, file: HubFile | WebFile) -> Get:
        if isinstance(file, HubFile):
            return partial(self._hub.get, file)
        return partial(self._web.get, file.url, check=self._check)

    async def _check(self, url: httpx2.URL) -> None:
        """Raises SourceDenied for a host that this volunteer will not go to: another one may."""
        refused = () if self._access.private_hosts else self._access.rules.hosts
        if not {each.lower() for each in refused}.isdisjoint(places(url.host, port_of(url))):
            raise SourceDenied("The images lie in a private network that this node was told to keep out of.")

    async def _check_image(self, url: httpx2.URL) -> None:
        await self._check(url)
        if self._access.rules.robots:
            await self._robots.check(url)


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise SourceError(f"What is read cannot be kept on disk: {error.strerror}. Free some space.") from error


async def _with_our_errors(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    with _as_source():
        async with aclosing(parts):
            async for part in parts:
                yield part


@contextmanager
def _as_source() -> Iterator[None]:
    """What the network says of a file that holds many images."""
    try:
        yield
    except ImageUnavailable as error:
        raise SourceUnavailable(f"The file cannot be read now. {error.reason}") from error
    except ImageError as error:
        if error.code in GONE:
            raise SourceGone(f"The file is not as it was planned. {error.reason}") from error
        if error.code in DENIED:
            raise SourceDenied(f"This machine does not get the file. {error.reason}") from error
        raise SourceUnavailable(f"The file cannot be read. {error.reason}") from error
