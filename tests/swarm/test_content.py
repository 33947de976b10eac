"""Answers with content: what they cost the peer that packs them, and what the one that reads them puts up with."""

import math
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from libp2p.network.stream.exceptions import StreamEOF, StreamReset

from p2pcap.codec import encode
from p2pcap.errors import FrameError
from p2pcap.swarm import content
from p2pcap.swarm.bandwidth import Line
from p2pcap.swarm.content import ANSWER_BYTES, Item, Packing, answer_content, read_answer
from p2pcap.swarm.frames import LENGTH, FrameReader, frame
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.messages import ContentRequest
from p2pcap.swarm.service import Kind
from tests.swarm.twin import ROOT, Twin, node, pack_answer, piece, stranger, within


@within(30)
async def test_an_item_asked_for_twice_is_refused_before_anything_is_read() -> None:
    async with node() as (a, at_a), stranger(a) as rude:
        (hash,) = at_a.offer(b"image")
        stream = await rude.open(topic_name(ROOT[:8], "image"))
        await stream.write(frame(encode({"wanted": [(hash, 0), (hash, 1)]})))
        with pytest.raises((StreamEOF, StreamReset)):
            await stream.read(1)
        assert at_a.asked_content == 0
        assert round(a.peers()[0].score) == -20


class Sink:
    """A stream that takes whatever is written, `seconds` for each write."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.taken = b""
        self._seconds = seconds

    async def write(self, data: bytes) -> None:
        self.taken += data
        await trio.sleep(self._seconds)


async def free(size: int) -> None:
    """Reading costs nothing."""


@within(30)
async def test_items_are_got_only_while_the_answer_has_room() -> None:
    twin = Twin()
    hashes = twin.offer(*(bytes([n]) * (ANSWER_BYTES // 4 + 1) for n in range(64)))
    await answer_content(twin, "image", Line(math.inf))("peer", ContentRequest([(hash, 0) for hash in hashes]), Sink())
    assert twin.asked_content == 4


class Large(Twin):
    """Holds anything, 16 MiB of it, and keeps none of it in memory."""

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        self.asked_content += 1
        return bytes(16 * 1024 * 1024)


@within(30)
async def test_a_request_costs_the_memory_of_one_item_and_one_answer() -> None:
    twin, size = Large(), 16 * 1024 * 1024
    wanted = [(bytes([n]) * 32, size - 10) for n in range(64)]
    tracemalloc.start()
    try:
        await answer_content(twin, "image", Line(math.inf))("peer", ContentRequest(wanted), Sink())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert twin.asked_content == 64
    assert peak < size + ANSWER_BYTES


def jumping(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(("rate", "seconds"), [(math.inf, 1.0), (20_000.0, 0.0)])
def test_an_answer_over_a_slow_line_is_cut_short_and_the_rest_asked_for_anew(rate: float, seconds: float) -> None:
    """Both when the line is capped here and when the network takes no more."""
    twin = Twin()
    images = [bytes([n]) * 150_000 for n in range(8)]
    hashes = twin.offer(*images)
    items = [Item(hash) for hash in hashes]

    async def main() -> None:
        rounds = 0
        while open := [item for item in items if not item.complete]:
            start, sink, rounds = trio.current_time(), Sink(seconds), rounds + 1
            request = ContentRequest([(item.hash, len(item.data)) for item in open])
            await answer_content(twin, "image", Line(rate))("peer", request, sink)
            assert trio.current_time() - start < content.ANSWER_SECONDS + 3
            assert await read_answer(FrameReader(Wire(sink.taken)), "peer", open, 10**6, free) == set()
        assert [bytes(item.data) for item in items] == images
        assert rounds == (6 if rate < math.inf else 25), "as little as 6 kB/s, in writes of a second each"

    jumping(main)


@pytest.mark.parametrize("sent", [1, 74, 75, 76, 150, 10_000])
def test_a_cut_answer_ends_with_a_whole_frame(sent: int) -> None:
    packing = Packing(60)
    packing.add(0, bytes(1_000), 0)
    whole = bytes(packing.end())
    sent = min(sent, len(whole))
    packing.cut(sent)
    answer, end = bytes(packing._frames), piece(0, content.END, 0)
    assert answer.endswith(end)
    assert whole.startswith(answer[: -len(end)])
    assert sent <= len(answer)
    assert (len(answer) - len(end)) % 74 == 0 or answer == whole


@within(10)
async def test_each_frame_is_paid_for_before_the_next_is_read() -> None:
    wire, paid = Wire(pack_answer([bytes(200_000)], [0])), []

    async def pay(size: int) -> None:
        paid.append(size - content.PIECE.size)

    await read_answer(FrameReader(wire), "peer", [Item(b"h")], 10**6, pay)
    first = [content.FIRST_PIECE] * (content.FIRST_BYTES // content.FIRST_PIECE)
    assert paid[: len(first)] == first, "over a slow line no more may get through"
    assert paid[len(first) : -1] == [65_536] * 2
    assert sum(paid) == 200_000


class Wire:
    """A stream that says what it was given, then ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, n: int) -> bytes:
        if not self._data:
            raise StreamEOF
        data, self._data = self._data[:n], self._data[n:]
        return data


@within(10)
@pytest.mark.parametrize(
    "answer",
    [
        piece(1, content.DATA, 4, b"data"),
        piece(0, 7, 4, b"data"),
        piece(0, content.DATA, 3, b"data"),
        frame(b"short"),
        LENGTH.pack(65_600) + bytes(65_600),
        piece(0, content.DATA, 2**60, bytes(65_536)) * (ANSWER_BYTES // 65_536 + 1),
        piece(0, content.DATA, 2**60, b"x") * (content.MAX_PIECES + 1),
        piece(0, content.ABSENT, 0) * (content.MAX_PIECES + 1),
    ],
)
async def test_an_answer_that_does_not_fit_the_request_is_an_error(answer: bytes) -> None:
    with pytest.raises(FrameError):
        await read_answer(FrameReader(Wire(answer)), "peer", [Item(b"h")], 2**62, free)


@within(10)
async def test_an_answer_without_its_end_is_not_whole() -> None:
    item = Item(b"h")
    with pytest.raises((StreamEOF, StreamReset)):
        await read_answer(FrameReader(Wire(piece(0, content.DATA, 9, b"data"))), "peer", [item], 100, free)
    assert item.data == b"data"


@within(10)
async def test_peers_that_disagree_about_a_length_start_again() -> None:
    item = Item(b"h")
    end = piece(0, content.END, 0)
    await read_answer(FrameReader(Wire(piece(0, content.DATA, 9, b"data") + end)), "a", [item], 100, free)
    answer = piece(0, content.DATA, 8, b"more") + piece(0, content.DATA, 8, b"more") + end
    assert await read_answer(FrameReader(Wire(answer)), "b", [item], 100, free) == {b"h"}
    assert item == Item(b"h")


def test_an_answer_stops_at_its_size_and_names_what_is_not_held() -> None:
    big = bytes(ANSWER_BYTES - 10)
    answer = pack_answer([None, big, b"0123456789abc", b"left for the next"], [0, 0, 0, 0])
    assert len(answer) < ANSWER_BYTES + 2_000
    assert answer.count(b"0123456789") == 1
    assert b"abc" not in answer
    assert b"left" not in answer
    assert pack_answer([b"short"], [6])[4:6] == bytes([0, content.ABSENT])
    assert Twin().contents == {}
