"""Every workaround for py-libp2p 0.8.1, each one a small function that names the defect it mends.

The version is pinned exactly because these reach into its internals. `tests/swarm/test_hardening.py` shows each
defect biting without its workaround, so an upgrade tells which of them can go. What can be mended by a subclass of
ours lives in `p2pcap.swarm.host` (connections), `p2pcap.swarm.topics` and `p2pcap.swarm.router` (GossipSub); what has
no limit is limited in `p2pcap.swarm.limits`; here is the rest, which libp2p constructs itself.

Always holds after `install()`: no bytes from a peer, and no error in answering one, end more than that peer's stream or
connection.
"""

import functools
import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from libp2p.io import msgio
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.pubsub import gossipsub, pubsub
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.transport.tcp import tcp
from libp2p.utils import varint

from p2pcap.swarm.limits import LIMITS

log = structlog.get_logger(__name__)

MAX_STREAMS = 64
"""Streams open on one connection, both sides' together; a peer that opens more has them reset."""

STALL_SECONDS = 15.0
"""A frame of at most 64 KiB that the operating system will not take for so long means the peer is gone."""

WINDOW_SECONDS = 30.0
"""A stream whose reader opens no window for so long is given up by its writer."""

CLOSED_CHECK_SECONDS = 0.25
"""How soon a writer that waits for window notices that its stream was closed under it."""

GOODBYE_SECONDS = 0.5
CLOSE_SECONDS = 2.0
PING_EVERY = 15.0
PING_TIMEOUT = 15.0
"""A peer from which nothing at all came for PING_TIMEOUT after a ping is dropped."""

DISABLED = 100
"""A level above CRITICAL."""

_installed = False


def install() -> None:
    """Apply every workaround of this module, once for the process."""
    global _installed
    if _installed:
        return
    _installed = True
    for mend in WORKAROUNDS:
        mend()


def contain_tasks() -> None:
    """An error in any background task of a libp2p service (one malformed gossip message is enough) stops the whole
    host.

    Upstream cancels a service when one of its tasks raises; closed reports #1117 and #1120 are of this family. Tasks
    that are not the service's own loops now end alone.
    """
    upstream = TrioManager.run_task

    @functools.wraps(upstream)
    def run_task(
        self: Any, async_fn: Any, *args: Any, daemon: bool = False, name: str | None = None, _internal: bool = False
    ) -> None:
        task = async_fn if daemon or _internal else _contained(async_fn)
        upstream(self, task, *args, daemon=daemon, name=name, _internal=_internal)

    TrioManager.run_task = run_task


def _contained(async_fn: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(async_fn)
    async def alone(*args: Any) -> None:
        try:
            await async_fn(*args)
        except Exception as error:  # noqa: BLE001 - containing whatever a stranger provoked is its purpose
            log.debug("libp2p_task_failed", task=getattr(async_fn, "__qualname__", ""), error=repr(error))

    return alone


def contain_streams() -> None:
    """An error while negotiating or serving a stream (a protocol name that is not UTF-8 is enough) stops the whole
    host.

    Now it resets that stream. Upstream also takes any number of streams on a connection, each a task and 256 KiB of
    buffer; beyond MAX_STREAMS they are refused.
    """
    upstream = SwarmConn._handle_muxed_stream

    @functools.wraps(upstream)
    async def handle(self: Any, stream: Any) -> None:
        try:
            if len(self.streams) >= MAX_STREAMS:
                await stream.reset()
                return
            await upstream(self, stream)
        except Exception as error:  # noqa: BLE001 - containing whatever a stranger provoked is its purpose
            log.debug("stream_failed", peer=str(self.muxed_conn.peer_id), error=repr(error))
            await _reset(stream)

    SwarmConn._handle_muxed_stream = handle


async def _reset(stream: Any) -> None:
    try:
        await stream.reset()
    except Exception as error:  # noqa: BLE001 - the stream is being given up because of another error
        log.debug("reset_failed", error=repr(error))


def write_in_order() -> None:
    """Three defects of writing to a stream.

    Two tasks that write to one stream interleave their frames when a write spans several (open issue #793). A writer
    that waits for window looks for it every 10 ms only, which caps a fresh stream at some 25 MB/s. And it gives up
    after 5 s without window, the normal state of a slow link that several streams share.
    """

    @functools.wraps(YamuxStream.write)
    async def write(self: Any, data: bytes) -> None:
        async with self.__dict__.setdefault("_write_order", trio.Lock()):
            rest = memoryview(data)
            while rest:
                size = min(await _window(self), len(rest), yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE)
                self.send_window -= size
                header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, size)
                await self.conn._write_frame(header + rest[:size])
                rest = rest[size:]

    YamuxStream.write = write
    YamuxStream.send_window = property(_send_window, _set_send_window)


