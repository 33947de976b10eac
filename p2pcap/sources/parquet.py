"""Images in the cells of Parquet files: planned by row groups, read by row groups.

A row group is the least that can be read of a Parquet file, so a chunk is made of whole ones: of the column of images
only their bytes are moved, once. A group larger than MAX_CHUNK is the exception: each of its chunks reads all of it.

Always holds: each wanted image is given to `put` once, whatever the file is; disk is used for two row groups at most,
or for 32 MiB of small ones, twice.
"""

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import trio

from p2pcap.errors import ImageError, ImageUnavailable, SourceError, SourceGone
from p2pcap.project.items import MAX_IMAGE, Item, ParquetRows
from p2pcap.sources import columns
from p2pcap.sources.child import ChildFailed, ChildSlow
from p2pcap.sources.files import Files
from p2pcap.sources.locations import Location, parse
from p2pcap.sources.parquet_file import Table, Unreadable, batch_rows, merged, open_table
from p2pcap.sources.parquet_frames import PATH_ONLY, Cell, Located, Read, Span, Value
from p2pcap.sources.parquet_plan import plan
from p2pcap.sources.parquet_rows import readable
from p2pcap.sources.spec import Images

__all__ = ["kind", "plan", "read"]

Put = Callable[[int, bytes | ImageError], Awaitable[None]]

JOINED = 32 * 1024 * 1024
"""Bytes up to which small row groups that follow each other are moved by one request."""

SLACK = 20
"""What lies between two of them is moved with them when it is at most one part in so many."""


async def kind(files: Files, location: Location, images: Images) -> Literal["parquet", "urls"]:
    """Whether the file's cells hold images, or their addresses. Raises ConfigError for neither."""
    with readable(location):
        async with open_table(files, location) as table:
            found = table.columns
    urls = images.url_column or (columns.find_url(found) and not columns.find_image(found))
    if images.image_column or not urls:
        columns.image_column(found, images)
        return "parquet"
    columns.url_column(found, images)
    return "urls"


async def read(files: Files, part: ParquetRows, wanted: Mapping[int, Item], scratch: Path, put: Put) -> None:
    """Give `put` the `wanted` images of a chunk, moving only the row groups that have them. While one row group is
    given, the next one is fetched.

    Raises SourceGone when the file is not the planned one, or no Parquet file; and what `files` raises.
    """
    given: set[int] = set()
    failed: Exception | None = None

    async def give(place: int, image: bytes | ImageError) -> None:
        given.add(place)
        await put(place, image)

    try:
        async with open_table(files, parse(part.file), part.size) as table:
            await _read(table, _groups(table, part, wanted), _cell(table, part.column), scratch, give)
    except Unreadable as error:
        raise SourceGone("The file is no Parquet file, or not the one that was planned.") from error
    except (ChildFailed, ChildSlow) as error:
        failed = error
    for place in sorted(wanted.keys() - given):
        await put(place, fault(failed))


class Group(NamedTuple):
    """A row group and its wanted rows: row to place."""

    number: int
    rows: Mapping[int, int]


class Unit(NamedTuple):
    """Row groups that are fetched together, each with the bytes that it has when it is unpacked."""

    groups: Sequence[tuple[Group, int]]
    spans: Sequence[Span]


def _cell(table: Table, name: str) -> Cell:
    for number, column in enumerate(table.columns):
        if column.name == name and column.images:
            return Cell(number, image=True)
    raise SourceGone("The file has no such column of images.")


def _groups(table: Table, part: ParquetRows, wanted: Mapping[int, Item]) -> list[Group]:
    """The row groups of the chunk that have wanted rows."""
    if max(part.groups) >= len(table.rows):
        raise SourceGone("The file has fewer row groups than the one that was planned.")
    places = {int(item.at or 0): place for place, item in wanted.items()}
    starts = accumulate((table.rows[number] for number in part.groups), initial=0)
    found = []
    for start, number in zip(starts, part.groups, strict=False):
        rows = {at - start: places[at] for at in sorted(places) if start <= at < start + table.rows[number]}
        if rows:
            found.append(Group(number, rows))
    return found


