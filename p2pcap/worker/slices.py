"""A slice on its way through the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import trio
from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.engine.base import Output
from p2pcap.errors import ImageError
from p2pcap.ledger.body import MAX_ROW
from p2pcap.ledger.given import given_hash
from p2pcap.ledger.records import MAX_ANSWER, Answer, Row
from p2pcap.project.items import NO_IMAGE, Item
from p2pcap.project.records import SLICE


@dataclass(frozen=True)
class Image:
    """An image that is on this machine: the SHA-256 of its bytes, and the bytes, or None while they wait on disk."""

    hash: bytes
    data: bytes | None = None


@dataclass(frozen=True)
class Made:
    """What the engine made of an image: its row, and the token ids of each answer (none where it does not tell)."""

    row: Row
    ids: tuple[tuple[int, ...], ...] = ()


@dataclass
class Slice:
    """Items of a chunk that are captioned and signed together. `offset` is its first possible item, `items` the bits
    (of the chunk) that are wanted; images and rows fill up as it moves along, and the token ids of rows with answers.
    `given` has, for each item, the answers of other tasks that this one's prompts use.

    `claimed` is when it was claimed and `known` the claims known by then (p2pcap.ledger.choose.Pick). Its work does not
    begin before `ready`; `begun` is when its first image went to the engine. Times are unix seconds. `ended` is set
    when the last of its images is done; of a part that was split off, `more` says that the rest is still to come.
    """

    chunk: int
    offset: int
    span: int
    items: int
    claimed: float = 0.0
    known: Mapping[bytes, float] = field(default_factory=dict)
    ready: float = 0.0
    begun: float = 0.0
    images: Mapping[int, tuple[Item, Image]] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    ids: dict[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    given: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    more: bool = False
    ended: trio.Event = field(default_factory=trio.Event, compare=False, repr=False)

    def told(self, index: int) -> dict[str, str]:
        """What prompts may use about an item beside the image."""
        return {**self.images[index][0].metadata, **self.given.get(index, {})}

    @property
    def bit(self) -> int:
        """Which slice of its chunk it is, as a bit."""
        return 1 << self.offset // SLICE

    @property
    def complete(self) -> bool:
        """Whether every item that is wanted has its row."""
        return all(index in self.rows for index in self.places)

    @property
    def places(self) -> list[int]:
        """The items that are wanted, by their place in the chunk."""
        return [index for index in range(self.offset, self.offset + self.span) if self.items >> index & 1]

    def prune(self) -> None:
        """Forget the images and rows of items that are not wanted any more."""
        wanted = set(self.places)
        self.images = {index: image for index, image in self.images.items() if index in wanted}
        self.rows = {index: row for index, row in self.rows.items() if index in wanted}

    def put(self, made: Made) -> None:
        """An item has its row."""
        self.rows[made.row.item] = made.row
        if any(made.ids):
            self.ids[made.row.item] = made.ids

    def drop(self, index: int) -> None:
        """This item is not wanted any more."""
        self.items &= ~(1 << index)

    def split(self) -> "Slice":
        """Those of its items that have their rows, as a part by itself; the others stay."""
        done = sum(1 << index for index in self.rows)
        part = replace(self, items=self.items & done, images={}, more=True)
        self.items &= ~done
        self.images = {index: image for index, image in self.images.items() if index not in self.rows}
        self.rows, self.ids = {}, {}
        return part


def captioned(index: int, hash_: bytes, outputs: tuple[Output, ...], given: Mapping[str, str] | None = None) -> Made:
    """What is made of an image's answers: an error row where they exceed the protocol's limits. `given` are the answers
    of other tasks that were used; None for a task that uses none."""
    if any(len(output.text) > MAX_ANSWER for output in outputs):
        return Made(failed(index, hash_, ImageError("too-long", f"an answer has more than {MAX_ANSWER} characters")))
    answers = tuple(Answer(output.text, output.tokens, output.finish) for output in outputs)
    row = Row(index, hash_, answers, given=given_hash(given) if given is not None else UNSET)
    if len(encode(row)) > MAX_ROW:
        return Made(failed(index, hash_, ImageError("too-long", f"the answers have more than {MAX_ROW} bytes")))
    return Made(row, tuple(output.ids for output in outputs))


def failed(index: int, hash_: bytes, error: ImageError) -> Row:
    """The row of an image that cannot be captioned, with the reason. `hash_` is empty when its bytes are not known."""
    return Row(index, hash_ or NO_IMAGE, error=error.code, reason=error.reason[:256])
