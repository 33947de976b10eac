"""What is encrypted under a passphrase comes out whole or not at all, and a hostile file costs its reader little."""

import io
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from p2pcap.codec import decode, encode
from p2pcap.encryption import (
    FRAME,
    LEAST,
    MAX_MEMORY,
    MAX_PASSES,
    MODERATE,
    Box,
    Cost,
    EncryptedReader,
    EncryptedWriter,
    decrypt,
    encrypt,
)
from p2pcap.errors import CodecError, KeyFileError

SECRET = bytes(range(32))
SEALED = encrypt(SECRET, b"sesame", LEAST)


def stream(data: bytes, passphrase: bytes = b"sesame", step: int = 10_000) -> bytes:
    out = io.BytesIO()
    writer = EncryptedWriter(out, passphrase, LEAST)
    for start in range(0, len(data), step):
        assert writer.write(data[start : start + step]) == len(data[start : start + step])
    writer.finish()
    return out.getvalue()


def read(data: bytes, passphrase: bytes = b"sesame") -> bytes:
    reader, parts = EncryptedReader(io.BytesIO(data), passphrase), []
    while part := reader.read(1_000):
        parts.append(part)
    return b"".join(parts)


@given(st.binary(max_size=400), st.binary(min_size=1, max_size=40))
def test_a_box_gives_back_what_went_in(data: bytes, passphrase: bytes) -> None:
    assert decrypt(encrypt(data, passphrase, LEAST), passphrase) == data


def test_no_two_boxes_are_alike() -> None:
    assert encrypt(SECRET, b"sesame", LEAST) != SEALED
    assert SECRET not in SEALED


def test_by_itself_it_costs_what_libsodium_advises() -> None:
    assert (MODERATE.passes, MODERATE.memory) == (3, 256 * 1024 * 1024)
    assert decrypt(encrypt(SECRET, b"sesame"), b"sesame") == SECRET


@pytest.mark.parametrize("passphrase", [b"", b"Sesame", b"sesame ", b"sesame\n"])
def test_another_passphrase_opens_nothing(passphrase: bytes) -> None:
    with pytest.raises(KeyFileError, match="The passphrase is wrong"):
        decrypt(SEALED, passphrase)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found(at: int, flip: int) -> None:
    """Some of them raise what it costs; that is bounded as well."""
    with pytest.raises((KeyFileError, CodecError)):
        decrypt(SEALED[:at] + bytes([SEALED[at] ^ flip]) + SEALED[at + 1 :], b"sesame")


@pytest.mark.parametrize(
    "cost",
    [
        Cost(1, MAX_MEMORY + 1),
        Cost(1, 2**40),
        Cost(MAX_PASSES + 1, 8_192),
        Cost(2**31, 8_192),
        Cost(0, 8_192),
        Cost(1, 0),
    ],
)
def test_a_file_may_not_ask_for_more_than_the_bounds(cost: Cost) -> None:
    """Before a byte of memory is taken."""
    hostile = encode(structs.replace(decode(SEALED, Box), cost=cost))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CodecError):
        decrypt(hostile, b"sesame")
    with pytest.raises(KeyFileError):
        EncryptedReader(io.BytesIO(len(hostile).to_bytes(2, "big") + hostile), b"sesame")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 3 * FRAME + 77])
def test_a_stream_gives_back_what_went_in(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert read(stream(data[:size])) == data[:size]


WHOLE = stream(b"\1" * (FRAME + 10))
HEAD = len(WHOLE) - (FRAME + 17) - (10 + 17)
"""Bytes before the first frame."""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(WHOLE[:1], id="a byte"),
        pytest.param(WHOLE[: HEAD - 1], id="part of the head"),
        pytest.param(WHOLE[:HEAD], id="no frame"),
        pytest.param(WHOLE[: HEAD + FRAME + 17], id="a whole frame, and not the last"),
        pytest.param(WHOLE[:-1], id="a byte less"),
        pytest.param(WHOLE + b"\0", id="a byte more"),
        pytest.param(WHOLE + WHOLE[HEAD:], id="frames after the last"),
        pytest.param(WHOLE[:HEAD] + WHOLE[HEAD + FRAME + 17 :], id="the first frame left out"),
        pytest.param(WHOLE[:HEAD] + WHOLE[HEAD : HEAD + FRAME + 17] * 2, id="a frame twice"),
        pytest.param(WHOLE[:HEAD] + stream(b"\1" * (FRAME + 10))[HEAD:], id="frames of another stream"),
        pytest.param(stream(b"\1", b"other"), id="another passphrase"),
    ],
)
def test_a_stream_that_is_not_whole_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="wrong, or the file is damaged"):
        read(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_in_a_stream_is_found(at: int, flip: int) -> None:
    with pytest.raises(KeyFileError):
        read(WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :])


def test_a_stream_needs_no_more_memory_than_frames() -> None:
    """A backup may hold a gigabyte of item lists."""

    class Sink(io.RawIOBase):
        longest = 0

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.longest = max(self.longest, len(data))
            return len(data)

    sink = Sink()
    writer = EncryptedWriter(sink, b"sesame", LEAST)  # type: ignore[arg-type]
    for _ in range(64):
        writer.write(bytes(100_000))
    writer.finish()
    assert sink.longest <= FRAME + 17