async def _window(stream: Any) -> int:
    limit = trio.current_time() + WINDOW_SECONDS
    while True:
        if stream.closed or stream.send_closed:
            raise MuxedStreamError("the stream is closed")
        if stream.send_window > 0:
            return int(stream.send_window)
        if trio.current_time() >= limit:
            raise MuxedStreamError(f"the peer has taken nothing for {WINDOW_SECONDS} s")
        stream.__dict__["_window_opens"] = opens = trio.Event()
        with trio.move_on_after(CLOSED_CHECK_SECONDS):
            await opens.wait()


def _send_window(stream: Any) -> int:
    window: int = stream.__dict__["send_window"]
    return window


def _set_send_window(stream: Any, value: int) -> None:
    stream.__dict__["send_window"] = value
    opens = stream.__dict__.get("_window_opens")
    if value > 0 and opens is not None:
        opens.set()


def write_whole_frames() -> None:
    """A write cancelled half-way (any deadline does it) leaves half a frame on the wire and ruins the whole connection.

    A frame once begun is now finished in spite of cancellation; if that takes longer than STALL_SECONDS, the connection
    is closed. Upstream's frame logging, the dearest part of a small write, goes with it.
    """

    @functools.wraps(Yamux._write_frame)
    async def write_frame(self: Any, data: bytes) -> None:
        async with self._write_lock:
            limit = trio.current_time() + self.__dict__.get("stall_seconds", STALL_SECONDS)
            with trio.CancelScope(shield=True, deadline=limit) as scope:
                await self.secured_conn.write(data)
        if (tally := self.secured_conn.__dict__.get("tally")) is not None:
            tally.sent += len(data)
        if scope.cancelled_caught:
            await self.secured_conn.close()
            raise ConnectionClosedError("the peer takes no more bytes")
        await trio.lowlevel.checkpoint()

    Yamux._write_frame = write_frame


def close_promptly() -> None:
    """Closing waits for ever to say farewell to a peer that stopped reading; cancelled meanwhile, it leaks a socket."""

    @functools.wraps(Yamux.close)
    async def close(self: Any, error_code: int = 0) -> None:
        if self.event_closed.is_set():
            return
        self.stall_seconds = GOODBYE_SECONDS
        frame = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_GO_AWAY, 0, 0, error_code)
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            with trio.move_on_after(GOODBYE_SECONDS):
                try:
                    await self._write_frame(frame)
                except Exception as error:  # noqa: BLE001 - the farewell is a courtesy
                    log.debug("farewell_failed", error=repr(error))
            await self._cleanup_on_error()

    Yamux.close = close


