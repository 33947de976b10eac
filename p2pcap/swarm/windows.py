"""How much a peer may send on a stream before it is read: a workaround of py-libp2p 0.8.1 as those in `hardening`.

Apart from them because it is about memory, and changes when windows open for everything that is received.
"""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, YamuxStream


def install() -> None:
    """Apply it, once for the process."""
    upstream = YamuxStream._auto_tune_and_send_window_update
    if not hasattr(upstream, "__wrapped__"):
        YamuxStream._auto_tune_and_send_window_update = functools.wraps(upstream)(_open_window)


async def _open_window(self: Any, *, bytes_read: int = 0) -> None:
    """Upstream opens a stream's window by twice what was read at each short read, and doubles it as well: naming a
    protocol is enough for 16 MiB, on each of the 128 streams of a connection, that a peer may then leave with us.

    Now as go-yamux does: when half of it is used up, and doubled when that took less than four round trips.
    """
    async with self.window_lock:
        unread = len(self.conn.stream_buffers.get(self.stream_id, b""))
        used = self.target_recv_window - (self.recv_window + unread)
        if used < self.target_recv_window // 2:
            return
        self.recv_window += used
        opened = used + self._apply_autotune_epoch(unread)
    await self.send_window_update(opened)


def hold(stream: Any) -> None:
    """Keep the window of a stream at 256 KiB however fast it is read: for what is passed on, and may get stuck."""
    stream.muxed_stream._apply_autotune_epoch = lambda unread: 0


@asynccontextmanager
async def granted(stream: Any, size: int) -> AsyncIterator[None]:
    """Let a peer send `size` bytes without waiting for us, once, while the block runs: for an answer, never longer.

    One update instead of many, and a stream as fast at its beginning as later. Afterwards at most 256 KiB are taken,
    since libp2p keeps what comes on a stream until the peer closes it too; whoever sends more loses the connection.
    """
    muxed = stream.muxed_stream
    muxed.recv_window += size
    await muxed.send_window_update(size)
    yield
    muxed.recv_window = min(muxed.recv_window, DEFAULT_WINDOW_SIZE)
