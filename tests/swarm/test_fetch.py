"""Fetching by hash: from several peers, in spite of liars, broken connections and slow consumers."""

import contextlib
import math
import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE

from p2pcap.codec import decode
from p2pcap.swarm import content
from p2pcap.swarm.content import ANSWER_BYTES, LONGEST_ANSWER
from p2pcap.swarm.frames import FrameReader
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.messages import ContentRequest
from p2pcap.swarm.requests import MAX_REQUEST
from p2pcap.swarm.swarm import Swarm
from tests.swarm.twin import ROOT, Stranger, hash_of, holds, node, pack_answer, piece, stranger, within

CAP = 64 * 1024 * 1024


async def fetched(swarm: Swarm, wanted: Sequence[bytes], cap: int = CAP) -> dict[bytes, bytes]:
    async with aclosing(swarm.fetch("image", wanted, None, holds, cap)) as arriving:
        return {hash: data async for hash, data in arriving}


def serve_as(other: Stranger, answer: Any) -> None:
    other.host.set_stream_handler(topic_name(ROOT[:8], "image"), answer)


async def wanted_by(stream: Any) -> list[tuple[bytes, int]]:
    return decode(await FrameReader(stream).read(MAX_REQUEST), ContentRequest, MAX_REQUEST).wanted


def reading(answer: Any) -> Any:
    """`answer`, called once the request has been read."""

    async def handle(stream: Any) -> None:
        await wanted_by(stream)
        await answer(stream)

    return handle


class Silent:
    """Takes requests for images and says nothing; from the `patience`-th on it answers with `contents`."""

    def __init__(self, other: Stranger, *contents: bytes, patience: float = float("inf")) -> None:
        self.asked = 0
        self._contents = {hash_of(content): content for content in contents}
        self._patience = patience
        serve_as(other, self._take)

    async def _take(self, stream: Any) -> None:
        wanted = await wanted_by(stream)
        self.asked += 1
        if self.asked < self._patience:
            await trio.sleep_forever()
        await stream.write(pack_answer([self._contents.get(hash) for hash, _ in wanted], [at for _, at in wanted]))
        await stream.close()


@within(60)
async def test_many_small_items_from_two_peers_that_hold_halves() -> None:
    async with node() as (a, at_a), node() as (b, at_b), node(a.addresses[0], b.addresses[0]) as (c, at_c):
        await at_c.met(a, b)
        images = [os.urandom(1_000 + n) for n in range(400)]
        at_a.offer(*images[:250])
        at_b.offer(*images[150:])
        got = await fetched(c, [hash_of(image) for image in images])
        assert set(got.values()) == set(images)
        assert at_a.asked_content
        assert at_b.asked_content


@within(60)
async def test_a_liar_costs_itself_and_nobody_misses_anything() -> None:
    async with node() as (a, at_a), node() as (b, at_b), node(a.addresses[0], b.addresses[0]) as (c, at_c):
        await at_c.met(a, b)
        images = [b"image %d" % n * 50 for n in range(20)]
        hashes = at_a.offer(*images)
        at_b.contents = {hash_of(image): bytes(len(image)) for image in images}
        got = await fetched(c, hashes)
        assert set(got.values()) == set(images)
        scores = {peer.peer_id: peer.score for peer in c.peers()}
        assert scores[a.peer_id] == 0
        assert scores.get(b.peer_id, -100) < -30, "it may be banned by now"


@within(60)
async def test_what_nobody_has_is_not_delivered() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        (here,) = at_a.offer(b"here")
        assert await fetched(b, [hash_of(b"nowhere"), here]) == {here: b"here"}
        assert await fetched(b, [hash_of(b"nowhere")]) == {}
        assert await fetched(b, []) == {}
        assert b.peers()[0].score == 0


@within(60)
async def test_without_peers_nothing_is_delivered() -> None:
    async with node() as (a, _):
        assert await fetched(a, [hash_of(b"x")]) == {}


@within(60)
async def test_empty_content_is_content() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        hashes = at_a.offer(b"", b"x")
        assert await fetched(b, hashes) == {hash_of(b""): b"", hash_of(b"x"): b"x"}


@within(60)
async def test_more_than_the_cap_is_not_taken() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        large, small = at_a.offer(bytes(1_001), bytes(1_000))
        assert await fetched(b, [large, small], cap=1_000) == {small: bytes(1_000)}


