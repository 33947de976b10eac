"""Images in files that the library `datasets` reads without running code of the dataset's: arrow, zip, packed tar.

Such a file has no index, so it is read from its beginning, and for that it is downloaded whole, also for a chunk that
is a part of it. The library runs in a process of its own (`p2pcap.sources.stream_child`).

Always holds: the file lies below `scratch` while it is read and no longer; an example's number is its place in the
stream of the library, which has one order.
"""

import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import msgspec
import trio
from msgspec import UNSET

from p2pcap.errors import ConfigError, ImageError, SourceError, SourceGone, SourceUnavailable
from p2pcap.project.items import Item, ItemList, StreamRows
from p2pcap.sources.child import ChildFailed, ChildSlow, Limits
from p2pcap.sources.columns import Column, field_columns, image_column, item_key, key_column
from p2pcap.sources.files import Files
from p2pcap.sources.locations import Location, WebFile, parse
from p2pcap.sources.spare import Lent, lent_child
from p2pcap.sources.spec import Images
from p2pcap.sources.stream_frames import (
    MAX_FRAME,
    Answer,
    Done,
    Fault,
    Faulty,
    Open,
    Opened,
    Picture,
    Read,
    Scan,
    Seen,
    answers,
    encode,
)

Put = Callable[[int, bytes | ImageError], Awaitable[None]]

SUFFIXES = {
    ".arrow": "arrow",
    ".parquet": "parquet",
    ".zip": "imagefolder",
    ".tar": "webdataset",
    ".tar.gz": "webdataset",
    ".tgz": "webdataset",
    ".tar.bz2": "webdataset",
    ".tar.xz": "webdataset",
}
"""The library's builder for a file, by the end of its name."""

ENDINGS = {"arrow": ".arrow", "imagefolder": ".zip", "parquet": ".parquet", "webdataset": ".tar"}
"""How the library wants the file to be called; of a tar it finds out itself how it is packed."""

LIMITS = Limits(memory=4 * 1024**3, cpu=4 * 3_600, file=16 * 1024**2)
"""Of the process; the library writes no more than empty lock files."""

SECONDS, LIFE_SECONDS = 60.0, 5.0
"""How long the process may take from one example to the next (it starts in three), and after what time it says that
examples pass which are not wanted."""

LIST_TEXT = 16 * 1024 * 1024
"""Bytes of text in one list, about; a list with more is ended early."""


MARGIN = 128 * 1024 * 1024
"""Bytes of the disk that stay free beside a file: the node has a database on it."""

_turns: WeakKeyDictionary[Files, trio.Lock] = WeakKeyDictionary()
"""One file at a time is kept on disk whole; two would take each other's room."""


def builders(path: str) -> str | None:
    """The builder of the library that reads a file of that name; None when none does."""
    name = PurePosixPath(path).name.lower()
    return next((builder for suffix, builder in SUFFIXES.items() if name.endswith(suffix)), None)


class Unreadable(SourceError):
    """The library cannot read the file, or not further."""


async def plan(files: Files, location: Location, images: Images, size: int) -> AsyncGenerator[ItemList, None]:
    """The images of one file in lists of at most `size`, each with its hash: the whole file is read.

    Examples without an image are left out. Raises ConfigError for a column that is not there and for a file without
    images of its own, SourceError for a file that the library cannot read.
    """
    length, builder = await files.size(location), builders(_name(location))
    if builder is None:
        raise ConfigError(f"{location} has no ending of a file that can be streamed: {', '.join(SUFFIXES)}. Rename it.")
    try:
        async with _opened(files, location, length, builder, Path(tempfile.gettempdir())) as (lent, columns):
            scan = _scan(columns, builder, images)
            lists = _Lists(location, StreamRows(str(location), length, builder, scan.column), size)
            await lent.child.send(encode(scan))
            while not isinstance(answer := await _answer(lent), Done):
                if isinstance(answer, Seen) and (full := lists.add(answer)):
                    yield full
            if last := lists.end():
                yield last
    except (ChildFailed, ChildSlow, Unreadable) as error:
        reason = str(error).rstrip(".")
        raise SourceError(f"{location} cannot be read as {builder}: {reason}. Leave it out, or mend it.") from error


def _scan(columns: Sequence[Column], builder: str, images: Images) -> Scan:
    """What to look for. Members of an archive are named by their paths there. Raises ConfigError."""
    by_path = builder == "imagefolder" and not images.key_column
    key = None if by_path else key_column(columns, images)
    fields = tuple(column.name for column in field_columns(columns, images))
    return Scan(image_column(columns, images).name, key.name if key else "", fields)


