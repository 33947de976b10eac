"""Frames on a libp2p stream: a length, then so many bytes.

Ours have a length of four bytes, big-endian; those of libp2p's own protocols a varint of at most ten.

Always holds: a length is checked against its cap before anything is read or allocated for it.
"""

import struct
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from libp2p.network.stream.exceptions import StreamEOF

from p2pcap.errors import FrameError
from p2pcap.swarm import windows

LENGTH = struct.Struct(">I")
READ_SIZE = 256 * 1024
VARINT_BYTES = 10
WRITE_SIZE = 65_507
"""The largest write that is one Yamux frame in one Noise message; 29 bytes more halve the throughput (measured)."""


def frame(data: bytes) -> bytes:
    """`data` with its length in front."""
    return LENGTH.pack(len(data)) + data


async def write(stream: Any, data: bytes | bytearray) -> None:
    """Write `data` in pieces of the best size. Waits while the peer's window is full; libp2p gives up after 5 s."""
    for start in range(0, len(data), WRITE_SIZE):
        await stream.write(bytes(data[start : start + WRITE_SIZE]))


class FrameReader:
    """Reads frames from a stream with few and large reads. Libp2p's StreamEOF says that the stream ended too early.

    `heard` is called whenever bytes have come, be they ever so few.
    """

    def __init__(self, stream: Any, heard: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._heard = heard
        self._buffer = bytearray()

    async def read(self, limit: int) -> bytes:
        """The next frame's bytes. Raises FrameError when it announces more than `limit`."""
        (size,) = LENGTH.unpack(await self._exactly(LENGTH.size))
        if size > limit:
            raise FrameError(f"A frame of {size} bytes was announced; at most {limit} are allowed here.")
        return await self._exactly(size)

    async def read_delimited(self, limit: int, seconds: float) -> bytes:
        """The next frame with a varint in front. Waits for its beginning, and then `seconds` for the rest.

        Raises FrameError when it announces more than `limit` bytes, trio.TooSlowError when the rest does not come.
        """
        while not self._buffer:
            await self._more()
        with trio.fail_after(seconds):
            return await self._exactly(await self._varint(limit))

    def granted(self, size: int) -> AbstractAsyncContextManager[None]:
        """Let the peer send `size` bytes more without waiting for us (`windows.granted`)."""
        return windows.granted(self._stream, size)

    async def _varint(self, limit: int) -> int:
        size = 0
        for shift in range(0, 7 * VARINT_BYTES, 7):
            (byte,) = await self._exactly(1)
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if size > limit or byte >= 0x80:
            raise FrameError(f"A frame of {size} bytes was announced; at most {limit} are allowed here.")
        return size

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        with memoryview(self._buffer) as view:
            data = bytes(view[:size])
        del self._buffer[:size]
        return data

    async def _more(self) -> None:
        piece = await self._stream.read(READ_SIZE)
        if not piece:
            raise StreamEOF
        self._heard()
        self._buffer += piece
