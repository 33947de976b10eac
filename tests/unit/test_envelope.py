"""The envelope: sizes and shape before anything else, one id a statement, a signature for one type only."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import MAX_STATEMENT, encode
from p2pcap.envelope import LIMITS, MAX_ROOT, OVERHEAD, VERSION, Envelope, open_envelope, seal
from p2pcap.errors import CodecError
from tests.makers import ADA, BOB

SEALED = seal(ADA, "claim", {"a": 1})
PARTS = [VERSION, "claim", SEALED.payload, SEALED.author, SEALED.signature]


@given(st.sampled_from(sorted(LIMITS)), st.binary(max_size=MAX_STATEMENT - 3))
def test_an_envelope_comes_back(kind: str, content: bytes) -> None:
    envelope = seal(ADA, kind, content)
    again = open_envelope(envelope.data)
    assert again == envelope
    assert again.data == envelope.data
    assert again.id == envelope.id
    assert again.holds()
    assert len(envelope.data) <= len(envelope.payload) + OVERHEAD


def test_the_bytes_are_what_the_protocol_says() -> None:
    assert SEALED.data == encode([1, "claim", encode({"a": 1}), ADA.public, ADA.sign("claim", encode({"a": 1}))])
    named = b"p2pcap-id/1\0" + b"claim" + b"\0" + ADA.public + SEALED.payload
    assert SEALED.id == hashlib.sha256(named).digest()


@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        open_envelope(data)


@given(st.data())
def test_no_changed_bit_survives(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 8 * len(SEALED.data) - 1))
    changed = bytearray(SEALED.data)
    changed[at // 8] ^= 1 << at % 8
    with contextlib.suppress(CodecError):
        assert not open_envelope(bytes(changed)).holds()


@pytest.mark.parametrize("length", range(0, len(SEALED.data), 7))
def test_a_cut_envelope_is_refused(length: int) -> None:
    with pytest.raises(CodecError):
        open_envelope(SEALED.data[:length])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (0, 0),
        (0, True),
        (0, "1"),
        (0, b"\1"),
        (1, "opinion"),
        (1, ""),
        (1, b"claim"),
        (1, 1),
        (1, None),
        (1, ["claim"]),
        (2, "text"),
        (2, None),
        (2, [1]),
        (2, bytes(MAX_STATEMENT + 1)),
        (3, bytes(31)),
        (3, bytes(33)),
        (3, "a" * 32),
        (4, bytes(63)),
        (4, bytes(65)),
        (4, None),
    ],
)
def test_another_shape_is_refused(place: int, value: object) -> None:
    parts: list[object] = list(PARTS)
    parts[place] = value
    with pytest.raises(CodecError):
        open_envelope(encode(parts))


@pytest.mark.parametrize("value", [[], PARTS[:4], [*PARTS, 1], {"a": PARTS}, [PARTS], None, 1, b"", "x"])
def test_what_is_no_list_of_five_is_refused(value: object) -> None:
    with pytest.raises(CodecError):
        open_envelope(encode(value))


def test_the_limit_is_the_payloads() -> None:
    for kind, limit in LIMITS.items():
        largest = seal(ADA, kind, bytes(limit - 3))
        assert len(largest.payload) == limit
        assert open_envelope(largest.data) == largest
        with pytest.raises(CodecError):
            open_envelope(seal(ADA, kind, bytes(limit - 2)).data)
    assert max(LIMITS.values()) > MAX_ROOT > MAX_STATEMENT


def test_the_id_leaves_the_signature_out_and_nothing_else() -> None:
    same = Envelope(SEALED.kind, SEALED.payload, SEALED.author, bytes(64))
    assert same.id == SEALED.id
    others = {
        SEALED.id,
        Envelope("result", SEALED.payload, SEALED.author, SEALED.signature).id,
        Envelope("claim", SEALED.payload + b"\0", SEALED.author, SEALED.signature).id,
        Envelope("claim", SEALED.payload, BOB.public, SEALED.signature).id,
    }
    assert len(others) == 4


def test_a_signature_holds_for_one_type_only() -> None:
    for kind in LIMITS:
        sealed = seal(ADA, kind, {"a": 1})
        for other in set(LIMITS) - {kind}:
            assert not Envelope(other, sealed.payload, sealed.author, sealed.signature).holds()
        assert not Envelope(kind, sealed.payload, BOB.public, sealed.signature).holds()
