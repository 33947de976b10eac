"""webdataset shards: images in tar files, on disk, on the Hub or on the web.

Planned from the index beside the tar (p2pcap.sources.tar_index); without one the tar is walked as it streams by, which
costs the whole file once. A chunk's images lie behind each other, so a volunteer asks for one range: from the first
image to the last one, with whatever lies between them.

Always holds: one image and one part of the stream are in memory at a time; an image is exactly its member's bytes; the
hash of an image is that of bytes that were read, or what an index beside a tar elsewhere says.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import structlog
from msgspec import UNSET

from p2pcap.errors import ConfigError, ImageError, SourceGone
from p2pcap.project.items import MAX_IMAGE, Item, ItemList, TarRange
from p2pcap.sources.files import Files
from p2pcap.sources.forward import Forward
from p2pcap.sources.locations import DataFile, HubFile, Location, parse
from p2pcap.sources.sidecars import Names
from p2pcap.sources.spec import Images
from p2pcap.sources.tar_gather import Budget, TooMuchTextError, check_header, gather, spans
from p2pcap.sources.tar_index import find_index, stream_index
from p2pcap.sources.tar_samples import Picture, field_names, fields, key_of, pictures
from p2pcap.sources.tar_walk import Contents, Member

log = structlog.get_logger()

Put = Callable[[int, bytes | ImageError], Awaitable[None]]


async def plan(
    files: Files, location: Location, images: Images, size: int, met: Names | None = None
) -> AsyncGenerator[ItemList, None]:
    """The images of one tar, in lists of at most `size`, in the order of their bytes. An image of MAX_IMAGE bytes or
    more is planned with that length, and becomes an error row unread. `met` is told the names of fields that there are.

    Images in the data folder are hashed, and all where `images` says so. Raises ConfigError for a tar that is
    compressed, damaged or cut off, and for an index that is not that tar's.
    """
    length = await files.size(location)
    members = await find_index(files, location, length)
    indexed = members is not None
    if members is None:
        members = (await _walked(files, location, length)).members
    found = pictures(members, with_said=bool(images.fields or images.caption_field))
    log.info("tar planned", tar=str(location), members=len(members), images=len(found), indexed=indexed)
    if indexed and found:
        await check_header(files, location, found[-1].member)
    del members
    waiting = [range(start, min(start + size, len(found))) for start in range(0, len(found), size)]
    waiting.reverse()
    while waiting:
        places = waiting.pop()
        try:
            yield await _list(files, location, length, images, found, places, indexed, met or Names())
        except TooMuchTextError:
            # One image's fields always fit, so this ends.
            middle = len(places) // 2
            waiting += [places[middle:], places[:middle]]


async def read(files: Files, part: TarRange, wanted: Mapping[int, Item], scratch: Path, put: Put) -> None:
    """Give `put` the `wanted` images of a chunk: one request, or a few where much between them is not wanted. Nothing
    is written to `scratch`.

    A file of the Hub at a commit never changes; elsewhere the file's size is asked for first. Raises SourceGone when it
    is not the planned one, and whatever else `files` raises.
    """
    location = parse(part.file)
    if not isinstance(location, HubFile) and await files.size(location) != part.size:
        raise SourceGone("The tar has another size than when it was planned.")
    places, faults = judged(part, wanted)
    for place, error in faults.items():
        await put(place, error)
    for span in spans(places):
        start, end = span[0][0], sum(span[-1])
        async with files.stream(location, start, end - start) as parts:
            passing = Forward(parts, start)
            for at, length in span:
                await passing.skip_to(at)
                await put(places[at, length], await passing.take(length))


def judged(part: TarRange, wanted: Mapping[int, Item]) -> tuple[dict[tuple[int, int], int], dict[int, ImageError]]:
    """Which bytes (first, number) are which wanted image, ascending; and the images that no bytes can be read for."""
    places: dict[tuple[int, int], int] = {}
    faults: dict[int, ImageError] = {}
    behind, end = part.start, min(part.start + part.length, part.size)
    for place, item in sorted(wanted.items(), key=lambda pair: (pair[1].at or 0, pair[0])):
        at = -1 if item.at is UNSET else item.at
        if item.length >= MAX_IMAGE:
            faults[place] = ImageError("too-large", f"The image has {MAX_IMAGE} bytes or more.")
        elif at < behind or at + item.length > end:
            faults[place] = ImageError("gone", "The image is not in the chunk's part of the tar.")
        elif item.length == 0:
            faults[place] = ImageError("empty", "The image has no bytes.")
        else:
            places[at, item.length] = place
            behind = at + item.length
    return places, faults


async def _walked(files: Files, location: Location, size: int) -> Contents:
    try:
        found = await stream_index(files, location, size, _nobody)
    except ConfigError as error:
        raise ConfigError(f"{location}: {error}") from error
    if found.cut:
        raise ConfigError(
            f"{location} has {found.cut}. Get it anew; or run `p2pcap index` on it, to use the {len(found.members)} "
            "files before that."
        )
    if found.left_out:
        log.warning("members of a tar left out", tar=str(location), left_out=dict(found.left_out))
    return found


def _unhashed(some: Sequence[Picture], location: Location, images: Images) -> set[int]:
    """Which of these images are to be read for their hash: all of the data folder, where an index may be old."""
    local = isinstance(location, DataFile)
    return {
        place
        for place, picture in enumerate(some)
        if (local or (images.hashes and not picture.member.hash)) and picture.member.length < MAX_IMAGE
    }


async def _list(
    files: Files,
    location: Location,
    size: int,
    images: Images,
    found: Sequence[Picture],
    places: range,
    indexed: bool,
    met: Names,
) -> ItemList:
    """The list of the pictures at these `places`. Raises TooMuchTextError."""
    some, names, budget = found[places.start : places.stop], field_names(images.fields, images.caption_field), Budget()
    gathered = await gather(files, location, some, names, _unhashed(some, location, images) if indexed else (), met)
    used: set[str] = set()
    numbers: dict[str, int] = {}
    items = tuple(
        _item(
            picture.member,
            key_of(picture.key, f"{location}#{places[place]}", used, numbers),
            gathered.hashes.get(place, picture.member.hash),
            budget.spent(fields(picture, names, gathered.said.get(place, {}), met)),
        )
        for place, picture in enumerate(some)
    )
    return ItemList(items, tar=_range(location, size, some))


def _item(member: Member, key: str, hash_: bytes, said: dict[str, str]) -> Item:
    large = member.length >= MAX_IMAGE
    length = MAX_IMAGE if large else member.length
    return Item(key, b"" if large else hash_, length, at=member.offset, fields=said or UNSET)


def _range(location: Location, size: int, some: Sequence[Picture]) -> TarRange:
    readable = [picture.member for picture in some if picture.member.length < MAX_IMAGE] or [some[0].member]
    start = readable[0].offset
    end = max(start, readable[-1].end if readable[-1].length < MAX_IMAGE else start)
    return TarRange(str(location), size, start, end - start)


def _nobody(done: int) -> None:
    """Nobody asks how far the walk is."""
