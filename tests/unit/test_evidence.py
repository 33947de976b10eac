"""Evidence: what is made opens to the same; what a stranger made is bounded, checked, and never trusted."""

import struct
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pcap.codec import encode
from p2pcap.errors import UntrustedError
from p2pcap.ledger.evidence import (
    KEPT_RESULTS,
    KEPT_SECONDS,
    MAX_EVIDENCE,
    Evidence,
    EvidenceRow,
    Ids,
    make_evidence,
    open_evidence,
    outdated,
)
from p2pcap.ledger.records import MAX_ANSWERS, MAX_TOKENS, Result
from p2pcap.project.records import MAX_CHUNK
from tests.makers import make_project, make_result

TOKEN = st.integers(0, 2**32 - 1)
ANSWERS = st.lists(st.lists(TOKEN, max_size=30).map(tuple), min_size=1, max_size=4).map(tuple)
ROWS = st.dictionaries(st.integers(0, MAX_CHUNK - 1), ANSWERS, max_size=20)


@given(ROWS)
def test_what_is_made_opens_to_the_same(ids: dict[int, Ids]) -> None:
    known = {item: answers for item, answers in ids.items() if any(answers)}
    data = make_evidence(ids)
    assert (open_evidence(data) if data is not None else {}) == known


def test_a_slice_of_captions_takes_few_bytes() -> None:
    data = make_evidence({item: (tuple((item * 37 + n * 101) % 32_000 for n in range(60)),) for item in range(64)})
    assert data is not None
    assert len(data) < 64 * 60 * 3


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_what_is_no_token_id_is_left_out(bad: int) -> None:
    data = make_evidence({0: ((1, bad),), 1: ((2, 3), ())})
    assert data is not None
    assert open_evidence(data) == {1: ((2, 3), ())}
    assert make_evidence({0: ((bad,),)}) is None


def test_more_than_a_row_may_hold_is_left_out() -> None:
    assert make_evidence({0: ((1,),) * (MAX_ANSWERS + 1)}) is None
    assert make_evidence({0: ((1,) * (MAX_TOKENS + 1),)}) is None


def test_it_is_bounded_and_what_does_not_fit_is_left_out() -> None:
    longest = (tuple(range(MAX_TOKENS)),) * 2
    data = make_evidence(dict.fromkeys(range(64), longest) | {64: ((1,),)})
    assert data is not None
    opened = open_evidence(data)
    assert 64 in opened, "a short one after it still fits"
    raw = len(zstandard.ZstdDecompressor().decompress(data))
    assert MAX_EVIDENCE - 8 * MAX_TOKENS - 1_000 < raw <= MAX_EVIDENCE


def frame(value: object) -> bytes:
    return zstandard.ZstdCompressor().compress(encode(value))


ONE = struct.pack("<I", 7)
LIES = {
    "no zstd": b"nothing",
    "nothing in it": zstandard.ZstdCompressor().compress(b""),
    "no length": zstandard.ZstdCompressor(write_content_size=False).compress(b"x"),
    "a bomb": zstandard.ZstdCompressor().compress(bytes(MAX_EVIDENCE + 1)),
    "no DAG-CBOR": zstandard.ZstdCompressor().compress(b"\xff\xff"),
    "no rows": frame({"version": 1, "rows": []}),
    "another version": frame({"version": 2, "rows": [{"item": 0, "ids": [ONE]}]}),
    "an unknown field": frame({"version": 1, "rows": [{"item": 0, "ids": [ONE]}], "more": 1}),
    "a row twice": frame(Evidence(1, (EvidenceRow(3, (ONE,)), EvidenceRow(3, (ONE,))))),
    "another order": frame(Evidence(1, (EvidenceRow(4, (ONE,)), EvidenceRow(3, (ONE,))))),
    "part of an id": frame(Evidence(1, (EvidenceRow(3, (ONE[:3],)),))),
    "no answers": frame({"version": 1, "rows": [{"item": 0, "ids": []}]}),
    "too many answers": frame({"version": 1, "rows": [{"item": 0, "ids": [ONE] * (MAX_ANSWERS + 1)}]}),
    "too many rows": frame(Evidence(1, tuple(EvidenceRow(item, (ONE,)) for item in range(65)))),
    "too long an answer": frame(Evidence(1, (EvidenceRow(0, (ONE * (MAX_TOKENS + 1),)),))),
    "an item beyond": frame(Evidence(1, (EvidenceRow(MAX_CHUNK, (ONE,)),))),
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES.keys())
def test_what_is_no_evidence_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError, match="evidence"):
        open_evidence(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_evidence_or_refused(data: bytes) -> None:
    for tried in (data, zstandard.ZstdCompressor().compress(data)):
        with suppress(UntrustedError):
            open_evidence(tried)


# how long it is kept

MADE = make_project((64,))


def result(number: int, time: int, told: bool = True) -> tuple[bytes, Result]:
    header, _ = make_result(MADE.project, 0, [MADE.row(0, 0)], time)
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    named = number.to_bytes(32, "big")
    return named, Result(**fields | ({"evidence": named} if told else {}))


def test_it_is_kept_until_its_result_is_sealed_and_a_day_old() -> None:
    now = 10 * KEPT_SECONDS
    sealed_old, open_old = result(1, now - KEPT_SECONDS), result(2, now - 9 * KEPT_SECONDS)
    sealed_new, untold = result(3, now - KEPT_SECONDS + 1), result(4, 0, told=False)
    sealed = {one[0]: 1 for one in (sealed_old, sealed_new, untold)}
    assert outdated([sealed_old, open_old, sealed_new, untold], sealed, now) == {sealed_old[1].evidence}


def test_evidence_of_several_results_goes_with_the_last_of_them() -> None:
    now = 10 * KEPT_SECONDS
    old, fresh = result(1, 0), result(2, now)
    shared = (fresh[0], replace(fresh[1], evidence=old[1].evidence))
    sealed = {old[0]: 1, fresh[0]: 1}
    assert outdated([old, shared], sealed, now) == set()
    assert outdated([old, shared], sealed, now + KEPT_SECONDS) == {old[1].evidence}


def test_no_more_than_so_much_is_kept_and_the_newest_first() -> None:
    results = [result(number, 1_000 + number) for number in range(KEPT_RESULTS + 3)]
    assert outdated(reversed(results), {}, 2_000) == {header.evidence for _, header in results[:3]}
