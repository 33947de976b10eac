"""What libp2p lets a stranger do without limit, limited: each a small function that names the defect.

They are applied with those of `p2pcap.swarm.hardening`, after them. `tests/swarm/test_limits_of_libp2p.py` shows each
defect biting without its limit.

Always holds: what one connection can make this node do or keep, before and after it is known who is there, has a bound;
a peer that keeps running against one is reported to `Network.blame`.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any

import trio
from libp2p.crypto.exceptions import CryptographyError
from libp2p.crypto.keys import KeyType, PublicKey
from libp2p.exceptions import ParseError
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.pubsub import pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.security.noise import messages as noise
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.utils import varint

from p2pcap.swarm.peers import FLOOD
from p2pcap.swarm.rates import TokenBucket
from p2pcap.swarm.rpcs import OUR_RPC

STREAMS_PER_SECOND = 100.0
STREAMS_SAVED = 400.0
"""Streams that a peer may open on a connection; each takes a millisecond. Our own requests take one each."""
FRAMES_PER_SECOND = 2_000.0
FRAMES_SAVED = 8_000.0
"""Yamux frames with less than SMALL_FRAME bytes of data, on one connection; each takes 30 µs or more."""
SMALL_FRAME = 1_024
MAX_FRAME = 1024 * 1024
"""Bytes of data in one Yamux frame; every implementation sends 64 KiB at most."""
MAX_NAME = 4_096
"""Bytes of a message in which a protocol is named (go-libp2p: 1,024)."""
QUEUED_RPCS = 4_096
QUEUED_BYTES = 8 * 1024 * 1024
"""Gossip waiting for one slow peer before further messages are dropped (sync repairs what is lost)."""


class Pace:
    """The rate at which one connection may do a thing. `flooded` is called for each second's worth of excess."""

    def __init__(self, rate: float, saved: float, flooded: Callable[[], None]) -> None:
        self._bucket = TokenBucket(rate, saved)
        self._rate = rate
        self._flooded = flooded
        self._over = 0

    async def take(self) -> None:
        """Wait until it is time for the next."""
        if not await self._bucket.take():
            return
        self._over += 1
        if self._over >= self._rate:
            self._over = 0
            self._flooded()


def _pace(conn: Any, name: str, rate: float, saved: float) -> Pace:
    """The pace `name` of a muxed connection, which lives as long as it."""
    if name not in conn.__dict__:
        conn.__dict__[name] = Pace(rate, saved, functools.partial(_flooded, conn))
    pace: Pace = conn.__dict__[name]
    return pace


def _flooded(conn: Any) -> None:
    blame = getattr(getattr(conn, "swarm", None), "blame", None)
    if blame is not None:
        blame(str(conn.peer_id), FLOOD)


def pace_streams() -> None:
    """Streams opened and reset at once (rapid reset) pass every limit on open streams, at a millisecond each.

    A connection that opens them too fast is read no further until it is time.
    """
    upstream = Yamux.accept_stream

    @functools.wraps(upstream)
    async def accept_stream(self: Any) -> Any:
        stream = await upstream(self)
        await _pace(self, "stream_pace", STREAMS_PER_SECOND, STREAMS_SAVED).take()
        return stream

    Yamux.accept_stream = accept_stream


def pace_frames() -> None:
    """Two defects of reading Yamux frames.

    A Noise message holds 5,000 empty frames, which are worked off without a pause; pings are even answered. And a frame
    of 16 MB is read into memory before anybody asks whether its stream may send so much, or exists.
    """
    upstream = Yamux.handle_incoming
    read = yamux.read_exactly

    @functools.wraps(upstream)
    async def handle_incoming(self: Any) -> None:
        self.secured_conn.frame_pace = _pace(self, "frame_pace", FRAMES_PER_SECOND, FRAMES_SAVED)
        await upstream(self)

    @functools.wraps(read)
    async def read_header(conn: Any, n: int) -> bytes:
        header: bytes = await read(conn, n)
        _, kind, _, _, length = struct.unpack(yamux.YAMUX_HEADER_FORMAT, header)
        if kind == yamux.TYPE_DATA and length > MAX_FRAME:
            raise trio.TooSlowError("the peer sent more than its window")  # see hardening.enforce_windows
        if kind != yamux.TYPE_DATA or length < SMALL_FRAME:
            await conn.frame_pace.take()
        return header

    @functools.wraps(Yamux._read_data_body)
    async def read_body(self: Any, length: int) -> bytes:
        with trio.fail_after(yamux._yamux_data_read_timeout()):
            data: bytes = await read(self.secured_conn, length)
        return data

    Yamux.handle_incoming = handle_incoming
    Yamux._read_data_body = read_body
    yamux.read_exactly = read_header


