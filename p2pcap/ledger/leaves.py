"""The exact bytes of a row, from what an export shows of it.

A result signs the root over its rows' encodings, so whoever has the rows of a file has what the signature is over.
`p2pcap.codec` writes any record; this writes this one, several times as fast, because a file of a million rows has a
million of them.

Always holds: `row_bytes` of a row's values is `p2pcap.codec.encode` of the row (a property test compares the two).
"""

import zlib
from collections.abc import Sequence

from p2pcap.codec import head_of, text_of
from p2pcap.ledger import merkle
from p2pcap.ledger.records import Row

Shown = tuple[str, int, str]
"""An answer: its text, the tokens, and why it ended."""

TOKENS_WEIGHT, FINISH_WEIGHT = 40_503, 65_537
"""So that a change of one is not the change of another in disguise. A mark is no proof: the root is."""

ITEM, IMAGE, ERROR, GIVEN, REASON = b"\x64item", b"\x65image\x58\x20", b"\x65error", b"\x65given\x48", b"\x66reason"
ANSWERS, TEXT, FINISH, TOKENS = b"\x67answers", b"\xa3\x64text", b"\x66finish", b"\x66tokens"


def row_bytes(item: int, image: bytes, answers: Sequence[Shown], error: str, reason: str, given: bytes = b"") -> bytes:
    """The DAG-CBOR encoding of a `Row`; `image` has 32 bytes, `given` 8 or none.

    The keys come in the order of their lengths, and of their bytes where those are equal.
    """
    parts = [b"\xa6" if given else b"\xa5", ITEM, head_of(0, item), ERROR, text_of(error)]
    if given:
        parts += GIVEN, given
    parts += IMAGE, image, REASON, text_of(reason), ANSWERS, head_of(4, len(answers))
    for text, tokens, finish in answers:
        parts += TEXT, text_of(text), FINISH, text_of(finish), TOKENS, head_of(0, tokens)
    return b"".join(parts)


def leaf_of(row: Row) -> bytes:
    """The row's leaf hash."""
    answers = [(answer.text, answer.tokens, answer.finish) for answer in row.answers]
    return merkle.leaf(row_bytes(row.item, row.image, answers, row.error, row.reason, row.given or b""))


def mark(answers: Sequence[Shown], image: str, error: str, reason: str) -> bytes:
    """4 bytes that tell which row of a result was changed: modulo 2**32 and big-endian, the sum of CRC-32 over the
    texts, the error and the reason, one after the other; for the n-th answer n times TOKENS_WEIGHT times its tokens and
    n times FINISH_WEIGHT times the sum of the bytes of why it ended; and the 32-bit words of the image's hex digits
    (empty for none), of which every other one is taken together by XOR."""
    total = 0
    for part in (*(text for text, _, _ in answers), error, reason):
        total = zlib.crc32(part.encode(), total)
    for place, (_, tokens, finish) in enumerate(answers, start=1):
        total += place * (TOKENS_WEIGHT * tokens + FINISH_WEIGHT * sum(finish.encode()))
    folded = 0
    for at in range(0, len(image), 8):
        folded ^= int.from_bytes(image[at : at + 8].encode(), "little")
    return ((total + (folded & 0xFFFFFFFF) + (folded >> 32)) % 2**32).to_bytes(4, "big")
