"""Bytes by hash: how blobs, bodies and images travel.

A request names up to 64 (hash, offset) pairs, no hash twice. The answer is a run of frames, each a piece of one item,
or "not held", and a last one that says the answer is whole. One answer carries at most ANSWER_BYTES and begins no
further piece after ANSWER_SECONDS; what did not fit, or did not arrive, is asked for again from the offset reached. So
no answer takes long, also over a slow or capped line; the reader can take it in without ever waiting for whoever wants
the bytes; and a broken connection costs nothing that had arrived.

Always holds: nothing is allocated for an announced length, only for bytes that came.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pcap.errors import FrameError
from p2pcap.swarm.bandwidth import LEAST_PART, Line
from p2pcap.swarm.frames import LENGTH, WRITE_SIZE, FrameReader
from p2pcap.swarm.messages import ContentRequest
from p2pcap.swarm.requests import Answer
from p2pcap.swarm.service import Kind, Service

ANSWER_BYTES = 4 * 1024 * 1024
ANSWER_SECONDS = 10.0
"""A third of what a request may take (`SwarmSettings.request_timeout`), since what is on its way by then takes time to
arrive too."""
PIECE_BYTES = 64 * 1024
FIRST_PIECE = 8 * 1024
FIRST_BYTES = 64 * 1024
"""An answer begins with so many bytes in small pieces: over a slow line no more than that gets through in time."""
MAX_PIECES = 2 * ANSWER_BYTES // LEAST_PART
"""Frames in one answer. Whoever serves over a slow line cuts its pieces small, and each frame costs its reader time."""
FIRST_PART = 8 * 1024
"""Bytes of an answer written at first; more as long as the peer's line takes them at once."""
QUICK_SECONDS = 0.1
SLOW_SECONDS = 0.5
"""A write that took less is followed by one of twice the size, one that took more by one of half of it."""
SMALL_PART = 4 * 1024
PIECE = struct.Struct(">BBQ")
"""After the frame's length: the item's index in the request, what the frame is, the item's total length."""
DATA, ABSENT, END = 0, 1, 2
LONGEST_ANSWER = ANSWER_BYTES + MAX_PIECES * (LENGTH.size + PIECE.size)
"""Bytes of one answer with its framing, at most."""

Buffer = bytes | memoryview
Pay = Callable[[int], Awaitable[None]]


