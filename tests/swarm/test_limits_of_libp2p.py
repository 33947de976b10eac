"""Each limit with what it is for: upstream's own code does without it what a stranger tells it to.

When one of the `upstream mends this` assertions fails after an upgrade of libp2p, that limit can go.
"""

from typing import Any

import pytest
import trio
import trio.testing
from libp2p.crypto.exceptions import CryptographyError
from libp2p.crypto.rsa import create_new_key_pair as create_rsa
from libp2p.exceptions import ParseError
from libp2p.pubsub import pubsub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.security.noise import messages as noise
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.utils import varint

from p2pcap.swarm import hardening
from p2pcap.swarm.limits import (
    FRAMES_PER_SECOND,
    FRAMES_SAVED,
    MAX_FRAME,
    MAX_NAME,
    QUEUED_BYTES,
    QUEUED_RPCS,
    STREAMS_PER_SECOND,
    STREAMS_SAVED,
    Backlog,
    Pace,
)
from tests.swarm.hostile import OPEN, RESET, delimited, frame
from tests.swarm.test_hardening import Dribble, connection, in_virtual_time, use_upstream
from tests.swarm.twin import within

hardening.install()


@in_virtual_time
async def test_streams_opened_and_reset_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    number = int(STREAMS_SAVED + 3 * STREAMS_PER_SECOND)

    async def seconds() -> float:
        async with connection() as (ours, theirs):
            began = trio.current_time()
            await ours.secured_conn.write(b"".join(OPEN(id, 0) + RESET(id, 0) for id in range(1, 2 * number, 2)))
            for _ in range(number):
                await theirs.accept_stream()
            return trio.current_time() - began

    assert await seconds() == pytest.approx(3, abs=0.5)
    use_upstream(monkeypatch, Yamux, "accept_stream")
    assert await seconds() < 1, "upstream mends this: limits.pace_streams can go"


@in_virtual_time
async def test_tiny_frames_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = frame(yamux.TYPE_DATA, 0, 99, 0) * int(FRAMES_SAVED + 3 * FRAMES_PER_SECOND)

    async def seconds() -> float:
        async with connection() as (ours, theirs):
            began = trio.current_time()
            await ours.secured_conn.write(tiny + OPEN(1, 0))
            await theirs.accept_stream()
            return trio.current_time() - began

    assert await seconds() == pytest.approx(3, abs=0.5)
    use_upstream(monkeypatch, Yamux, "handle_incoming")
    use_upstream(monkeypatch, yamux, "read_exactly")
    assert await seconds() < 1, "upstream mends this: the first half of limits.pace_frames can go"


@in_virtual_time
async def test_large_frames_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection() as (ours, theirs):
        out = await ours.open_stream()
        into = await theirs.accept_stream()
        began = trio.current_time()
        for _ in range(int(2 * FRAMES_SAVED)):
            await out.write(bytes(2_000))
            await into.read(2_000)
        assert trio.current_time() - began < 1
    assert monkeypatch


@within(10)
@pytest.mark.parametrize("mended", [True, False])
async def test_a_frame_too_large_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        use_upstream(monkeypatch, Yamux, "handle_incoming")
        use_upstream(monkeypatch, yamux, "read_exactly")
    async with connection() as (ours, theirs):
        await ours.secured_conn.write(frame(yamux.TYPE_DATA, 0, 99, MAX_FRAME + 1, bytes(MAX_FRAME)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert theirs.event_closed.is_set() == mended, "upstream mends this: limits.pace_frames can do without"


@within(10)
@pytest.mark.parametrize("mended", [True, False])
async def test_what_is_unread_goes_with_a_stream_reset_by_us(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        use_upstream(monkeypatch, YamuxStream, "reset")
    async with connection() as (ours, theirs):
        out = await ours.open_stream()
        into = await theirs.accept_stream()
        await out.write(bytes(100_000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await into.reset()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert bool(theirs.stream_buffers) != mended, "upstream mends this: half of limits.drop_unread can go"


def test_a_pace_tells_of_each_second_of_excess() -> None:
    async def main() -> None:
        told: list[float] = []
        pace = Pace(10.0, 20.0, lambda: told.append(trio.current_time() - began))
        began = trio.current_time()
        for _ in range(20):
            await pace.take()
        assert not told
        for _ in range(30):
            await pace.take()
        assert told == pytest.approx([1, 2, 3])

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@within(10)
async def test_a_name_has_a_longest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader() -> Any:
        return Dribble(delimited(bytes(MAX_NAME + 1)))

    assert await varint.read_varint_prefixed_bytes(Dribble(delimited(bytes(MAX_NAME)))) == bytes(MAX_NAME)
    with pytest.raises(ParseError):
        await varint.read_varint_prefixed_bytes(reader())
    use_upstream(monkeypatch, varint, "read_exactly")
    data = await varint.read_varint_prefixed_bytes(reader())
    assert len(data) > MAX_NAME, "upstream mends this: limits.cap_names can go"


def test_only_ed25519_names_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    by_rsa = create_rsa(2_048).public_key.serialize()
    with pytest.raises(CryptographyError):
        noise.deserialize_public_key(by_rsa)
    use_upstream(monkeypatch, noise, "deserialize_public_key")
    assert noise.deserialize_public_key(by_rsa), "upstream mends this: limits.take_ed25519_only can go"


@within(10)
async def test_what_waits_for_a_peer_is_bounded_by_bytes_too() -> None:
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(50_000))])
    queue = pubsub.RpcQueue()
    assert isinstance(queue, Backlog)
    taken = sum(queue.push(rpc) for _ in range(QUEUED_RPCS))
    assert taken == QUEUED_BYTES // rpc.ByteSize()
    await queue.pop()
    assert queue.push(rpc)
    assert not queue.push(rpc)
    small = pubsub.RpcQueue()
    assert sum(small.push(rpc_pb2.RPC()) for _ in range(QUEUED_RPCS + 1)) == QUEUED_RPCS
    assert RpcQueue()._queue.max_size < 300, "upstream mends this: limits.bound_queues can go"
