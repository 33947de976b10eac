"""What the node and the process with the library `datasets` say to each other.

Frames are MessagePack. What the process says was made of a stranger's file, so the node checks it again.
"""

from typing import Annotated

import msgspec

from p2pcap.project.items import MAX_FIELD, MAX_IMAGE
from p2pcap.project.task import MAX_FIELDS
from p2pcap.sources.columns import Column

MAX_FRAME = MAX_IMAGE + 4 * MAX_FIELDS * MAX_FIELD + 1024 * 1024
"""Bytes that the process sends at once: the largest image, or all the metadata of one."""

MAX_NAME = 16_384
"""Characters of what a dataset calls an image; longer ones are cut, and are too long for a key anyway."""

Field = Annotated[str, msgspec.Meta(max_length=MAX_FIELD)]


class Open(msgspec.Struct, frozen=True, tag=True):
    """Read the file `path` with this builder of the library. While there are examples, an answer comes every `life`
    seconds or sooner."""

    path: str
    builder: str
    life: float


class Scan(msgspec.Struct, frozen=True, tag=True):
    """Say what there is: for each image its hash, what it is called, and its fields. `key` is a column, or empty."""

    column: str
    key: str
    fields: tuple[str, ...]


class Read(msgspec.Struct, frozen=True, tag=True):
    """Send the images with these numbers, ascending."""

    column: str
    wanted: tuple[int, ...]


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The file's columns."""

    columns: tuple[Column, ...]


class Seen(msgspec.Struct, frozen=True, tag=True):
    """An example with an image. `hash` is empty for one that cannot be read; `name` is what the key column or, without
    one, the image's own path says."""

    number: int
    hash: Annotated[bytes, msgspec.Meta(max_length=32)]
    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_IMAGE)]
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
    fields: Annotated[dict[str, Field], msgspec.Meta(max_length=MAX_FIELDS)]


class Picture(msgspec.Struct, frozen=True, tag=True):
    """An image that was asked for."""

    number: int
    image: bytes


class Faulty(msgspec.Struct, frozen=True, tag=True):
    """An image that was asked for and cannot be had, see errors.ImageError."""

    number: int
    code: str
    reason: str


class Passed(msgspec.Struct, frozen=True, tag=True):
    """A sign of life: the examples up to this number are done."""

    number: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """That was all."""


class Fault(msgspec.Struct, frozen=True, tag=True):
    """The library cannot read the file, or no further; what it says of it."""

    text: str


Question = Open | Scan | Read
Answer = Opened | Seen | Picture | Faulty | Passed | Done | Fault

encode = msgspec.msgpack.encode
questions = msgspec.msgpack.Decoder(Question)
answers = msgspec.msgpack.Decoder(Answer)
