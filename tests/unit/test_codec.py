"""One value, one encoding; everything else is refused before it costs anything."""

import contextlib
from typing import Any

import libipld
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import MAX_DEPTH, MAX_STATEMENT, decode, decode_plain, encode
from p2pcap.errors import CodecError
from p2pcap.ledger.records import Answer, Claim, Grant, Result, Row
from p2pcap.project.items import Item
from p2pcap.project.record import Record
from p2pcap.project.records import Manifest, Plan, Root
from p2pcap.project.task import Task
from tests.strategies import plain, records

RECORDS = (Root, Manifest, Plan, Task, Item, Grant, Claim, Result, Row, Answer)
LARGE = 1 << 20

# A link's prefix: version 1, DAG-CBOR, SHA-256, 32 bytes.
LINK = bytes.fromhex("01711220") + bytes(32)


@given(plain)
def test_a_plain_value_comes_back(value: Any) -> None:
    assert decode_plain(encode(value), LARGE) == value


@given(plain)
def test_libipld_reads_the_same(value: Any) -> None:
    assert libipld.decode_dag_cbor(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (65_535, "19ffff"),
        (65_536, "1a00010000"),
        (2**32 - 1, "1affffffff"),
        (2**32, "1b0000000100000000"),
        (2**64 - 1, "1bffffffffffffffff"),
        (-1, "20"),
        (-24, "37"),
        (-25, "3818"),
        (-(2**64), "3bffffffffffffffff"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"\1\2\3\4", "4401020304"),
        ("ü", "62c3bc"),
        ([1, [2, 3]], "8201820203"),
        ({"b": [2, 3], "a": 1}, "a26161016162820203"),
        ({"aa": 1, "b": 2}, "a261620262616101"),
        ({"k" * 24: 1, "l": 2}, "a2616c027818" + "6b" * 24 + "01"),
    ],
)
def test_known_encodings(value: Any, text: str) -> None:
    """Most are from appendix A of RFC 8949; the order of keys is DAG-CBOR's, shorter ones first."""
    assert encode(value).hex() == text
    assert decode_plain(bytes.fromhex(text)) == value


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_comes_back(kind: type[msgspec.Struct]) -> None:
    @given(records(kind))
    def check(record: msgspec.Struct) -> None:
        data = encode(record)
        assert decode(data, kind, LARGE) == record
        assert encode(decode(data, kind, LARGE)) == data

    check()


@given(st.binary(max_size=80))
def test_bytes_are_refused_or_are_their_own_encoding(data: bytes) -> None:
    try:
        value = decode_plain(data)
    except CodecError:
        return
    assert encode(value) == data


@given(records(Result), st.data())
def test_a_changed_byte_never_gives_the_same_record(record: Result, data: st.DataObject) -> None:
    sound = encode(record)
    at = data.draw(st.integers(0, len(sound) - 1))
    changed = sound[:at] + bytes([sound[at] ^ data.draw(st.integers(1, 255))]) + sound[at + 1 :]
    with contextlib.suppress(CodecError):
        assert decode(changed, Result) != record


@given(records(Result), st.data())
def test_a_cut_or_longer_record_is_refused(record: Result, data: st.DataObject) -> None:
    sound = encode(record)
    for wrong in (sound[: data.draw(st.integers(0, len(sound) - 1))], sound + data.draw(st.binary(min_size=1))):
        with pytest.raises(CodecError):
            decode(wrong, Result, LARGE)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("1801", id="integer in two bytes instead of one"),
        pytest.param("190001", id="integer in three bytes"),
        pytest.param("1a00000001", id="integer in five bytes"),
        pytest.param("1b0000000000000001", id="integer in nine bytes"),
        pytest.param("3800", id="negative integer in two bytes"),
        pytest.param("5801aa", id="length in two bytes"),
        pytest.param("78016a", id="text's length in two bytes"),
        pytest.param("980100", id="array's length in two bytes"),
        pytest.param("b801616100", id="map's length in two bytes"),
        pytest.param("1c", id="reserved length"),
        pytest.param("0000", id="two values"),
        pytest.param("9f00ff", id="indefinite array"),
        pytest.param("bf616100ff", id="indefinite map"),
        pytest.param("5f4100ff", id="indefinite bytes"),
        pytest.param("7f6161ff", id="indefinite text"),
        pytest.param("ff", id="break"),
        pytest.param("a2616101616102", id="duplicate key"),
        pytest.param("a2616201616101", id="unsorted keys"),
        pytest.param("a262616101616202", id="longer key first"),
        pytest.param("a10102", id="integer as key"),
        pytest.param("a1410102", id="bytes as key"),
        pytest.param("62c328", id="text that is not UTF-8"),
        pytest.param("63eda080", id="surrogate in text"),
        pytest.param("f7", id="undefined"),
        pytest.param("f820", id="simple value"),
        pytest.param("f93c00", id="half float"),
        pytest.param("fa3f800000", id="single float"),
        pytest.param("fb3ff0000000000000", id="float"),
        pytest.param("fb7ff8000000000000", id="not a number"),
        pytest.param("81fb3ff0000000000000", id="float in an array"),
        pytest.param("a16161fb3ff0000000000000", id="float in a map"),
        pytest.param("c11a514b67b0", id="tag of a time"),
        pytest.param("c249010000000000000000", id="tag of a bignum"),
        pytest.param("d82a582500" + LINK.hex(), id="tag of a link"),
        pytest.param("81d82a582500" + LINK.hex(), id="link in an array"),
        pytest.param("d9d9f700", id="tag that says CBOR"),
    ],
)
def test_what_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(CodecError):
        decode_plain(bytes.fromhex(text))


