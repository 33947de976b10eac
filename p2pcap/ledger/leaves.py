"""The exact bytes of a row, from what an export shows of it.

A result signs the root over its rows' encodings, so whoever has the rows of a file has what the signature is over.
`p2pcap.codec` writes any record; this writes this one, several times as fast, because a file of a million rows has a
million of them.

Always holds: `row_bytes` of a row's values is `p2pcap.codec.encode` of the row (a property test compares the two).
"""

import zlib
from collections.abc import Sequence

from p2pcap.codec import HEADS
from p2pcap.ledger import merkle
from p2pcap.ledger.records import Row

Shown = tuple[str, int, str]
"""An answer: its text, the tokens, and why it ended."""

ITEM, IMAGE, ERROR, GIVEN, REASON = b"\x64item", b"\x65image\x58\x20", b"\x65error", b"\x65given\x48", b"\x66reason"
ANSWERS, TEXT, FINISH, TOKENS = b"\x67answers", b"\xa3\x64text", b"\x66finish", b"\x66tokens"


def row_bytes(item: int, image: bytes, answers: Sequence[Shown], error: str, reason: str, given: bytes = b"") -> bytes:
    """The DAG-CBOR encoding of a `Row`; `image` has 32 bytes, `given` 8 or none.

    The keys come in the order of their lengths, and of their bytes where those are equal.
    """
    parts = [b"\xa6" if given else b"\xa5", ITEM, _head(0, item), ERROR, _text(error)]
    if given:
        parts += GIVEN, given
    parts += IMAGE, image, REASON, _text(reason), ANSWERS, _head(4, len(answers))
    for text, tokens, finish in answers:
        parts += TEXT, _text(text), FINISH, _text(finish), TOKENS, _head(0, tokens)
    return b"".join(parts)


def leaf_of(row: Row) -> bytes:
    """The row's leaf hash."""
    answers = [(answer.text, answer.tokens, answer.finish) for answer in row.answers]
    return merkle.leaf(row_bytes(row.item, row.image, answers, row.error, row.reason, row.given or b""))


def mark(answers: Sequence[Shown], image: str, error: str, reason: str) -> bytes:
    """CRC-32, 4 bytes, big-endian, of a row's texts, reasons of ending, tokens (8 bytes each, little-endian), image (in
    hex, empty for none), error and reason, one after the other: what tells which row of a result was changed."""
    crc = 0
    texts, tokens, finish = zip(*answers, strict=True) if answers else ((), (), ())
    counted = b"".join(count.to_bytes(8, "little") for count in tokens)
    for part in (*map(str.encode, (*texts, *finish)), counted, image.encode(), error.encode(), reason.encode()):
        crc = zlib.crc32(part, crc)
    return crc.to_bytes(4, "big")


def _text(text: str) -> bytes:
    data = text.encode()
    return _head(3, len(data)) + data


def _head(major: int, number: int) -> bytes:
    if number < 256:
        return HEADS[major][number]
    for extra, size in ((25, 2), (26, 4)):
        if number < 1 << 8 * size:
            return bytes((major << 5 | extra,)) + number.to_bytes(size, "big")
    return bytes((major << 5 | 27,)) + number.to_bytes(8, "big")