@within(60)
async def test_files_are_served_from_disk_over_several_answers(tmp_path: Path) -> None:
    data = os.urandom(2 * ANSWER_BYTES + 12_345)
    path = tmp_path / "weights"
    path.write_bytes(data)
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        at_a.contents = {hash_of(data): path, hash_of(b"lost"): tmp_path / "lost"}
        assert await fetched(b, [hash_of(b"lost"), hash_of(data)]) == {hash_of(data): data}
        assert at_a.asked_content >= 4


@within(60)
async def test_a_broken_answer_is_resumed_where_it_broke() -> None:
    data = os.urandom(300_000)
    offsets = []

    async def break_off(stream: Any) -> None:
        ((_, offset),) = await wanted_by(stream)
        offsets.append(offset)
        answer = pack_answer([data], [offset])
        await stream.write(answer[: 2 * 65_550 + 100] if offset < 200_000 else answer)
        await (stream.reset() if offset < 200_000 else stream.close())

    async with node() as (a, _), stranger(a) as flaky:
        serve_as(flaky, break_off)
        assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}
    assert offsets == [0, 131_072, 262_144]


@within(60)
async def test_another_peer_goes_on_where_the_first_broke_off() -> None:
    data = os.urandom(300_000)
    asked = trio.Event()

    async def begin(stream: Any) -> None:
        ((_, offset),) = await wanted_by(stream)
        asked.set()
        await stream.write(pack_answer([data], [offset])[:140_000])
        await stream.reset()

    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b), stranger(a) as flaky:
        await at_a.met(b)
        at_b.offer(data)
        serve_as(flaky, begin)
        assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}


@within(60)
async def test_bytes_of_two_peers_that_do_not_fit_are_blamed_on_nobody() -> None:
    """A liar that begins an item must not get the honest peer banned that ends it."""
    data = os.urandom(300_000)

    async def poison(stream: Any) -> None:
        ((_, offset),) = await wanted_by(stream)
        await stream.write(pack_answer([bytes(300_000)], [offset])[:140_000])
        await stream.reset()

    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b), stranger(a) as liar:
        await at_a.met(b)
        at_b.offer(data)
        serve_as(liar, poison)
        for _ in range(4):
            assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}
        assert {peer.peer_id: peer.score for peer in a.peers()}[b.peer_id] == 0


@within(60)
async def test_a_peer_that_only_drips_does_not_hold_a_fetch() -> None:
    data = os.urandom(1_000)

    async def drip(stream: Any) -> None:
        ((_, offset),) = await wanted_by(stream)
        offsets.append(offset)
        await stream.write(piece(0, content.DATA, 1_000, data[offset : offset + 1]) + piece(0, content.END, 0))
        await stream.close()

    offsets: list[int] = []
    async with node() as (a, _), stranger(a) as slow:
        serve_as(slow, drip)
        assert await fetched(a, [hash_of(data)]) == {}
    assert offsets == [0, 1]


@within(60)
async def test_a_consumer_that_stops_reading_breaks_nothing() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        hashes = at_a.offer(*(os.urandom(20_000) for _ in range(500)))
        async with aclosing(b.fetch("image", hashes, None, holds, CAP)) as arriving:
            async for hash, data in arriving:
                assert holds(hash, data)
                await at_a.until(lambda: at_a.asked_content >= 128)
                break
        assert len(await fetched(b, hashes)) == 500


@within(60)
async def test_an_error_of_verify_reaches_the_caller() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)

        def broken(hash: bytes, data: bytes) -> bool:
            raise ZeroDivisionError

        with pytest.raises(ExceptionGroup) as raised:
            async for _ in b.fetch("image", at_a.offer(b"x"), None, broken, CAP):
                pass
        assert raised.group_contains(ZeroDivisionError)
        assert (await b.status(a.peer_id)).root == ROOT


@within(30)
async def test_what_a_silent_peer_has_in_hand_comes_from_another() -> None:
    """Nothing ends the silent peer's request in this test, so waiting for it would never end."""
    async with (
        node(request_timeout=3_600.0, take_over_after=0.1, stall_after=3_600.0) as (a, at_a),
        node(a.addresses[0]) as (b, at_b),
        stranger(a) as other,
    ):
        await at_a.met(b)
        silent = Silent(other)
        images = [os.urandom(1_000 + n) for n in range(64)]
        hashes = at_b.offer(*images)
        assert set((await fetched(a, hashes)).values()) == set(images)
        assert set((await fetched(a, hashes)).values()) == set(images)
        assert silent.asked <= 1, "it is passed over for a while"
        assert [peer.score for peer in a.peers()] == [0, 0], "one lapse is no misbehaviour"


