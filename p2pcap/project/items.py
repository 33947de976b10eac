"""The item list of a chunk: which images it has, and where they are read when the swarm does not bring them.

An image that the planner had in hand is known by the SHA-256 of its bytes. One that it had not (a row of a pinned
Parquet file, a URL) is known by its place; the first author to caption it says which bytes it had.

Always holds: a list names at most one file, pinned, and every field has a bound.
"""

from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError
from p2pcap.project.record import Count, Record
from p2pcap.project.records import MAX_CHUNK
from p2pcap.project.task import MAX_FIELDS, FieldName

MAX_IMAGE = 64 * 1024 * 1024
"""Bytes of one image file."""

MAX_KEY = 1_024
"""Characters of an image's key."""

MAX_LOCATION = 2_048
"""Characters of a URL, or of the place of a file."""

MAX_FIELD = 8_192
"""Characters of the text of a metadata field."""

MAX_GROUPS = 4_096
"""Row groups of a chunk."""

MAP_HEAD = b"\xa0"
"""The least first byte of a map in CBOR; arrays begin with less."""

FOLDER = "file:"
"""How the place of a file in the maintainer's data folder begins."""

NO_IMAGE = bytes(32)
"""What a row gives as its image's hash when the image never came and nobody knew its hash."""

Location = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LOCATION)]
"""Where a file is; p2pcap.sources.locations has the forms."""

Field = Annotated[str, msgspec.Meta(max_length=MAX_FIELD)]
Column = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Item(Record, frozen=True):
    """One image.

    `key` names it for people: a relative path, or what the dataset calls it. `hash` is the SHA-256 of the encoded
    bytes, or empty where the planner had not read them; `length` is their number, 0 where it is not known. `url` is
    where the image alone is read; `at` is its place in the list's file: a row (ParquetRows, StreamRows) or a byte
    (TarRange). `fields` is what the dataset says of it.
    """

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY)]
    hash: Annotated[bytes, msgspec.Meta(max_length=32)]
    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_IMAGE)]
    url: Location | UnsetType = UNSET
    at: Count | UnsetType = UNSET
    fields: Annotated[dict[FieldName, Field], msgspec.Meta(max_length=MAX_FIELDS)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Raises ValueError, which a decoder reports as a fault of the record, for a hash of another length."""
        if len(self.hash) not in (0, 32):
            raise ValueError("an image's hash has 32 bytes, or none where it is not known")

    @property
    def metadata(self) -> dict[str, str]:
        """What the dataset says of the image; empty when it says nothing."""
        return {} if self.fields is UNSET else self.fields


class ParquetRows(Record, frozen=True):
    """Row groups of a Parquet file; an item's `at` is its row, counted over these groups in their order. `size` is the
    file's bytes, `column` the one whose cells are the images: bytes, or a struct with the bytes in its field "bytes".
    """

    file: Location
    size: Count
    groups: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=MAX_GROUPS)]
    column: Column

    def __post_init__(self) -> None:
        """Raises ValueError for groups that are out of order, or named twice: each is read once."""
        if any(after <= before for before, after in pairwise(self.groups)):
            raise ValueError("row groups are named in ascending order")


class TarRange(Record, frozen=True):
    """`length` bytes of a tar file from byte `start`; an item's `at` is the first byte of its member's content, counted
    from the file's start, and its `length` is known. `size` is the file's bytes."""

    file: Location
    size: Count
    start: Count
    length: Count


class StreamRows(Record, frozen=True):
    """Examples of one file that the library `datasets` reads with its builder of that name; an item's `at` is the
    example's number in the file. `size` is the file's bytes."""

    file: Location
    size: Count
    builder: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
    column: Column


class ItemList(Record, frozen=True):
    """The images of one chunk, in order; an item is addressed by (chunk, offset).

    With none of the three files set, and no `url` in the items, the images travel through the swarm, by hash.
    """

    items: Annotated[tuple[Item, ...], msgspec.Meta(min_length=1, max_length=MAX_CHUNK)]
    parquet: ParquetRows | UnsetType = UNSET
    tar: TarRange | UnsetType = UNSET
    stream: StreamRows | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Raises ValueError for a list that names two files, or no image, or one that nobody can find."""
        if not 1 <= len(self.items) <= MAX_CHUNK:
            raise ValueError(f"a list has 1 to {MAX_CHUNK} images")
        if sum(part is not UNSET for part in (self.parquet, self.tar, self.stream)) > 1:
            raise ValueError("a list names one file at most")
        in_file = self.file is not None
        if not all(item.at is not UNSET if in_file else item.url or item.hash for item in self.items):
            raise ValueError("an image has neither a place nor a hash")

    @property
    def file(self) -> ParquetRows | TarRange | StreamRows | None:
        """The file that the images are parts of."""
        return next((part for part in (self.parquet, self.tar, self.stream) if part is not UNSET), None)

    def travels(self, item: Item) -> bool:
        """Whether the swarm brings this image of the list, by its hash: it lies in the maintainer's data folder. All
        lists of a project are alike in that, for it has one source."""
        return self.file.file.startswith(FOLDER) if self.file else item.url is UNSET


def encode_list(found: ItemList) -> bytes:
    """The blob of a list: the items alone where it names no file."""
    return encode(found if found.file else found.items)


def decode_list(data: bytes, limit: int) -> ItemList:
    """The list in `data`. Raises CodecError when it is longer than `limit`, or no list."""
    if data[:1] >= MAP_HEAD:
        found = decode(data, ItemList, limit)
        if found.file is None:
            raise CodecError("A list that names no file is an array.")
        return found
    items = decode(data, tuple[Item, ...], limit)
    try:
        return ItemList(items)
    except ValueError as error:
        raise CodecError(f"The list is faulty: {error}.") from error
