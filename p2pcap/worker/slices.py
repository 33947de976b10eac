"""A slice on its way through the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pcap.codec import encode
from p2pcap.engine.base import Output
from p2pcap.errors import ImageError
from p2pcap.ledger.body import MAX_ROW
from p2pcap.ledger.records import MAX_ANSWER, Answer, Row
from p2pcap.project.records import SLICE, Item


@dataclass
class Slice:
    """Items of a chunk that are captioned and signed together. `offset` is its first possible item, `items` the bits
    (of the chunk) that are wanted; images and rows fill up as it moves along.

    `claimed` is when it was claimed and `known` the claims known by then (p2pcap.ledger.choose.Pick). Its work does not
    begin before `ready`; `begun` is when its first image went to the engine. Times are unix seconds.
    """

    chunk: int
    offset: int
    span: int
    items: int
    claimed: float = 0.0
    known: Mapping[bytes, float] = field(default_factory=dict)
    ready: float = 0.0
    begun: float = 0.0
    images: Mapping[int, tuple[Item, bytes]] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)

    @property
    def bit(self) -> int:
        """Which slice of its chunk it is, as a bit."""
        return 1 << self.offset // SLICE

    @property
    def complete(self) -> bool:
        """Whether every image has its row."""
        return len(self.rows) == len(self.images)


def captioned(index: int, item: Item, outputs: tuple[Output, ...]) -> Row:
    """The row of an image that got its answers; answers beyond the protocol's limits make it an error row."""
    if any(len(output.text) > MAX_ANSWER for output in outputs):
        return failed(index, item, ImageError("too-long", f"an answer has more than {MAX_ANSWER} characters"))
    row = Row(index, item.hash, tuple(Answer(output.text, output.tokens, output.finish) for output in outputs))
    if len(encode(row)) > MAX_ROW:
        return failed(index, item, ImageError("too-long", f"the answers have more than {MAX_ROW} bytes"))
    return row


def failed(index: int, item: Item, error: ImageError) -> Row:
    """The row of an image that cannot be captioned, with the reason."""
    return Row(index, item.hash, error=error.code, reason=error.reason[:256])
