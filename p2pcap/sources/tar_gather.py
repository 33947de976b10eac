"""What a plan needs of a tar's bytes: the hashes of images, and what the members beside them say.

Always holds: each byte is asked for at most once, in the order of the file; of what members say, only the fields asked
for are kept.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from p2pcap.errors import ConfigError
from p2pcap.sources.files import Files
from p2pcap.sources.forward import Forward
from p2pcap.sources.locations import Location
from p2pcap.sources.sidecars import Names
from p2pcap.sources.tar_samples import Picture, needed, said_by
from p2pcap.sources.tar_walk import BLOCK, REGULAR, Member, parse_header

MIN_GAP = 1024 * 1024
"""Bytes that nobody wants, above which a range may be asked for in two: another request takes about as long."""

MAX_TEXT = 16 * 1024 * 1024
"""Characters of metadata of one list; the blob of a list may have 32 MiB (p2pcap.project.records.MAX_LIST)."""

Piece = tuple[int, int]
"""First byte and number of bytes."""


class TooMuchTextError(Exception):
    """A list would have more metadata than fit; fewer images have less."""


class Budget:
    """Counts the metadata of one list."""

    def __init__(self) -> None:
        self._characters = 0

    def spent(self, said: dict[str, str]) -> dict[str, str]:
        """`said`, once it is counted. Raises TooMuchTextError when the list has too much."""
        self._characters += sum(map(len, said.values()))
        if self._characters > MAX_TEXT:
            raise TooMuchTextError
        return said


@dataclass
class Gathered:
    """Hashes of images by place, and by place what was said, as `tar_samples.said_by` gives it."""

    hashes: dict[int, bytes] = field(default_factory=dict)
    said: dict[int, dict[str, str]] = field(default_factory=dict)


async def gather(
    files: Files,
    location: Location,
    some: Sequence[Picture],
    names: Sequence[str],
    unhashed: Collection[int],
    met: Names,
) -> Gathered:
    """Read what the fields `names` of the pictures `some` need, and hash those whose place is in `unhashed`; `met` is
    told of the fields that there are.

    Raises ConfigError when an image is not where the index has it, or not what the index says; TooMuchTextError.
    """
    gathered, budget = Gathered(), Budget()
    images = {_with_header(picture.member): place for place, picture in enumerate(some) if place in unhashed}
    texts = _texts(some, names)
    for span in spans({*images, *texts}):
        start = span[0][0]
        async with files.stream(location, start, sum(span[-1]) - start) as parts:
            passing = Forward(parts, start)
            for piece in span:
                await passing.skip_to(piece[0])
                if piece in images:
                    place = images[piece]
                    gathered.hashes[place] = await _hash(passing, location, some[place].member)
                else:
                    data = await passing.take(piece[1])
                    for place, suffix in texts[piece]:
                        gathered.said.setdefault(place, {}).update(budget.spent(said_by(suffix, data, names, met)))
    return gathered


async def check_header(files: Files, location: Location, member: Member) -> None:
    """Raises ConfigError when the tar has no such member where the index says so."""
    _check(await files.read(location, member.offset - BLOCK, BLOCK), location, member)


def spans(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces that do not overlap, grouped into ranges to be asked for, ascending: a range is parted at a gap that is
    longer than MIN_GAP and than half of the range."""
    waiting = [sorted(pieces)]
    while waiting:
        some = waiting.pop()
        gaps = [after[0] - sum(before) for before, after in pairwise(some)]
        widest = max(gaps, default=0)
        if widest > MIN_GAP and 2 * widest > sum(some[-1]) - some[0][0]:
            at = gaps.index(widest) + 1
            waiting += [some[at:], some[:at]]
        elif some:
            yield some


def _with_header(member: Member) -> Piece:
    return member.offset - BLOCK, BLOCK + member.length


def _texts(some: Sequence[Picture], names: Sequence[str]) -> dict[Piece, list[tuple[int, str]]]:
    """Members to be read, each with the pictures that it is beside, and its suffix."""
    texts: dict[Piece, list[tuple[int, str]]] = {}
    for place, picture in enumerate(some):
        for suffix in needed(picture, names):
            member = picture.beside[suffix]
            texts.setdefault((member.offset, member.length), []).append((place, suffix))
    return texts


async def _hash(passing: Forward, location: Location, member: Member) -> bytes:
    _check(await passing.take(BLOCK), location, member)
    digest = hashlib.sha256()
    await passing.hand(member.length, digest.update)
    if member.hash not in (b"", digest.digest()):
        raise _other(location, member)
    return digest.digest()


def _check(block: bytes, location: Location, member: Member) -> None:
    try:
        header = parse_header(block)
    except ValueError as error:
        raise _other(location, member) from error
    if header.kind not in REGULAR or header.length != member.length:
        raise _other(location, member)


def _other(location: Location, member: Member) -> ConfigError:
    return ConfigError(
        f"The index beside {location} is not that tar's: {member.name!r} is another file there. Make it anew with "
        "`p2pcap index --force`."
    )
