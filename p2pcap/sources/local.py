"""A project's images that lie in a folder on this machine, by hash: the maintainer's, a seeder's, a volunteer's own.

An item list says where the maintainer has an image: a file of the folder, a part of a tar, a cell of a Parquet file.
Whoever has the same folder finds it at the same place. Which places there are is noted in a small database
(p2pcap.sources.local_index), so that the images of the largest project take no memory.

Always holds: the folder is only read, and nothing outside it is named by a list; what `read` returns has the hash it
was asked for, whatever the folder holds by now.
"""

import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog
import trio
from msgspec import UNSET

from p2pcap.errors import ImageError, ImageUnavailable, SourceError, StoreError
from p2pcap.project.items import MAX_IMAGE, Item, ItemList
from p2pcap.project.records import FetchRules
from p2pcap.sources.cache import ImageCache
from p2pcap.sources.files import Files
from p2pcap.sources.local_index import Known, LocalIndex
from p2pcap.sources.locations import FILE, DataFile, parse
from p2pcap.sources.reading import read_images

Lists = Callable[[int], Awaitable[ItemList]]
"""The item list of a chunk."""

STRETCH = 128 * 1024 * 1024
"""Bytes of images, about, that are taken out of a Parquet file together and kept in the cache: who asks for one of them
asks for its neighbours next."""

REST = 60.0
"""Seconds for which the images of a chunk are looked for elsewhere after its file could not be read here."""

log = structlog.get_logger()