@pytest.mark.parametrize("size", [8, 32, 36, 64])
def test_bytes_that_look_like_a_link_are_bytes(size: int) -> None:
    looks = bytes([1, 0x71, 0x12, size - 4]) + bytes(size - 4)
    assert libipld.encode_dag_cbor(looks).startswith(b"\xd8\x2a"), "libipld takes it for a link"
    assert encode(looks) == (bytes([0x40 + size]) if size < 24 else bytes([0x58, size])) + looks
    assert decode_plain(encode(looks)) == looks


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x61a"])
def test_nesting_is_bounded(opening: bytes) -> None:
    assert decode_plain(opening * MAX_DEPTH + b"\x00") is not None
    for depth in (MAX_DEPTH + 1, 200, 2_000, 1_000_000):
        with pytest.raises(CodecError):
            decode_plain(opening * depth + b"\x00", 4 * LARGE)


@pytest.mark.parametrize("head", ["9a", "ba", "5a", "7a"])
def test_a_huge_announced_length_costs_nothing(head: str) -> None:
    for length in ("ffffffff", "0fffffff"):
        with pytest.raises(CodecError):
            decode_plain(bytes.fromhex(head + length + "00"))


def test_the_limit_comes_first() -> None:
    fits = encode(bytes(MAX_STATEMENT - 3))
    assert len(fits) == MAX_STATEMENT
    assert decode_plain(fits) == bytes(MAX_STATEMENT - 3)
    with pytest.raises(CodecError, match="1025 bytes"):
        decode_plain(b"\xff" * (MAX_STATEMENT + 1))


@pytest.mark.parametrize(
    "value", [1.5, {1, 2}, object(), 2**64, -(2**64) - 1, {1: 2}, {b"a": 1}, "\ud800", [None, 0.0]]
)
def test_what_has_no_place_in_a_record_is_not_encoded(value: object) -> None:
    with pytest.raises(CodecError):
        encode(value)


class Pair(Record, frozen=True):
    one: int
    two: tuple[int, ...] = ()
    three: str = ""


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"one": 1, "two": [2], "three": "", "four": 4}, id="a field too many"),
        pytest.param({"two": [2], "three": ""}, id="a field missing"),
        pytest.param({"one": 1, "three": ""}, id="a field left out that has a default"),
        pytest.param({"one": 1}, id="all left out that have one"),
        pytest.param({"one": True, "two": [], "three": ""}, id="a boolean for a number"),
        pytest.param({"one": "1", "two": [], "three": ""}, id="text for a number"),
        pytest.param({"one": 1, "two": [], "three": b"x"}, id="bytes for text"),
        pytest.param({"one": 1, "two": None, "three": ""}, id="nothing for a list"),
        pytest.param([1, [2], ""], id="a list for a record"),
        pytest.param(None, id="nothing"),
    ],
)
def test_a_record_that_does_not_fit_exactly_is_refused(value: object) -> None:
    assert decode(encode({"one": 1, "two": [2], "three": "x"}), Pair) == Pair(1, (2,), "x")
    with pytest.raises(CodecError):
        decode(encode(value), Pair)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (Row, {"error": "undecodable\n"}),
        (Row, {"error": "Upper"}),
        (Row, {"image": bytes(31)}),
        (Row, {"item": -1}),
        (Row, {"item": 16_384}),
        (Row, {"reason": "x" * 257}),
        (Row, {"answers": [{"text": "", "tokens": 1, "finish": "stop\n"}]}),
        (Row, {"answers": [{"text": "", "tokens": 1, "finish": "stop"}] * 17}),
        (Item, {"key": ""}),
        (Item, {"key": "k" * 1_025}),
        (Item, {"length": 64 * LARGE + 1}),
    ],
)
def test_a_field_beyond_its_bounds_is_refused(kind: type[msgspec.Struct], changed: dict[str, Any]) -> None:
    sound = {
        Row: {"item": 0, "image": bytes(32), "answers": [], "error": "undecodable", "reason": ""},
        Item: {"key": "a.png", "hash": bytes(32), "length": 1},
    }[kind]
    decode(encode(sound), kind)
    with pytest.raises(CodecError):
        decode(encode(sound | changed), kind, LARGE)
