"""Frames on the control socket, for both of its ends. Standard library only.

A frame is a length (4 bytes, big-endian), a kind (1 byte) and that many bytes of payload. A client sends one J frame, a
request; the node answers with as many A, M or J frames as the request asks for, and ends with one J or E frame.

    J  JSON            a request; the last frame of an answer; each snapshot of a subscription
    A  Arrow           the next bytes of one Arrow IPC stream: the rows of a query
    M  message         for an export one p2pcap.store.canonical.Run as MessagePack; for a copy the length of a table's
                       name (4 bytes, big-endian), the name, and rows of the table as an Arrow IPC stream
    E  error           JSON {"error": class in p2pcap.errors, "message": text}

Always holds: neither side allocates for a frame before its length was checked.
"""

import struct

from p2pcap.errors import FrameError

JSON, ARROW, MESSAGE, ERROR = b"J", b"A", b"M", b"E"
KINDS = frozenset({JSON, ARROW, MESSAGE, ERROR})

HEAD = struct.Struct(">Ic")

MAX_REQUEST = 128 * 1024
"""Bytes of a request: a query has 64 KiB at most."""

MAX_REPLY = 64 * 1024 * 1024
"""Bytes of a frame of an answer. Results are cut into frames of far less; a snapshot of 10,000 peers has 4 MB."""

PART = 1024 * 1024
"""Bytes of Arrow in one frame, at most."""


def head(kind: bytes, size: int) -> bytes:
    """The 5 bytes before a payload of `size` bytes."""
    return HEAD.pack(size, kind)


def parse_head(data: bytes, limit: int) -> tuple[bytes, int]:
    """Kind and payload size in a frame's first 5 bytes. Raises FrameError above `limit` and for an unknown kind."""
    size, kind = HEAD.unpack(data)
    if kind not in KINDS or size > limit:
        raise FrameError("The bytes on the control socket are no p2pcap frame. Use the same version on both ends.")
    return kind, size