def drop_silent_peers() -> None:
    """A peer that went silent (frozen, cable pulled) stays connected and in the gossip mesh for good.

    Upstream sends a ping every 30 s for the round-trip time and ignores a missing answer. Now nothing heard for
    PING_TIMEOUT after a ping closes the transport; the read loop then ends the connection in order.
    """

    @functools.wraps(Yamux._measure_rtt_loop)
    async def ping_loop(self: Any) -> None:
        every, timeout = self.__dict__.get("liveness", (PING_EVERY, PING_TIMEOUT))
        while not self.event_shutting_down.is_set():
            if not await _alive(self, timeout):
                log.info("peer_silent", peer=str(self.peer_id), seconds=timeout)
                await self.secured_conn.close()
                return
            with trio.move_on_after(every):
                await self.event_shutting_down.wait()

    Yamux._measure_rtt_loop = ping_loop


async def _alive(conn: Any, patience: float) -> bool:
    conn._ping_id = (conn._ping_id + 1) % 2**32
    conn._ping_event = trio.Event()
    conn._ping_sent_time = sent = trio.current_time()
    frame = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, conn._ping_id)
    with trio.move_on_after(patience) as scope:
        try:
            await conn._write_frame(frame)
        except Exception as error:  # noqa: BLE001 - the read loop finds the same breakage and cleans up
            log.debug("ping_failed", error=repr(error))
            return False
        await conn._ping_event.wait()
    return not scope.cancelled_caught or conn.secured_conn.__dict__.get("heard", 0.0) > sent


def read_without_retry_limit() -> None:
    """Reading exactly n bytes fails after 101 partial reads, however steady they come (a slow link, small packets)."""

    async def read_exactly(reader: Any, n: int, retry_count: int = 0) -> bytes:
        data = await reader.read(n)
        if len(data) < n:
            data = await _read_rest(reader, n, bytearray(data))
        reader.__dict__["heard"] = trio.current_time()
        if (tally := reader.__dict__.get("tally")) is not None:
            tally.received += n
        return bytes(data)

    for module in (msgio, yamux, varint):
        module.read_exactly = read_exactly


async def _read_rest(reader: Any, n: int, data: bytearray) -> bytearray:
    while len(data) < n:
        piece = await reader.read(n - len(data))
        if not piece:
            text = f"the stream ended after {len(data)} of {n} bytes"
            raise IncompleteReadError(text, expected_bytes=n, received_bytes=len(data))
        data += piece
    return data


def enforce_windows() -> None:
    """A peer may send past the receive window it was granted; upstream warns and buffers without limit.

    TooSlowError is the one exception upstream's read loop takes as the end of the connection in every branch.
    """

    def get(stream: Any) -> int:
        window: int = stream.__dict__["recv_window"]
        return window

    def set_(stream: Any, value: int) -> None:
        stream.__dict__["recv_window"] = value
        if value < 0:
            raise trio.TooSlowError("the peer sent more than its window")

    YamuxStream.recv_window = property(get, set_)


def skip_sender_records() -> None:
    """Every gossip message carries a signed address record, built and verified anew each time; we never use them."""
    pubsub.maybe_consume_signed_record = gossipsub.maybe_consume_signed_record = lambda *_: True
    gossipsub.env_to_send_in_RPC = lambda host: (b"", False)  # `Router.send_rpc` then leaves the field out


def listen_exclusively() -> None:
    """Listening sockets set SO_REUSEPORT, so two nodes on one port both start and each gets half of the connections."""

    @functools.wraps(tcp._set_reuse_flags)
    def reuse_address(sock: Any) -> None:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)

    tcp._set_reuse_flags = reuse_address


def quiet_logging() -> None:
    """A log call on the root logger installs a handler that writes to the terminal; ordinary hang-ups log as errors."""
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")
    for name in ("libp2p", "libp2p.network.auto_connector"):
        logging.getLogger(name).setLevel(DISABLED)
        logging.getLogger(name).propagate = False


WORKAROUNDS = (
    contain_tasks,
    contain_streams,
    write_in_order,
    write_whole_frames,
    close_promptly,
    drop_silent_peers,
    read_without_retry_limit,
    enforce_windows,
    skip_sender_records,
    listen_exclusively,
    quiet_logging,
    *LIMITS,
)