@dataclass
class Item:
    """One wanted item: what has arrived of it, from whom, and its total length once a peer named it."""

    hash: bytes
    data: bytearray = field(default_factory=bytearray)
    total: int | None = None
    sources: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether every byte is here; nothing is said about their hash."""
        return self.total is not None and len(self.data) == self.total

    def restart(self) -> None:
        """Forget what has arrived."""
        self.data, self.total, self.sources = bytearray(), None, set()


def answer_content(service: Service, kind: Kind, up: Line) -> Answer:
    """What serves requests for `kind` out of `service`, over a line shared with all other content.

    Items are got one at a time and only while the answer has room, so a request costs no more memory than its largest
    item and one answer, whatever it names.
    """

    async def answer(peer: str, request: ContentRequest, stream: Any) -> None:
        packing = Packing(min(PIECE_BYTES, up.part))
        for index, (hash, offset) in enumerate(request.wanted):
            if packing.room <= 0:
                break
            await _pack(packing, index, await service.content(kind, hash), offset)
        await _send(stream, packing, peer, up)

    return answer


async def _send(stream: Any, packing: "Packing", peer: str, up: Line) -> None:
    answer = packing.end()
    late = trio.current_time() + ANSWER_SECONDS
    sent, size = 0, FIRST_PART
    while sent < len(answer):
        with memoryview(answer)[sent : sent + min(size, up.part)] as part:  # `cut` needs it released
            await up.take(peer, len(part))
            begun = trio.current_time()
            await stream.write(part)
            sent += len(part)
        size = _next_part(size, trio.current_time() - begun)
        if trio.current_time() > late:
            packing.cut(sent)


def _next_part(size: int, seconds: float) -> int:
    """How much to write at a time after `size` bytes took so long.

    A part reaches the reader whole or not at all: one that takes seconds on the way looks like a peer that has stalled.
    """
    if seconds < QUICK_SECONDS:
        return min(2 * size, WRITE_SIZE)
    return max(SMALL_PART, size // 2) if seconds > SLOW_SECONDS else size


async def _pack(packing: "Packing", index: int, source: bytes | Path | None, offset: int) -> None:
    if isinstance(source, Path):
        await trio.to_thread.run_sync(packing.add, index, source, offset)
    else:
        packing.add(index, source, offset)


class Packing:
    """The frames of one answer in the making; `room` is how many bytes of content it still takes."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self.room = ANSWER_BYTES
        self._piece_bytes = piece_bytes
        self._frames = bytearray()
        self._ends: list[int] = []

    def add(self, index: int, source: bytes | Path | None, offset: int) -> None:
        """Copy in what fits of one item. May read a file; one that cannot be read counts as not held."""
        found = _cut(source, offset, self.room)
        if found is None:
            self._add_frame(index, ABSENT, 0)
            return
        data, total = found
        self.room -= len(data)
        start = 0
        while start < len(data) or not start:
            size = min(self._piece_bytes, FIRST_PIECE if len(self._frames) < FIRST_BYTES else PIECE_BYTES)
            self._add_frame(index, DATA, total, data[start : start + size])
            start += size

    def end(self) -> bytearray:
        """The whole answer. It gets shorter when it is cut."""
        self._add_frame(0, END, 0)
        return self._frames

    def cut(self, sent: int) -> None:
        """End the answer after the frame in which byte `sent` lies, if any is left after it."""
        kept = self._ends[bisect_left(self._ends, sent)]
        if kept < self._ends[-1]:
            del self._ends[bisect_right(self._ends, kept) :]
            del self._frames[kept:]
            self._add_frame(0, END, 0)

    def _add_frame(self, index: int, state: int, total: int, data: Buffer = b"") -> None:
        self._frames += LENGTH.pack(PIECE.size + len(data)) + PIECE.pack(index, state, total)
        self._frames += data
        self._ends.append(len(self._frames))


def _cut(source: bytes | Path | None, offset: int, room: int) -> tuple[Buffer, int] | None:
    if source is None:
        return None
    if isinstance(source, bytes):
        return (memoryview(source)[offset : offset + room], len(source)) if offset <= len(source) else None
    try:
        with source.open("rb") as file:
            total = file.seek(0, 2)
            file.seek(offset)
            return (file.read(room), total) if offset <= total else None
    except OSError:
        return None


async def read_answer(reader: FrameReader, peer: str, items: Sequence[Item], cap: int, pay: Pay) -> set[bytes]:
    """Take an answer of `peer` into `items`; what has arrived stays in them if this raises.

    `pay` is awaited with the size of each frame before the next one is read. Returns the hashes the peer does not hold,
    or holds with more than `cap` bytes. Raises FrameError when the answer does not fit the request.
    """
    absent: set[bytes] = set()
    room = ANSWER_BYTES
    for _ in range(MAX_PIECES):
        data = await reader.read(PIECE.size + PIECE_BYTES)
        if len(data) < PIECE.size:
            raise FrameError("A piece has no header.")
        index, state, total = PIECE.unpack_from(data)
        if state == END:
            return absent
        room -= len(data) - PIECE.size
        if index >= len(items) or state not in (DATA, ABSENT) or room < 0:
            raise FrameError("A piece was not asked for.")
        item = items[index]
        if item.hash in absent or state == ABSENT or total > cap or not _append(item, peer, total, data):
            absent.add(item.hash)
        await pay(len(data))
    raise FrameError(f"An answer has more than {MAX_PIECES} pieces.")


def _append(item: Item, peer: str, total: int, data: bytes) -> bool:
    if item.total is not None and item.total != total:
        item.restart()  # two peers disagree about its length, and the bytes of both would not fit together
        return False
    if len(item.data) + len(data) - PIECE.size > total:
        raise FrameError("An item has more bytes than its announced length.")
    item.total = total
    item.data += memoryview(data)[PIECE.size :]
    item.sources.add(peer)
    return True
