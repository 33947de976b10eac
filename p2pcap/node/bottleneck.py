"""What a measured engine was held up by. Pure: numbers in, one sentence out.

An engine is fed images without end here, so something is always at its limit: the batch that the model works on, the
memory that holds its keys and values, the decoders, or the Python in front of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pcap.node.cpu import PARTS, Part

FULL = 0.9
"""Of a limit: what is so near to it is at it, as the mean of a time in which it wavers."""

BUSY_CORE = 0.85
"""Of a core: an event loop that takes so much of one has no time left; the rest goes into waking up."""

KV_FULL = 0.8
"""Of the memory for keys and values: vLLM lets an answer wait when the next blocks may not be there."""


DISTURBING = 0.2
"""Of the cores."""


@dataclass(frozen=True)
class Means:
    """Means over the time measured.

    `running` and `waiting` are requests in vLLM's batch and before it, `batch` how many fit into it over all engines,
    `kv` the share (0 to 1) of the memory for keys and values in use, `decoding` images being decoded or waiting for it,
    `in_flight` images with the engine in all.
    """

    running: float = 0.0
    waiting: float = 0.0
    batch: int = 0
    kv: float = 0.0
    decoding: float = 0.0
    in_flight: float = 0.0

    @property
    def told(self) -> bool:
        """Whether the engine told what it was busy with."""
        return self.running > 0


@dataclass(frozen=True)
class Measured:
    """One measure: `seconds` in which `images` were captioned by answers of `tokens` in all.

    `failed` counts images without a caption by code; `latency` is the mean of the seconds from handing an image over
    until its answers; `cpu` CPU seconds by part, `others` those of all other programs; `cores` how many this process
    may use; `remote`: servers elsewhere ran the model; `deaths` is how many images were in hand when an engine died.
    """

    seconds: float
    images: int
    tokens: int
    latency: float
    means: Means
    cpu: Mapping[Part, float]
    cores: int
    device: str = ""
    remote: bool = False
    failed: Mapping[str, int] = field(default_factory=dict)
    deaths: int = 0
    others: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images captioned a second."""
        return self.images / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers a second."""
        return self.tokens / self.seconds

    def used(self, part: Part) -> float:
        """Cores that this part kept busy."""
        return self.cpu[part] / self.seconds

    def cpu_ms(self, part: Part) -> float:
        """CPU milliseconds of this part an image; 0 where no image was captioned."""
        return 1_000 * self.cpu[part] / self.images if self.images else 0.0

    def waits(self) -> dict[str, float]:
        """Where an image's time in the engine went, in seconds: decoding, waiting for a place in the batch, the model,
        and all else. By Little's law the time in a place is the mean number in it over the rate at which they leave.

        A prompt of an image is in the batch or waits by itself, so those two are in proportion to each other only.
        """
        decoding = self._share(self.means.decoding) * self.latency
        rest = self.latency - decoding
        requests = self.means.running + self.means.waiting
        waiting = rest * self.means.waiting / requests if requests else 0.0
        return {"decoding": decoding, "waiting": waiting, "model": rest - waiting}

    def _share(self, images: float) -> float:
        return min(1.0, images / self.means.in_flight) if self.means.in_flight else 0.0


def disturbed(measured: Measured) -> bool:
    """Whether other programs took so much of this machine that it can do more than was measured."""
    return measured.others > DISTURBING * measured.cores * measured.seconds


def limit(measured: Measured) -> str:
    """What keeps the engine from being faster, in one sentence without its end."""
    means = measured.means
    if measured.remote:
        return "the servers that are asked, or the way to them"
    if means.told and means.running >= FULL * means.batch:
        return f"the model: its batch is full, {means.running:.0f} of {means.batch}"
    if means.waiting >= 1 and means.kv >= KV_FULL:
        return f"memory for keys and values, which holds {means.running:.0f} of {means.batch} answers"
    if 2 * means.decoding >= means.in_flight > 0:
        return f"decoding images: {measured.used('decoding'):.1f} of {measured.cores} cores"
    if measured.used("front") >= BUSY_CORE:
        return f"the engine's Python front: {measured.used('front'):.1f} of one core"
    if sum(map(measured.used, PARTS)) >= FULL * measured.cores:
        shares = ", ".join(f"{part} {measured.used(part):.1f}" for part in PARTS)
        return f"the CPU: of {measured.cores} cores {shares}"
    return "the model"
