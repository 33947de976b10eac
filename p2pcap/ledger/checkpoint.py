"""Checkpoints: signed numbers that seal what the table says, so that nothing said later can change it.

A checkpoint names, by hash, the ids of the statements it seals (in segments), which slices have rows (coverage), and
the tiers of authors; and it holds fresh random bytes, the beacon, which break ties that nobody could have worked
towards before. A node that followed along has the sealed statements already and works the segments out by itself; one
that joins fetches 32 bytes for each statement, and then the statements from whoever has them.

Always holds: `Seals` takes checkpoints one after the other, each naming the one before it by hash, and never takes one
back.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import msgspec
import zstandard

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.project.record import Count, Hash, Record
from p2pcap.project.records import MAX_FORMER_TASKS, MAX_STAGES, SLICE, Prefix, TaskId

ID = 32
SEGMENT_IDS = 131_072
"""Ids in one segment: 4 MiB."""

MAX_SEGMENTS = 4
"""Segments of one checkpoint; what is left waits for the next one."""

MAX_TASKS = MAX_STAGES + MAX_FORMER_TASKS
MAX_TIERS = 4 * 1024 * 1024
MAX_TIER = 2
EVERY_SECONDS = 1_800
EVERY_CAPTIONS = 50_000
"""A checkpoint is due after this long or this many captions, whichever comes first (docs/protocol.md, Checkpoints)."""

SETTLE = 60
"""Seconds old a statement is before it is sealed: by then nodes that are connected have it too."""


class Blob(Record, frozen=True):
    """Bytes that can be asked for by their SHA-256."""

    hash: Hash
    length: Annotated[int, msgspec.Meta(ge=0, le=64 * 1024 * 1024)]


class Segment(Record, frozen=True):
    """A run of ids, ascending by (time, id): the hash of their concatenation, how many, first and last time."""

    hash: Hash
    count: Annotated[int, msgspec.Meta(ge=1, le=SEGMENT_IDS)]
    first: Count
    last: Count


class Checkpoint(Record, frozen=True):
    """Seals the statements in its segments. `prev` is SHA-256 of the payload of checkpoint `number` - 1, zeros for 1.

    `statements` and `captions` count what is sealed by all checkpoints up to this one.
    """

    m: Prefix
    number: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    prev: Hash
    segments: Annotated[tuple[Segment, ...], msgspec.Meta(max_length=MAX_SEGMENTS)]
    coverage: Blob
    tiers: Blob
    beacon: Hash
    statements: Count
    captions: Count
    time: Count


class Stamp(Record, frozen=True):
    """What is newest, by the coordinator's word: root version, manifest and checkpoint with their payloads' hashes."""

    m: Prefix
    version: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    root: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    manifest: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    manifest_hash: Hash
    checkpoint: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    checkpoint_hash: Hash
    time: Count
    expires: Count


@dataclass(frozen=True)
class Seal:
    """One checkpoint as it bears on ranks: number, payload hash, beacon, and tiers by author (0 when not named)."""

    number: int
    hash: bytes
    beacon: bytes
    tiers: Mapping[bytes, int]

    def tie(self, id_: bytes) -> bytes:
        """Decides between results that this checkpoint seals: the lower one wins."""
        return hashlib.sha256(self.beacon + id_).digest()


@dataclass
class Seals:
    """The chain of checkpoints that this node has taken, and what each seals."""

    chain: list[Seal] = field(default_factory=list)
    by_id: dict[bytes, int] = field(default_factory=dict)

    @property
    def head(self) -> int:
        """The number of the newest one, 0 for none."""
        return len(self.chain)

    @property
    def head_hash(self) -> bytes:
        """SHA-256 of the newest one's payload, zeros for none."""
        return self.chain[-1].hash if self.chain else bytes(32)

    def take(self, seal: Seal, ids: Iterable[bytes]) -> None:
        """The next checkpoint, with the ids it seals. An id that an earlier one seals stays there."""
        if seal.number != self.head + 1:
            raise ValueError(f"checkpoint {seal.number} does not follow number {self.head}")
        self.chain.append(seal)
        for id_ in ids:
            self.by_id.setdefault(id_, seal.number)

    def moved_by(self, seal: Seal) -> set[bytes]:
        """The authors whose tier the next checkpoint changes."""
        held = self.chain[-1].tiers if self.chain else {}
        return {author for author in {*held, *seal.tiers} if held.get(author, 0) != seal.tiers.get(author, 0)}

    def of(self, id_: bytes) -> Seal | None:
        """The checkpoint that seals a statement."""
        number = self.by_id.get(id_)
        return self.chain[number - 1] if number is not None else None

    def tier(self, author: bytes) -> int:
        """The author's tier by the newest checkpoint."""
        return self.chain[-1].tiers.get(author, 0) if self.chain else 0