class _Lists:
    """Gathers the items of a file into lists."""

    def __init__(self, location: Location, rows: StreamRows, size: int) -> None:
        self._location = location
        self._rows = rows
        self._size = size
        self._items: dict[str, Item] = {}
        self._text = 0
        self._seen = self._whole = 0

    def add(self, seen: Seen) -> ItemList | None:
        """One more image; a list, when it is full with it."""
        key = item_key(seen.name, self._location, seen.number, self._items)
        self._items[key] = Item(key, seen.hash, seen.length, at=seen.number, fields=seen.fields or UNSET)
        self._text += sum(4 * len(text) for text in seen.fields.values())
        self._seen += 1
        self._whole += bool(seen.hash)
        return self._take() if len(self._items) >= self._size or self._text >= LIST_TEXT else None

    def end(self) -> ItemList | None:
        """The rest. Raises ConfigError when no image could be read."""
        if self._seen and not self._whole:
            raise ConfigError(f"{self._location} names {self._seen} images and holds none of them. Leave it out.")
        return self._take() if self._items else None

    def _take(self) -> ItemList:
        items, self._items, self._text = tuple(self._items.values()), {}, 0
        return ItemList(items, stream=self._rows)


async def read(files: Files, part: StreamRows, wanted: Mapping[int, Item], scratch: Path, put: Put) -> None:
    """Give `put` the wanted images: the file is downloaded, and read up to the last of them.

    Raises SourceGone, SourceDenied, SourceUnavailable and SourceError as Files does; SourceUnavailable also when the
    process that reads the file ends or hangs.
    """
    places = {item.at: place for place, item in wanted.items() if item.at is not UNSET}
    location = parse(part.file)
    if not places:
        return
    if await files.size(location) != part.size:
        raise SourceGone("The file is not the one that was planned.")
    try:
        async with _opened(files, location, part.size, part.builder, scratch) as (lent, _):
            await lent.child.send(encode(Read(part.column, tuple(sorted(places)))))
            while not isinstance(answer := await _answer(lent), Done):
                if isinstance(answer, Picture | Faulty) and answer.number in places:
                    await put(places.pop(answer.number), _image(answer))
    except Unreadable:
        for place in places.values():
            await put(place, ImageError("undecodable", "The file cannot be read up to the image."))
    except (ChildFailed, ChildSlow) as error:
        raise SourceUnavailable(f"The file cannot be read now. {error}") from error


def _image(answer: Picture | Faulty) -> bytes | ImageError:
    return answer.image if isinstance(answer, Picture) else ImageError(answer.code, answer.reason)


@asynccontextmanager
async def _opened(
    files: Files, location: Location, length: int, builder: str, scratch: Path
) -> AsyncIterator[tuple[Lent, tuple[Column, ...]]]:
    """The process with the whole file open, and the file's columns."""
    async with _turns.setdefault(files, trio.Lock()), _folder(scratch) as folder:
        path = folder / f"data{ENDINGS.get(builder, '')}"
        await _save(files, location, length, path)
        async with lent_child("p2pcap.sources.stream_child", LIMITS, SECONDS) as lent:
            await lent.child.send(encode(Open(str(path), builder, LIFE_SECONDS)))
            opened = await _answer(lent)
            yield lent, opened.columns if isinstance(opened, Opened) else ()


async def _answer(lent: Lent) -> Answer:
    """The next one; the process is free after Done. Raises ChildFailed, ChildSlow and Unreadable."""
    try:
        answer: Answer = answers.decode(await lent.child.receive(MAX_FRAME))
    except msgspec.DecodeError as error:
        raise ChildFailed("The process that reads the file sent what cannot be understood.") from error
    if isinstance(answer, Fault):
        raise Unreadable(answer.text)
    lent.idle = isinstance(answer, Done)
    return answer


def _name(location: Location) -> str:
    return urlsplit(location.url).path if isinstance(location, WebFile) else location.path


@asynccontextmanager
async def _folder(scratch: Path) -> AsyncIterator[Path]:
    """A folder below `scratch`, removed with everything in it at the end of the block."""
    try:
        folder = tempfile.mkdtemp(prefix="stream-", dir=scratch)
    except OSError as error:
        raise SourceError(f"No folder can be made in {scratch}: {error.strerror}.") from error
    try:
        yield Path(folder)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(shutil.rmtree, folder, True)


async def _save(files: Files, location: Location, length: int, path: Path) -> None:
    """The whole file on this machine's disk. Raises SourceError when it does not fit."""
    free = shutil.disk_usage(path.parent).free
    if length + MARGIN > free:
        raise SourceError(f"The disk lacks room for a file of {length} bytes; {free} are free at {path.parent}.")
    try:
        with path.open("wb") as file:
            await files.save(location, 0, length, file)
    except OSError as error:
        raise SourceError(f"The file cannot be kept on disk: {error.strerror}.") from error