@within(30)
async def test_a_peer_without_progress_is_given_up() -> None:
    async with node(request_timeout=3_600.0, stall_after=0.1) as (a, _), stranger(a) as other:
        silent = Silent(other)
        assert await fetched(a, [hash_of(b"x")]) == {}
        assert silent.asked == 2


@within(30)
async def test_a_peer_with_some_progress_is_not_given_up() -> None:
    data = os.urandom(300_000)
    requests = []

    async def slowly(stream: Any) -> None:
        requests.append(await wanted_by(stream))
        answer = pack_answer([data], [0])
        for start in range(0, len(answer), 30_000):
            await trio.sleep(0.25)  # its uplink: in all it takes longer than anybody may be silent
            await stream.write(answer[start : start + 30_000])
        await stream.close()

    async with node(stall_after=1.5) as (a, _), stranger(a) as slow:
        serve_as(slow, slowly)
        assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}
    assert len(requests) == 1


@within(30)
async def test_an_only_source_is_waited_for_longer_and_not_blamed() -> None:
    """Everybody asks the one who has it, over a line that leaves gaps of seconds."""
    data = os.urandom(40_000)
    requests = []

    async def slowly(stream: Any) -> None:
        requests.append(await wanted_by(stream))
        answer = pack_answer([data], [0])
        for start in range(0, len(answer), 10_000):
            await trio.sleep(0.6)  # twice as long as anybody else may be silent
            await stream.write(answer[start : start + 10_000])
        await stream.close()

    async with node(stall_after=0.3, take_over_after=0.1) as (a, _), stranger(a) as slow:
        serve_as(slow, slowly)
        assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}
        assert a.peers()[0].score == 0.0
    assert len(requests) == 1


@within(30)
async def test_a_peer_that_stalled_is_asked_for_what_nobody_else_has() -> None:
    async with (
        node(request_timeout=3_600.0, take_over_after=0.1, stall_after=1.0) as (a, at_a),
        node(a.addresses[0]) as (b, at_b),
        stranger(a) as other,
    ):
        await at_a.met(b)
        (everywhere,) = at_b.offer(b"everywhere")
        Silent(other, b"only here", patience=2)
        wanted = [hash_of(b"only here"), everywhere]
        assert await fetched(a, wanted) == {wanted[0]: b"only here", everywhere: b"everywhere"}
        assert await fetched(a, wanted) == {wanted[0]: b"only here", everywhere: b"everywhere"}


@within(30)
async def test_two_silent_peers_cannot_keep_an_item_from_the_third() -> None:
    async with (
        node(request_timeout=3_600.0, take_over_after=0.1, stall_after=3_600.0) as (a, at_a),
        node(a.addresses[0]) as (b, at_b),
        stranger(a) as one,
        stranger(a) as two,
    ):
        await at_a.met(b)
        Silent(one)
        Silent(two)
        hashes = at_b.offer(b"first", b"second", b"third")
        for hash in hashes:
            assert set(await fetched(a, [hash])) == {hash}
        assert set(await fetched(a, hashes)) == set(hashes)


@within(30)
async def test_an_item_begun_by_a_silent_peer_is_ended_by_another_and_arrives_once() -> None:
    data = os.urandom(300_000)

    async def begin(stream: Any) -> None:
        ((_, offset),) = await wanted_by(stream)
        await stream.write(pack_answer([data], [offset])[:140_000])
        await trio.sleep_forever()

    async with (
        node(request_timeout=3_600.0, take_over_after=0.1, stall_after=3_600.0) as (a, at_a),
        node(a.addresses[0]) as (b, at_b),
        stranger(a) as other,
    ):
        await at_a.met(b)
        at_b.offer(data)
        serve_as(other, begin)
        arrived = [item async for item in a.fetch("image", [hash_of(data)], [other.peer_id, b.peer_id], holds, CAP)]
        assert arrived == [(hash_of(data), data)]


@within(30)
async def test_an_item_taken_over_from_a_silent_peer_is_resumed_where_the_second_broke_off() -> None:
    """Each of the two peers has one item in hand at first; in the end the second has brought both."""
    items = {hash_of(data): data for data in (os.urandom(300_000), os.urandom(300_000))}
    asked: list[tuple[bytes, int]] = []

    async def break_off(stream: Any) -> None:
        ((hash, offset),) = await wanted_by(stream)
        asked.append((hash, offset))
        answer = pack_answer([items[hash]], [offset])
        await stream.write(answer[:140_000] if offset == 0 else answer)
        await (stream.reset() if offset == 0 else stream.close())

    async with (
        node(request_timeout=3_600.0, take_over_after=0.1, stall_after=3_600.0) as (a, _),
        stranger(a) as one,
        stranger(a) as two,
    ):
        Silent(one)
        serve_as(two, break_off)
        assert await fetched(a, list(items)) == items
    assert sorted(asked) == sorted((hash, offset) for hash in items for offset in (0, 131_072))


