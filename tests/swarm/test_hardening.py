"""Each workaround with the defect it is for: upstream's own code shows the harm, ours does not.

When one of the `upstream mends this` assertions fails after an upgrade of libp2p, that workaround can go.
"""

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.io import msgio
from libp2p.io import utils as upstream_io
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm as Libp2pSwarm
from libp2p.peer.id import ID
from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.utils import maybe_consume_signed_record
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.tools.anyio_service import Service, background_trio_service
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.transport.tcp import tcp

from p2pcap.errors import AddressInUse, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm import hardening
from p2pcap.swarm.host import Network
from tests.swarm.twin import node, stranger, within

hardening.install()


def use_upstream(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Put libp2p's own function back in place of ours."""
    patch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))


class Pipe:
    """One end of a secured connection, in memory. `block` makes its writes stop half-way."""

    def __init__(self, stream: Any, is_initiator: bool) -> None:
        self._stream = stream
        self.is_initiator = is_initiator
        self.block: trio.Event | None = None
        self.half_written = trio.Event()

    async def write(self, data: bytes) -> None:
        try:
            if self.block is not None:
                await self._stream.send_all(data[: len(data) // 2])
                self.half_written.set()
                await self.block.wait()
                data = data[len(data) // 2 :]
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("closed") from error

    async def read(self, n: int) -> bytes:
        try:
            return bytes(await self._stream.receive_some(n))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def close(self) -> None:
        await self._stream.aclose()
        if self.block is not None:
            self.block.set()


@asynccontextmanager
async def connection(answering: bool = True) -> AsyncIterator[tuple[Yamux, Yamux]]:
    """Two muxers that talk to each other; the second one only listens on the wire if `answering`."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer = ID.from_string(Identity.from_seed(bytes(32)).peer_id)
    ends = Yamux(Pipe(ours, True), peer), Yamux(Pipe(theirs, False), peer)
    async with trio.open_nursery() as nursery:
        for end in ends if answering else ends[:1]:
            nursery.start_soon(end.start)
            await end.event_started.wait()
        yield ends
        nursery.cancel_scope.cancel()


def in_virtual_time(test: Any) -> Any:
    """Run an async test under a clock that jumps ahead whenever everybody waits."""

    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        trio.run(test, monkeypatch, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


# an error ends what it concerns, and no more


class Faulty(Service):  # type: ignore[misc]  # libp2p comes without types
    """A service one of whose tasks fails."""

    async def run(self) -> None:
        self.manager.run_task(self.fail)
        await self.manager.wait_finished()

    async def fail(self) -> None:
        raise ValueError("a stranger sent nonsense")


@within(10)
async def test_a_failing_task_does_not_end_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    async with background_trio_service(Faulty()) as manager:
        await trio.testing.wait_all_tasks_blocked()
        assert manager.is_running
    use_upstream(monkeypatch, TrioManager, "run_task")
    with pytest.raises(ExceptionGroup):  # when this hangs, hardening.contain_tasks can go
        async with background_trio_service(Faulty()) as manager:
            await manager.wait_finished()


@within(20)
async def test_a_failing_stream_ends_a_node_without_our_containment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it the same bytes do nothing: test_requests.py. When this hangs, hardening.contain_streams can go."""
    use_upstream(monkeypatch, SwarmConn, "_handle_muxed_stream")
    use_upstream(monkeypatch, TrioManager, "run_task")

    async def attack() -> None:
        async with node() as (a, _), stranger(a) as rude:
            stream = await rude.open_raw()
            await stream.write(b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n")
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await attack()
    assert raised.group_contains(UnicodeDecodeError)


# writing


@within(10)
@pytest.mark.parametrize("mended", [True, False])
async def test_two_writers_do_not_interleave(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        use_upstream(monkeypatch, YamuxStream, "write")
    async with connection() as (ours, theirs):
        out = await ours.open_stream()
        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b"):
                nursery.start_soon(out.write, letter * 100_000)
            into = await theirs.accept_stream()
            data = b""
            while len(data) < 200_000:
                data += await into.read(1_000_000)
    whole = data in (b"a" * 100_000 + b"b" * 100_000, b"b" * 100_000 + b"a" * 100_000)
    assert whole == mended


@in_virtual_time
async def test_a_writer_has_patience_with_a_slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    async def write_into_a_full_window() -> None:
        async with connection() as (ours, theirs), trio.open_nursery() as nursery:
            out = await ours.open_stream()
            nursery.start_soon(out.write, bytes(2 * yamux.DEFAULT_WINDOW_SIZE))
            into = await theirs.accept_stream()
            await trio.sleep(8)  # virtual
            read = 0
            while read < 2 * yamux.DEFAULT_WINDOW_SIZE:
                read += len(await into.read(100_000))
            nursery.cancel_scope.cancel()

    await write_into_a_full_window()
    use_upstream(monkeypatch, YamuxStream, "write")
    with pytest.raises(ExceptionGroup) as raised:
        await write_into_a_full_window()
    assert raised.group_contains(MuxedStreamError), "upstream mends this: hardening.write_in_order can go"


@in_virtual_time
async def test_a_writer_gives_up_at_last_and_when_its_stream_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection() as (ours, _):
        for _ in range(2):
            out = await ours.open_stream()
            with pytest.raises(MuxedStreamError):
                await out.write(bytes(2 * yamux.DEFAULT_WINDOW_SIZE))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(out.reset)
    assert monkeypatch


@within(10)
@pytest.mark.parametrize("mended", [True, False])
async def test_a_cancelled_write_leaves_the_connection_whole(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        use_upstream(monkeypatch, Yamux, "_write_frame")
    async with connection() as (ours, theirs):
        first, second = await ours.open_stream(), await ours.open_stream()
        pipe = ours.secured_conn
        pipe.block = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.write, b"cut short" * 100)
            await pipe.half_written.wait()
            nursery.cancel_scope.cancel()
            pipe.block.set()
            pipe.block = None
        await second.write(b"whole")
        await theirs.accept_stream()
        into = await theirs.accept_stream()
        with trio.move_on_after(0.5 if not mended else 9):
            assert (await into.read(100) == b"whole") == mended
            return
        assert not mended


@in_virtual_time
async def test_a_frame_that_the_peer_never_takes_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection() as (ours, _):
        out = await ours.open_stream()
        ours.secured_conn.block = trio.Event()
        with pytest.raises(ConnectionClosedError):
            await out.write(b"x" * 100)
        await ours.event_closed.wait()
    assert monkeypatch


@in_virtual_time
async def test_closing_does_not_wait_for_a_peer_that_stopped_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close_while_blocked() -> float:
        async with connection() as (ours, _):
            ours.secured_conn.block = trio.Event()
            started = trio.current_time()
            with trio.move_on_after(60):
                await ours.close()
            return trio.current_time() - started

    assert await close_while_blocked() < 2
    for name in ("close", "_write_frame", "_measure_rtt_loop"):
        use_upstream(monkeypatch, Yamux, name)
    assert await close_while_blocked() == 60, "upstream mends this: hardening.close_promptly can go"


# reading and liveness


@in_virtual_time
async def test_a_silent_peer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_an_hour(answering: bool) -> bool:
        async with connection(answering) as (ours, _):
            with trio.move_on_after(3_600):
                await ours.event_closed.wait()
            return bool(ours.event_closed.is_set())

    assert await wait_an_hour(answering=False)
    assert not await wait_an_hour(answering=True)
    use_upstream(monkeypatch, Yamux, "_measure_rtt_loop")
    assert not await wait_an_hour(answering=False), "upstream mends this: hardening.drop_silent_peers can go"


@in_virtual_time
async def test_a_peer_that_sends_is_not_silent_even_if_its_pong_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection(answering=False) as (ours, theirs):
        with trio.move_on_after(300):
            while not ours.event_closed.is_set():
                await theirs.secured_conn.write(bytes.fromhex("000100000000000900000001"))  # a window update
                await trio.sleep(5)  # virtual
        assert not ours.event_closed.is_set()
    assert monkeypatch


class Dribble:
    """Gives one byte for each read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, n: int) -> bytes:
        byte, self._data = self._data[:1], self._data[1:]
        return byte


@within(10)
async def test_reading_exactly_has_no_limit_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await msgio.read_exactly(Dribble(bytes(200)), 200) == bytes(200)
    with pytest.raises(IncompleteReadError) as raised:
        await msgio.read_exactly(Dribble(bytes(5)), 200)
    assert raised.value.received_bytes == 5
    with pytest.raises(IncompleteReadError):  # upstream mends this: hardening.read_without_retry_limit can go
        await upstream_io.read_exactly(Dribble(bytes(200)), 200)
    assert monkeypatch


@within(10)
@pytest.mark.parametrize("mended", [True, False])
async def test_a_peer_that_overruns_its_window_is_cut_off(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        monkeypatch.delattr(YamuxStream, "recv_window")
    async with connection() as (ours, theirs):
        out = await ours.open_stream()
        into = await theirs.accept_stream()
        with contextlib.suppress(ConnectionClosedError):
            for _ in range(8):
                out.send_window = yamux.DEFAULT_WINDOW_SIZE
                await out.write(bytes(yamux.DEFAULT_WINDOW_SIZE // 4))
        await trio.testing.wait_all_tasks_blocked()
        assert theirs.event_closed.is_set() == mended
        buffered = len(theirs.stream_buffers.get(into.stream_id, b""))
        assert (buffered <= yamux.DEFAULT_WINDOW_SIZE) == mended


# gossip


@within(20)
async def test_address_records_are_neither_sent_nor_read() -> None:
    async with node() as (a, at_a), node(a.addresses[0]) as (b, at_b):
        await at_b.met(a)
        sent: list[Any] = []
        queue = pubsub.RpcQueue()

        def push(rpc: Any, priority: bool = False) -> bool:
            sent.append(rpc)
            return True

        queue.push = push
        a._gossip.pubsub.peer_queues[ID.from_string(b.peer_id)] = queue
        await a._gossip.router.emit_graft("topic", ID.from_string(b.peer_id))
        assert [rpc.HasField("senderRecord") for rpc in sent] == [False]
        bad = rpc_pb2.RPC(senderRecord=b"nonsense")
        assert pubsub.maybe_consume_signed_record(bad, a._host, ID.from_string(b.peer_id))
        assert gossipsub.maybe_consume_signed_record(bad, a._host, ID.from_string(b.peer_id))
        assert not maybe_consume_signed_record(bad, a._host, ID.from_string(b.peer_id))
        assert at_a.events


# listening, accepting, dialling


@within(20)
@pytest.mark.parametrize("mended", [True, False])
async def test_a_port_belongs_to_one_node(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        use_upstream(monkeypatch, tcp, "_set_reuse_flags")
    async with node() as (a, _):
        shared = a.addresses[0].split("/p2p/")[0]
        try:
            async with node(listen=[shared]) as (b, _):
                assert b.addresses[0].startswith(shared)
                assert not mended
        except AddressInUse:
            assert mended, "upstream mends this: hardening.listen_exclusively can go"


@within(30)
@pytest.mark.parametrize("mended", [True, False])
async def test_a_node_accepts_connections_for_ever(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    if not mended:
        monkeypatch.setattr(Network, "upgrade_inbound_raw_conn", Libp2pSwarm.upgrade_inbound_raw_conn)
    async with node(max_connections=3) as (a, at_a), node(links=0) as (b, _):
        a._host.get_network()._inbound_limiter = trio.CapacityLimiter(3)
        try:
            for n in range(6):
                await b.connect(a.addresses[0])
                await b.disconnect(a.peer_id)
                await at_a.until(lambda n=n: at_a.events.count(("disconnect", b.peer_id)) > n)  # type: ignore[misc]
        except Unreachable:
            assert not mended
        else:
            assert mended, "upstream mends this: Network.upgrade_inbound_raw_conn can go"


@within(20)
async def test_nothing_but_the_dialer_dials() -> None:
    async with node() as (a, _), node() as (b, _):
        peer = ID.from_string(b.peer_id)
        a._host.get_peerstore().add_addrs(peer, b._host.get_transport_addrs(), 60)
        await a._host.get_network().auto_connector.maybe_connect()
        with pytest.raises(Exception, match="not connected"):
            await a._host.new_stream(peer, ["/ipfs/ping/1.0.0"])
        assert not a.peers()


def test_libp2p_says_nothing_on_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("libp2p.network.swarm").critical("alarm")
    logging.getLogger("libp2p.network.auto_connector").critical("alarm")
    assert not caplog.records
    assert inspect.getsource(SwarmConn).count("logging.warning("), "upstream mends this: part of quiet_logging can go"
