"""A ticket's bytes as text: "p2pcap:" and base64url, which puts six bits into each character that any channel takes.

The first four characters are check symbols. The characters after them are taken in pairs, 12 bits each; the check
symbols are the sum of all pairs in GF(4096), and their sum weighted with the powers of a primitive element. That is
Reed and Solomon's code, twice extended, of distance 3 up to 4,095 pairs: whichever one or two characters are damaged,
it shows. Any other damage escapes with a chance of 2**-24. Base45, which QR codes hold better, would make the text an
eighth longer.

Always holds: `from_text(to_text(data)) == data`, and no other text within it is read as `data`, but for white space and
the case of the scheme.
"""

import base64
import re
from collections.abc import Iterator

from p2pcap.errors import TicketError

SCHEME = "p2pcap:"
MAX_TEXT = 4_096
"""Characters of a ticket without white space."""

CHECK = 3
"""Bytes of the two check symbols."""

_FIELD = 0x1053
"""x^12 + x^6 + x^4 + x + 1, primitive over GF(2) (Peterson and Weldon's table)."""

_SHAPE = re.compile(r"[A-Za-z0-9_-]{8,}")


def to_text(data: bytes) -> str:
    """`data` as one word."""
    return SCHEME + base64.urlsafe_b64encode(_check(data) + data).decode().rstrip("=")


def from_text(text: str) -> bytes:
    """The bytes in `text`; white space in it is forgiven. Raises TicketError for what is none, or is damaged."""
    joined = "".join(text.split()) if len(text) <= 2 * MAX_TEXT else text.lstrip()
    if joined[: len(SCHEME)].lower() == SCHEME and len(joined) > MAX_TEXT:
        raise TicketError(
            f"The ticket has more than {MAX_TEXT} characters, and none is so long. Copy the line that the maintainer "
            "gave you, and nothing else."
        )
    if joined[: len(SCHEME)].lower() != SCHEME:
        raise TicketError(
            f'This is no ticket: one starts with "{SCHEME}". Copy the whole line that the maintainer gave you.'
        )
    word = joined[len(SCHEME) :]
    if not _SHAPE.fullmatch(word) or len(word) % 4 == 1:
        raise damaged()
    raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    data = raw[CHECK:]
    if to_text(data) != SCHEME + word:
        raise damaged()
    return data


def damaged() -> TicketError:
    """The ticket is not what it was."""
    return TicketError(
        "The ticket is damaged or cut short. Copy the whole line that the maintainer gave you, capitals and all."
    )


def _check(data: bytes) -> bytes:
    """The symbols that go before `data`: their sum, and their sum by weight."""
    total, weighted = len(data) & 0xFFF, 1  # so that zeros more or less at the end are noticed
    for symbol in _symbols(data):
        total ^= symbol
        weighted = _times_x(weighted) ^ symbol
    return (total << 12 | weighted).to_bytes(CHECK, "big")


def _symbols(data: bytes) -> Iterator[int]:
    """The data's bits in twelves, zeros at the end."""
    number = int.from_bytes(data + bytes(-len(data) % 3), "big")
    count = -(-len(data) // 3) * 2
    return (number >> 12 * (count - 1 - place) & 0xFFF for place in range(count))


def _times_x(symbol: int) -> int:
    shifted = symbol << 1
    return shifted ^ _FIELD if shifted >> 12 else shifted
