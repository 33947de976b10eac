"""Strict DAG-CBOR: one value has one encoding, and only that one is accepted.

Signatures and hashes are over bytes, so two encodings of one value would be two records. libipld parses. It lets
non-minimal integers and the tag for links through, so what does not encode to itself again is refused here. The encoder
is this module's own: libipld's turns any byte string that looks like a link into one, about one SHA-256 hash in 2,500.
Sizes are checked before anything is parsed, nesting before anything recurses.

A field of a record that may be left out has the type `… | UnsetType`; unset, it is not encoded. So a record can gain
such a field, and what was signed before keeps its bytes.

Always holds: `decode(encode(x), type(x)) == x`, and `encode(decode(b, T)) == b` for every `b` that is accepted; so a
record that leaves out any other field is refused, even where the field has a default.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import libipld
import msgspec
from msgspec import UNSET

from p2pcap.errors import CodecError

MAX_STATEMENT = 1_024
"""Bytes of a statement's payload (docs/protocol.md, Records)."""

MAX_BLOB = 64 * 1024 * 1024
"""Bytes of a blob: a manifest's body, an item list."""

MAX_DEPTH = 16
"""Arrays and maps within each other; msgspec's schemas allow less, this one guards the parser's stack."""

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """The only encoding of `value`: a msgspec Struct, or plain maps, lists, text, bytes, integers, booleans, None.

    Raises CodecError for what has no place in a record: floats, sets, integers beyond 64 bits.
    """
    out = bytearray()
    try:
        _write(value, out)
    except (ValueError, TypeError, OverflowError) as error:
        raise CodecError(f"The value cannot be encoded: {error}.") from error
    return bytes(out)


def decode(data: bytes, kind: type[T], limit: int = MAX_STATEMENT) -> T:
    """`data` as a value of `kind` (a Struct or any type msgspec knows).

    Raises CodecError when `data` is longer than `limit`, is not canonical DAG-CBOR, or does not fit `kind` exactly.
    """
    plain = _parse(data, limit)
    try:
        value = msgspec.convert(plain, kind, strict=True, builtin_types=(bytes,))
    except (msgspec.ValidationError, RecursionError) as error:
        raise CodecError(f"The record does not fit its schema: {error}.") from error
    return _canonical(value, data)


def decode_plain(data: bytes, limit: int = MAX_STATEMENT) -> Any:
    """`data` as plain Python values, with the checks of `decode` but no schema."""
    return _canonical(_parse(data, limit), data)


def _parse(data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise CodecError(f"The record has {len(data)} bytes; at most {limit} are allowed.")
    try:
        plain = libipld.decode_dag_cbor(data)
        _check(plain, MAX_DEPTH)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CodecError(f"The bytes are not DAG-CBOR: {error}.") from error
    return plain


def _canonical(value: T, data: bytes) -> T:
    if encode(value) != data:
        raise CodecError("The bytes are not the canonical encoding of what they say.")
    return value


def _check(value: Any, depth: int) -> None:
    """Raises ValueError for arrays and maps deeper within each other than `depth`."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        for inner in value.values() if isinstance(value, dict) else value:
            if not isinstance(inner, str | bytes | int):
                _check(inner, depth - 1)


def _write(value: Any, out: bytearray) -> None:
    """Append the encoding of `value` (RFC 8949 section 4.2.1, with the map order and limits of DAG-CBOR)."""
    match value:
        case bytes():
            out += head_of(2, len(value))
            out += value
        case str():
            out += text_of(value)
        case bool():
            out += b"\xf5" if value else b"\xf4"
        case int():
            out += head_of(0, value) if value >= 0 else head_of(1, -1 - value)
        case msgspec.Struct():
            _write_struct(value, out)
        case list() | tuple():
            out += head_of(4, len(value))
            for inner in value:
                _write(inner, out)
        case dict():
            out += head_of(5, len(value))
            for name, inner in _ordered(value):
                out += name
                _write(inner, out)
        case None:
            out += b"\xf6"
        case _:
            raise TypeError(f"{type(value).__name__} has no place in a record")


def _write_struct(value: msgspec.Struct, out: bytearray) -> None:
    """A record: its fields that are set, in the order of a map."""
    fields = _fields(type(value))
    held = [getattr(value, field) for _, field in fields]
    out += head_of(5, len(fields) - held.count(UNSET))
    for (name, _), inner in zip(fields, held, strict=True):
        if inner is not UNSET:
            out += name
            _write(inner, out)


def head_of(major: int, number: int) -> bytes:
    """The type and the number after it, in the fewest bytes."""
    if number < 256:
        return HEADS[major][number]
    for extra, size in ((25, 2), (26, 4)):
        if number < 1 << 8 * size:
            return bytes((major << 5 | extra,)) + number.to_bytes(size, "big")
    return bytes((major << 5 | 27,)) + number.to_bytes(8, "big")


HEADS = [
    [bytes((major << 5 | number,)) if number < 24 else bytes((major << 5 | 24, number)) for number in range(256)]
    for major in range(6)
]
"""The heads for small numbers: nearly all there are."""


def text_of(text: str) -> bytes:
    """The encoding of a text. Raises TypeError for what is none."""
    data = str.encode(text)  # not text.encode(): whatever is no text gets a TypeError
    return head_of(3, len(data)) + data


def _ordered(items: Mapping[str, Any]) -> list[tuple[bytes, Any]]:
    """Encoded keys with their values, shorter keys first: the head makes that the plain order of bytes."""
    return sorted(((text_of(key), value) for key, value in items.items()), key=lambda pair: pair[0])


@cache
def _fields(kind: type[msgspec.Struct]) -> list[tuple[bytes, str]]:
    """Encoded names and attributes of a record's fields."""
    return _ordered(dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)))