@within(30)
async def test_an_item_wanted_twice_is_asked_for_once() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        (hash,) = at_a.offer(b"image")
        assert await fetched(b, [hash, hash]) == {hash: b"image"}
        assert at_a.asked_content == 1


@within(60)
async def test_a_cap_on_uploads_delays_content_and_nothing_else() -> None:
    async with node(upload=1e6) as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        images = [os.urandom(100_000 + n) for n in range(12)]
        hashes = at_a.offer(*images)
        arrived: list[bytes] = []
        async with aclosing(b.fetch("image", hashes, None, holds, CAP)) as arriving, trio.open_nursery() as nursery:
            nursery.start_soon(b.status, a.peer_id)
            async for _, data in arriving:
                arrived.append(data)
                await b.status(a.peer_id)
        assert set(arrived) == set(images)
        assert a.network().uploaded > sum(map(len, images))
        assert b.network().downloaded > sum(map(len, images))


@within(60)
async def test_waiting_for_our_own_cap_is_no_stall_of_the_peer() -> None:
    """A piece takes longer under this cap than any peer may be silent, and other peers are not asked beside."""
    async with (
        node(download=150_000.0, take_over_after=0.2, stall_after=0.2) as (a, at_a),
        node(a.addresses[0]) as (b, at_b),
        node(a.addresses[0]) as (c, at_c),
    ):
        await at_a.met(b, c)
        images = [os.urandom(200_000) for _ in range(2)]
        hashes = at_b.offer(*images)
        at_c.offer(*images)
        assert set((await fetched(a, hashes)).values()) == set(images)
        assert at_b.asked_content + at_c.asked_content == 2
        assert [peer.score for peer in a.peers()] == [0, 0]


async def left_of_window(stream: Any) -> int:
    """What the asking side still lets us send, after it has closed its end of the stream."""
    with contextlib.suppress(StreamEOF):
        await stream.read(1)
    return int(stream.muxed_stream.send_window)


@within(60)
@pytest.mark.parametrize("download", [math.inf, 1e9])
async def test_a_whole_answer_may_come_at_once_unless_a_cap_of_ours_holds_it_back(download: float) -> None:
    data = os.urandom(100_000 if download < math.inf else ANSWER_BYTES)
    left: list[int] = []
    ended = trio.Event()

    async def answer(stream: Any) -> None:
        content = pack_answer([data], [0])
        await stream.write(content)
        left.append(await left_of_window(stream) + len(content))
        ended.set()
        await stream.close()

    async with node(download=download) as (a, _), stranger(a) as other:
        serve_as(other, reading(answer))
        assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}
        await ended.wait()
    most = DEFAULT_WINDOW_SIZE + (0 if download < math.inf else LONGEST_ANSWER)
    assert most - 1_000 < left[0] <= most


@within(60)
async def test_a_peer_that_sends_on_after_its_answer_is_cut_off() -> None:
    async def send_on(stream: Any) -> None:
        await stream.write(piece(0, content.DATA, 1, b"x") + piece(0, content.END, 0))
        await left_of_window(stream)
        while True:
            await stream.write(bytes(60_000))

    async with node() as (a, at_a), stranger(a) as other:
        serve_as(other, reading(send_on))
        assert await fetched(a, [hash_of(b"x")]) == {hash_of(b"x"): b"x"}
        await at_a.until(lambda: ("disconnect", other.peer_id) in at_a.events)


@within(60)
async def test_an_answer_that_comes_slowly_is_asked_for_in_turns_and_held_against_nobody() -> None:
    data = os.urandom(400_000)
    offsets = []

    async def slowly(stream: Any) -> None:
        ((_, offset),) = await wanted_by(stream)
        offsets.append(offset)
        answer = pack_answer([data], [offset])
        for start in range(0, len(answer), 70_000):
            await stream.write(answer[start : start + 70_000])
            await trio.sleep(0.3)  # its uplink: in all it takes longer than a request may
        await stream.close()

    async with node(request_timeout=1.0) as (a, _), stranger(a) as slow:
        serve_as(slow, slowly)
        assert await fetched(a, [hash_of(data)]) == {hash_of(data): data}
        assert a.peers()[0].score == 0
    assert len(offsets) > 1
    assert offsets == sorted(set(offsets))
