"""Frames on a libp2p stream: a length of four bytes, big-endian, then so many bytes.

Always holds: a length is checked against its cap before anything is read or allocated for it.
"""

import struct
from collections.abc import Callable
from typing import Any

from libp2p.network.stream.exceptions import StreamEOF

from p2pcap.errors import FrameError

LENGTH = struct.Struct(">I")
READ_SIZE = 256 * 1024
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

    async def _exactly(self, size: int) -> bytes:
        buffer = self._buffer
        while len(buffer) < size:
            piece = await self._stream.read(READ_SIZE)
            if not piece:
                raise StreamEOF
            self._heard()
            buffer += piece
        data = bytes(buffer[:size])
        del buffer[:size]
        return data
