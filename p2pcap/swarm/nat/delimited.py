"""Protobuf messages on a stream, a varint with their length in front: how circuit relay and DCUtR talk.

Always holds: a length is checked before anything is read for it, and nothing beyond the message is read, since what
follows it belongs to somebody else.
"""

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import MessageTooLarge
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited

from p2pcap.errors import FrameError

MAX_MESSAGE = 4_096
"""Bytes; the longest of these messages carry a dozen addresses."""

M = TypeVar("M", bound=Message)


async def read_message(stream: Any, kind: type[M]) -> M:
    """The next message. Raises FrameError for anything else, and libp2p's errors when the stream breaks."""
    try:
        data = await read_varint_prefixed_bytes_limited(stream, MAX_MESSAGE)
        message = kind()
        message.ParseFromString(data)
    except (ParseError, MessageTooLarge, DecodeError) as error:
        raise FrameError(f"The peer sent no {kind.__name__}: {error}.") from error
    return message


async def write_message(stream: Any, message: Message) -> None:
    """Write one message."""
    await stream.write(encode_varint_prefixed(message.SerializeToString()))