class LocalImages:
    """The images of one project in one folder. Made by `open`; `run` looks for them, and ends by closing the note."""

    def __init__(self, index: LocalIndex, data: Path, lists: Lists, cache: ImageCache, scratch: Path) -> None:
        self._index = index
        self._data = data
        self._lists = lists
        self._cache = cache
        self._scratch = scratch
        self._files: Files | None = None
        self._resting: dict[int, float] = {}
        self._taking_out = trio.Lock()

    @classmethod
    def open(
        cls, database: Path, data: Path, plan: bytes, lists: Lists, cache: ImageCache, scratch: Path
    ) -> "LocalImages":
        """The images of the project whose plan has this hash in the folder `data`.

        `database` is the note of them, made if need be; `lists` gives the project's item lists. Images from Parquet
        files pass through `cache`, and through files below `scratch`. Raises StoreError.
        """
        return cls(LocalIndex(database, os.fsencode(data.absolute()), plan), data, lists, cache, scratch)

    def close(self) -> None:
        """Close the note of what was found."""
        self._index.close()

    def __len__(self) -> int:
        """Images that were there, by name and size, when they were looked for."""
        return self._index.images

    def __contains__(self, hash_: object) -> bool:
        return isinstance(hash_, bytes) and bool(self._places(hash_))

    def _places(self, hash_: bytes) -> list[tuple[int, int]]:
        """Chunk and place of images that may have this hash, without chunks whose file could not be read just now."""
        now = trio.current_time()
        return [(chunk, place) for chunk, place in self._index.places(hash_) if self._resting.get(chunk, 0.0) <= now]

    async def run(self, files: Files, chunks: int, looked: Callable[[], None]) -> None:
        """Look through the project's `chunks`, call `looked`, and wait until cancelled; `files` reads in the folder.

        Raises StoreError.
        """
        self._files = files
        try:
            await self.look(range(chunks))
            looked()
            await trio.sleep_forever()
        finally:
            self.close()

    async def look(self, chunks: Iterable[int]) -> None:
        """Note which images of these chunks are there by name and size; what was found before is not looked for again.

        Waits for the item lists. Raises StoreError.
        """
        for chunk in chunks:
            if not await trio.to_thread.run_sync(self._index.is_whole, chunk):
                found = await self._lists(chunk)
                await trio.to_thread.run_sync(self._note, chunk, found)

    def _note(self, chunk: int, found: ItemList) -> None:
        known = [(item.hash, place) for place, item in enumerate(found.items) if item.hash]
        if found.file:
            here = known if self._has(found.file.file, found.file.size) else []
        else:
            here = [one for one in known if self._has(_place(found.items[one[1]]), found.items[one[1]].length)]
        places = {place for _, place in here}
        self._index.note(chunk, here, [one for one in known if one[1] not in places])

    def _has(self, location: str, size: int) -> bool:
        path = self._path(location) if location else None
        try:
            return path is not None and os.stat(path).st_size == size
        except OSError:
            return False

    def _path(self, location: str) -> Path | None:
        """The file in the folder that a list names; None when it is elsewhere, or named badly."""
        try:
            place = parse(location)
        except SourceError:
            return None
        return self._data / place.path if isinstance(place, DataFile) else None

    async def read(self, hash_: bytes) -> bytes | None:
        """The image's bytes; None when the folder never had it, or has no longer what it had: then it is forgotten.

        Raises StoreError.
        """
        for chunk, place in self._places(hash_):
            found = await self._lists(chunk)
            if place < len(found.items) and found.items[place].hash == hash_:
                try:
                    image = await self._image(chunk, found, place)
                except SourceError as error:
                    log.warning("a local image cannot be read", reason=str(error))
                    self._rest(chunk)
                    continue
                if image is not None:
                    return image
                await trio.to_thread.run_sync(self._index.forget, chunk, [(hash_, place)])
        return None

    def _rest(self, chunk: int) -> None:
        """Look elsewhere for the images of this chunk for a while."""
        now = trio.current_time()
        self._resting = {other: until for other, until in self._resting.items() if until > now}
        self._resting[chunk] = now + REST

    async def _image(self, chunk: int, found: ItemList, place: int) -> bytes | None:
        item = found.items[place]
        if found.parquet is not UNSET or found.stream is not UNSET:
            kept = await trio.to_thread.run_sync(self._cache.get, item.hash)
            return kept if kept is not None else await self._take_out(chunk, found, place)
        path = self._path(found.tar.file if found.tar is not UNSET else _place(item))
        start = item.at if found.tar is not UNSET and item.at is not UNSET else 0
        return await trio.to_thread.run_sync(read_part, path, start, item.length, item.hash) if path else None

    async def _take_out(self, chunk: int, found: ItemList, place: int) -> bytes | None:
        """An image that has to be taken out of its file, together with those around it. Raises SourceError."""
        if self._files is None:
            raise SourceError("The local folder is not open yet. Ask again soon.")
        image: bytes | None = None
        gone: list[Known] = []

        async def put(at: int, got: bytes | ImageError) -> None:
            nonlocal image
            hash_ = found.items[at].hash
            if isinstance(got, bytes):
                await self._keep(hash_, got)
                image = got if at == place else image
            elif not isinstance(got, ImageUnavailable):
                gone.append((hash_, at))

        async with self._taking_out:
            kept = await trio.to_thread.run_sync(self._cache.get, found.items[place].hash)
            if kept is not None:
                return kept
            around = stretch(found.items, place)
            await trio.to_thread.run_sync(_make, self._scratch)
            await read_images(self._files, found, around, FetchRules(), self._scratch, put)
            await trio.to_thread.run_sync(self._index.forget, chunk, gone)
        return image

    async def _keep(self, hash_: bytes, data: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self._cache.put_many, [(hash_, data)])
        except StoreError as error:
            raise SourceError(str(error)) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"{folder} cannot be made: {error.strerror}. Make room there.") from error


def _place(item: Item) -> str:
    """Where an image is that is a file of the folder; empty for one that is read elsewhere."""
    return f"{FILE}{item.key}" if item.url is UNSET else ""


def stretch(items: Iterable[Item], place: int) -> list[int]:
    """The places, with `place` among them, whose images are taken out together: STRETCH bytes of them, and always the
    same ones together, so that none is taken out twice."""
    places: list[int] = []
    size = 0
    for at, item in enumerate(items):
        if size > STRETCH:
            if at > place:
                break
            places, size = [], 0
        size += item.length
        places += [at] if item.hash else []
    return places


def read_part(path: Path, start: int, length: int, hash_: bytes) -> bytes | None:
    """`length` bytes of a file from `start`, if they have that hash."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not be waited for
        with open(descriptor, "rb", buffering=0) as file:
            if length > MAX_IMAGE or not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = os.pread(file.fileno(), length, start)
    except (OSError, ValueError):
        return None
    return data if hashlib.sha256(data).digest() == hash_ else None