async def _read(table: Table, groups: Sequence[Group], cell: Cell, scratch: Path, put: Put) -> None:
    located = []
    for group in groups:
        try:
            located.append((group, await table.locate((cell,), group.number)))
        except (Unreadable, ChildFailed, ChildSlow) as error:
            for place in group.rows.values():
                await put(place, fault(error))
    async with _fetched(table, units(located), scratch) as stored:
        async for unit, path in stored:
            for group, unpacked in unit.groups:
                batch = batch_rows(table.rows[group.number], unpacked)
                rows = tuple(group.rows)
                await _give(table, Read((cell,), group.number, str(path), tuple(unit.spans), batch, rows), group, put)
            path.unlink()


def units(located: Sequence[tuple[Group, Located]]) -> list[Unit]:
    """What is fetched together: small row groups with little between them."""
    found: list[Unit] = []
    for group, place in located:
        spans = merged(place.spans, _tight)
        if found and spans[0] > found[-1].spans[-1]:
            both = merged((*found[-1].spans, *spans), _tight)
            if len(both) == 1 and both[0][1] <= JOINED:
                found[-1] = Unit((*found[-1].groups, (group, place.unpacked)), both)
                continue
        found.append(Unit(((group, place.unpacked),), spans))
    return found


def _tight(left: Span, right: Span) -> bool:
    return (right[0] - sum(left)) * SLACK <= min(left[1], right[1])


@asynccontextmanager
async def _fetched(
    table: Table, wanted: Sequence[Unit], scratch: Path
) -> AsyncIterator[AsyncIterator[tuple[Unit, Path]]]:
    """The units as files, each fetched while the one before it is in use. What ends the fetching is raised when the
    units before it are used up."""
    send, receive = trio.open_memory_channel[tuple[Unit, Path] | SourceError](0)

    async def fetch(folder: Path) -> None:
        async with send:
            for number, unit in enumerate(wanted):
                path = folder / str(number)
                try:
                    await table.save(unit.spans, path)
                except SourceError as error:
                    await send.send(error)
                    return
                await send.send((unit, path))

    async def stored() -> AsyncGenerator[tuple[Unit, Path]]:
        async for unit in receive:
            if isinstance(unit, SourceError):
                raise unit
            yield unit

    with _folder(scratch) as folder, _one_error():
        async with trio.open_nursery() as nursery, receive, aclosing(stored()) as found:
            nursery.start_soon(fetch, folder)
            yield found
            nursery.cancel_scope.cancel()


@contextmanager
def _folder(scratch: Path) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="parquet-", dir=scratch, ignore_cleanup_errors=True)
    except OSError as error:
        raise SourceError(f"{scratch} cannot be written: {error.strerror}. Make room there.") from error
    with folder as name:
        yield Path(name)


@contextmanager
def _one_error() -> Iterator[None]:
    """Of the errors that a nursery gathers, the one that ended it, as of code without one."""
    try:
        yield
    except BaseExceptionGroup as group:
        _, others = group.split(trio.Cancelled)
        while isinstance(others, BaseExceptionGroup):
            others = others.exceptions[0]
        if others is None:
            raise
        raise others from None


async def _give(table: Table, wanted: Read, group: Group, put: Put) -> None:
    """Give the images of one row group, or why they cannot be had."""
    left = dict(group.rows)
    error: Exception | None = None
    try:
        async with aclosing(table.read(wanted)) as parts:
            async for part in parts:
                for row, (value,) in part:
                    if row in left:
                        await put(left.pop(row), _image(value))
    except (Unreadable, ChildFailed, ChildSlow) as raised:
        error = raised
    for place in left.values():
        await put(place, fault(error))


def _image(value: Value) -> bytes | ImageError:
    if value == PATH_ONLY:
        return ImageError("gone", "The row holds the image's path and not the image.")
    if not value:
        return ImageError("empty", "The row holds no image.")
    if isinstance(value, int) or len(value) > MAX_IMAGE:
        return ImageError("too-large", f"The image has over {MAX_IMAGE} bytes.")
    return value


def fault(error: Exception | None) -> ImageError:
    """What becomes of the images of a row group that could not be read."""
    if isinstance(error, ChildFailed):
        return ImageUnavailable("unavailable", "The process that reads the Parquet file ended.")
    if isinstance(error, ChildSlow):
        return ImageUnavailable("unavailable", "The Parquet file takes too long to read.")
    if isinstance(error, Unreadable):
        return ImageError("undecodable", "The Parquet file cannot be read at this row.")
    return ImageError("gone", "The Parquet file has no such row.")