def cap_names() -> None:
    """Whoever connects may announce a protocol name of 2^64 bytes, and send it: all of it is kept in memory."""
    read = varint.read_exactly

    @functools.wraps(read)
    async def read_exactly(reader: Any, n: int) -> bytes:
        if n > MAX_NAME:
            raise ParseError(f"a name of {n} bytes was announced; at most {MAX_NAME} are allowed")
        data: bytes = await read(reader, n)
        return data

    varint.read_exactly = read_exactly


def take_ed25519_only() -> None:
    """A stranger's handshake may bring an RSA key, whose signature takes up to 60 ms of the event loop to check.

    Every node of a project is named by an Ed25519 key (`p2pcap.identity`), as are other implementations by default.
    """
    upstream = noise.deserialize_public_key

    @functools.wraps(upstream)
    def deserialize_public_key(data: bytes) -> PublicKey:
        if PublicKey.deserialize_from_protobuf(data).key_type != KeyType.Ed25519.value:
            raise CryptographyError("the peer's key is no Ed25519 key")
        return upstream(data)

    noise.deserialize_public_key = deserialize_public_key


class Backlog(RpcQueue):  # type: ignore[misc]  # libp2p comes without types
    """The gossip that waits for one peer, bounded by number and by bytes."""

    def __init__(self) -> None:
        super().__init__(max_size=QUEUED_RPCS, max_message_size=OUR_RPC)
        self._bytes = 0

    def push(self, rpc: Any, priority: bool = False) -> bool:
        """As upstream; False as well when too many bytes are waiting."""
        size = rpc.ByteSize()
        if self._bytes + size > QUEUED_BYTES or not super().push(rpc, priority):
            return False
        self._bytes += size
        return True

    async def pop(self) -> Any:
        """As upstream."""
        rpc = await super().pop()
        if rpc is not None:
            self._bytes -= rpc.ByteSize()
        return rpc


def bound_queues() -> None:
    """The outbound gossip queue of a peer holds 32 messages and drops the rest without a word: a burst loses most.

    A long queue is bounded by bytes as well, or a peer that reads nothing fills the memory.
    """
    pubsub.RpcQueue = Backlog


def drop_unread() -> None:
    """What came on a stream and was not read is kept when the stream is done with: for a minute after a reset, and as
    long as the connection when we have closed our side and the peer never closes its own.

    At 100 streams a second with 256 KiB each that is 25 MB a second. What comes later is for no stream, and dropped.
    """
    upstream = SwarmConn._handle_muxed_stream
    reset = YamuxStream.reset

    @functools.wraps(upstream)
    async def handle(self: Any, stream: Any) -> None:
        await upstream(self, stream)
        if stream.send_closed or stream.closed:
            await _drop(stream)

    @functools.wraps(reset)
    async def reset_and_drop(self: Any) -> None:
        await reset(self)
        await _drop(self)

    SwarmConn._handle_muxed_stream = handle
    YamuxStream.reset = reset_and_drop


async def _drop(stream: Any) -> None:
    stream.closed = stream.recv_closed = True
    async with stream.conn.streams_lock:
        stream.conn.stream_buffers.pop(stream.stream_id, None)
        stream.conn._finalize_stream_locked(stream, fully_closed=True)


LIMITS = (pace_streams, pace_frames, cap_names, take_ed25519_only, bound_queues, drop_unread)
