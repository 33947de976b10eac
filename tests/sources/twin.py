"""`Files` over a folder, in memory of what was asked: tests say how many bytes a reader may move."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from p2pcap.errors import SourceGone
from p2pcap.sources.files import Reserve
from p2pcap.sources.locations import DataFile, Location
from p2pcap.sources.room import Room

PART = 1024 * 1024


class TwinFiles:
    """The files of a folder, named by DataFile locations. `moved` counts bytes, `asked` lists (path, start, length)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moved = 0
        self.asked: list[tuple[str, int, int]] = []
        self.room = Room()

    async def size(self, location: Location) -> int:
        return self._path(location).stat().st_size

    async def read(self, location: Location, start: int, length: int) -> bytes:
        self.asked.append((str(location), start, length))
        with self._path(location).open("rb") as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise SourceGone("The file is shorter than was planned.")
        self.moved += length
        return data

    async def save(self, location: Location, start: int, length: int, file: BinaryIO) -> None:
        file.write(await self.read(location, start, length))

    @asynccontextmanager
    async def stream(self, location: Location, start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        data = await self.read(location, start, length)

        async def parts() -> AsyncGenerator[bytes, None]:
            for at in range(0, len(data), PART):
                yield data[at : at + PART]

        async with aclosing(parts()) as found:
            yield found

    async def image(self, location: Location, limit: int, reserve: Reserve | None = None) -> bytes:
        return await self.read(location, 0, await self.size(location))

    def _path(self, location: Location) -> Path:
        assert isinstance(location, DataFile)
        path = self.folder / location.path
        if not path.is_file():
            raise SourceGone("The file is not there any more.")
        return path