def segments(keys: Sequence[tuple[int, bytes]]) -> list[tuple[Segment, bytes]]:
    """Segments with their blobs over (time, id) keys in ascending order; at most MAX_SEGMENTS, the rest is left out."""
    made = []
    for start in range(0, min(len(keys), MAX_SEGMENTS * SEGMENT_IDS), SEGMENT_IDS):
        run = keys[start : start + SEGMENT_IDS]
        data = b"".join(id_ for _, id_ in run)
        made.append((Segment(hashlib.sha256(data).digest(), len(run), run[0][0], run[-1][0]), data))
    return made


def open_segment(data: bytes, segment: Segment) -> list[bytes]:
    """The ids in a segment's blob. Raises UntrustedError when it is not the one that `segment` names."""
    if len(data) != ID * segment.count or hashlib.sha256(data).digest() != segment.hash:
        raise UntrustedError("A segment is not the one its checkpoint names.")
    return [data[start : start + ID] for start in range(0, len(data), ID)]


def coverage_blob(covered: Mapping[bytes, Mapping[int, int]], counts: Sequence[int]) -> bytes:
    """For each task, in the order of ids, one bit for each slice of each chunk, in order: set when `covered` (items by
    task and chunk) holds the whole slice. `counts` are the chunks' numbers of images."""
    maps = [(tid, _slices_covered(covered[tid], counts)) for tid in sorted(covered)]
    return zstandard.ZstdCompressor().compress(encode(maps))


def _slices_covered(covered: Mapping[int, int], counts: Sequence[int]) -> bytes:
    raw = bytearray(_map_length(counts))
    for number, (index, items) in enumerate(slice_masks(counts)):
        if covered.get(index, 0) & items == items:
            raw[number // 8] |= 1 << number % 8
    return bytes(raw)


COVERAGE = Annotated[tuple[tuple[TaskId, bytes], ...], msgspec.Meta(max_length=MAX_TASKS)]


def open_coverage(data: bytes, counts: Sequence[int]) -> dict[bytes, dict[int, int]]:
    """The covered items of each chunk, by task. A map may end before the last chunks: they came later. Raises
    UntrustedError for a map that is too long, or is none."""
    most = MAX_TASKS * (_map_length(counts) + 32)
    try:
        if zstandard.get_frame_parameters(data).content_size > most:
            raise UntrustedError("A coverage map is larger than the project.")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=most, allow_extra_data=False)
        maps = decode(raw, COVERAGE, most)
    except (zstandard.ZstdError, CodecError) as error:
        raise UntrustedError(f"A coverage map cannot be read: {error}.") from error
    if any(len(bits) > _map_length(counts) for _, bits in maps):
        raise UntrustedError("A coverage map has more slices than the project.")
    return {tid: _items_covered(bits, counts) for tid, bits in maps}


def _items_covered(bits: bytes, counts: Sequence[int]) -> dict[int, int]:
    covered: dict[int, int] = {}
    for number, (index, items) in enumerate(slice_masks(counts)):
        if number // 8 >= len(bits):
            break
        if bits[number // 8] >> number % 8 & 1:
            covered[index] = covered.get(index, 0) | items
    return covered


def _map_length(counts: Sequence[int]) -> int:
    return -(-sum(-(-count // SLICE) for count in counts) // 8)


def slice_masks(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each slice of a project in order: its chunk, and its items as bits of the chunk."""
    for index, count in enumerate(counts):
        for offset in range(0, count, SLICE):
            yield index, ((1 << min(SLICE, count - offset)) - 1) << offset


TIERS = tuple[tuple[Hash, Annotated[int, msgspec.Meta(ge=1, le=MAX_TIER)]], ...]


def tiers_blob(tiers: Mapping[bytes, int]) -> bytes:
    """Authors above tier 0 with their tiers, in the order of their keys."""
    return encode(sorted((author, tier) for author, tier in tiers.items() if tier))


def open_tiers(data: bytes) -> dict[bytes, int]:
    """Tiers by author. Raises UntrustedError for what is no tiers blob."""
    try:
        pairs = decode(data, TIERS, MAX_TIERS)
    except CodecError as error:
        raise UntrustedError(f"A table of tiers cannot be read: {error}") from error
    if any(one[0] >= other[0] for one, other in pairwise(pairs)):
        raise UntrustedError("A table of tiers is not in order.")
    return dict(pairs)


def blob_of(data: bytes) -> Blob:
    """How a record names `data`."""
    return Blob(hashlib.sha256(data).digest(), len(data))
