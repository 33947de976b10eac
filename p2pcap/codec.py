"""Strict DAG-CBOR: one value has one encoding, and only that one is accepted.

Signatures and hashes are over bytes, so two encodings of one value would be two records. libipld refuses unsorted or
duplicate keys, tags, indefinite lengths and trailing bytes, but lets non-minimal integers through; what does not
re-encode to itself is refused here. Sizes are checked before anything is parsed, nesting before anything recurses.

Always holds: `decode(encode(x), type(x)) == x`, and `encode(decode(b, T)) == b` for every `b` that is accepted.
"""

from typing import Any, TypeVar

import libipld
import msgspec

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
    try:
        return libipld.encode_dag_cbor(_plain(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise CodecError(f"The value cannot be encoded: {error}.") from error


def decode(data: bytes, kind: type[T], limit: int = MAX_STATEMENT) -> T:
    """`data` as a value of `kind` (a Struct or any type msgspec knows).

    Raises CodecError when `data` is longer than `limit`, is not canonical DAG-CBOR, or does not fit `kind` exactly.
    """
    plain = decode_plain(data, limit)
    try:
        return msgspec.convert(plain, kind, strict=True, builtin_types=(bytes,))
    except (msgspec.ValidationError, RecursionError) as error:
        raise CodecError(f"The record does not fit its schema: {error}.") from error


def decode_plain(data: bytes, limit: int = MAX_STATEMENT) -> Any:
    """`data` as plain Python values, with the checks of `decode` but no schema."""
    if len(data) > limit:
        raise CodecError(f"The record has {len(data)} bytes; at most {limit} are allowed.")
    try:
        plain = libipld.decode_dag_cbor(data)
        _check(plain, MAX_DEPTH)
        again = libipld.encode_dag_cbor(plain)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CodecError(f"The bytes are not DAG-CBOR: {error}.") from error
    if again != data:
        raise CodecError("The bytes are not the canonical encoding of what they say.")
    return plain


def _check(value: Any, depth: int) -> None:
    if isinstance(value, float):
        raise ValueError("floats have no place in a record")
    if isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        for inner in value.values() if isinstance(value, dict) else value:
            if not isinstance(inner, str | bytes | int):
                _check(inner, depth - 1)


def _plain(value: Any) -> Any:
    if isinstance(value, str | bytes | int) or value is None:
        return value
    if isinstance(value, msgspec.Struct):
        names = value.__struct_encode_fields__
        return {name: _plain(getattr(value, field)) for name, field in zip(names, value.__struct_fields__, strict=True)}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} has no place in a record")
