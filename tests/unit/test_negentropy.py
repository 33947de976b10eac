"""Reconciliation: what the reference says, byte for byte; what set difference says; and what strangers say."""

import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pcap.errors import CodecError
from p2pcap.ledger.index import MAX_TIME, Index
from p2pcap.ledger.negentropy import (
    MAX_HAVE,
    MAX_ROUNDS,
    MIN_LIMIT,
    RANGE_BYTES,
    Reconciliation,
    Step,
    _Reader,
    respond,
)
from tests.vectors.negentropy import Case, Entry, Sets, cases, load, short, summed

UNLIMITED = 2**40
LIMIT = 60_000
VECTORS = load()


def index_of(entries: Iterable[Entry]) -> Index:
    index = Index()
    for time, id in entries:
        index.add(time, id)
    return index


def conversation(a: Index, b: Index, limit: int) -> Iterator[tuple[bytes, bytes, Step]]:
    """Each round: what is asked, what is answered, and what `a` learns from it."""
    asking = Reconciliation(a, limit)
    question: bytes | None = asking.first()
    while question is not None:
        answer = respond(b, question, limit)
        step = asking.take(answer)
        yield question, answer, step
        question = step.next


def difference(a: Index, b: Index, limit: int = LIMIT) -> tuple[list[bytes], list[bytes]]:
    """What `a` learns that it has and needs."""
    steps = [step for _, _, step in conversation(a, b, limit)]
    return [id for step in steps for id in step.have], [id for step in steps for id in step.need]


# the reference


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case.name}, {case.limit or 'no limit'}")
def test_every_frame_is_that_of_the_reference(case: Case) -> None:
    a, b = map(index_of, case.sets.made())
    frames, have, need = list[str](), list[bytes](), list[bytes]()
    for question, answer, step in conversation(a, b, case.limit or UNLIMITED):
        frames += [short(question), short(answer)]
        have += step.have
        need += step.need
    assert frames == case.frames
    assert (summed(have), summed(need)) == (case.have, case.need)


def test_the_vectors_are_of_these_cases() -> None:
    assert [(case.name, case.sets, case.limit) for case in VECTORS] == [(c.name, c.sets, c.limit) for c in cases()]
    assert len({case.name for case in VECTORS}) > 30
    assert any(len(case.frames) > 100 for case in VECTORS)


def test_an_empty_index_as_the_specification_encodes_it() -> None:
    """By hand: version 1; up to infinity, no id prefix; a list; of none."""
    assert Reconciliation(Index(), LIMIT).first() == bytes((0x61, 0, 0, 2, 0))


def test_a_fingerprint_as_the_specification_computes_it() -> None:
    """By hand: of 32 ids 1..32 as little-endian numbers, two each in 16 ranges that time alone divides."""
    index = index_of((number * 1_000, number.to_bytes(32, "little")) for number in range(1, 33))
    first = sha256((1 + 2).to_bytes(32, "little") + b"\x02").digest()[:16]
    last = sha256((31 + 32).to_bytes(32, "little") + b"\x02").digest()[:16]
    frame = Reconciliation(index, LIMIT).first()
    assert frame.startswith(bytes((0x61, 0x80 + 3001 // 128, 3001 % 128, 0, 1)) + first)
    assert frame.endswith(bytes((0, 0, 1)) + last)


# set difference

entries = st.dictionaries(
    st.integers(0, 400).map(lambda number: number.to_bytes(2, "big") * 16),
    st.sampled_from([0, 1, 2, 1_000, 2**31, 2**63, MAX_TIME]) | st.integers(0, 30),
    max_size=300,
).map(lambda times: [(time, id) for id, time in times.items()])


def held(index: Index) -> set[bytes]:
    return {id for _, id in index}


@given(shared=entries, only_a=entries, only_b=entries)
@example([], [], [])
def test_what_differs_is_found(shared: list[Entry], only_a: list[Entry], only_b: list[Entry]) -> None:
    a = index_of([*shared, *((time, b"a" + id[1:]) for time, id in only_a)])
    b = index_of([*shared, *((time, b"b" + id[1:]) for time, id in only_b)])
    have, need = difference(a, b)
    assert sorted(have) == sorted(held(a) - held(b))
    assert sorted(need) == sorted(held(b) - held(a))


@pytest.mark.parametrize(
    "sets",
    [
        Sets(both=500, a=700, b=300),
        Sets(a=900),
        Sets(b=900),
        Sets(both=200, a=500, b=500, late=20 * 86_400),
        Sets(both=400, b=700, spread=1, prefix=29),
    ],
    ids=str,
)
def test_frames_cut_short_still_make_sets_equal(sets: Sets) -> None:
    """As in the swarm: what is found is exchanged at once, and conversations are begun until the digests are equal."""
    made = sets.made()
    times = {id: time for time, id in made[0] + made[1]}
    a, b = map(index_of, made)
    for _ in range(3):
        for question, answer, step in conversation(a, b, MIN_LIMIT):
            assert max(len(question), len(answer)) <= MIN_LIMIT
            assert all(id in a and id not in b for id in step.have)
            assert all(id in b and id not in a for id in step.need)
            for id in step.have:
                b.add(times[id], id)
            for id in step.need:
                a.add(times[id], id)
    assert list(a) == list(b)
    assert len(a) == len(times)


def test_breaking_off_and_starting_anew_finds_the_same() -> None:
    sets = Sets(both=300, a=200, b=200)
    a, b = map(index_of, sets.made())
    asking = Reconciliation(a, MIN_LIMIT)
    first = asking.take(respond(b, asking.first(), MIN_LIMIT))
    assert first.next is not None
    assert difference(a, b) == difference(index_of(a), index_of(b))


def test_a_bulk_is_named_up_to_a_bound_and_the_rest_next_time() -> None:
    a, b = index_of(Sets(a=MAX_HAVE + 100).made()[0]), Index()
    have, need = difference(a, b)
    assert (len(have), need) == (MAX_HAVE, [])
    for id in have:
        b.add(a.time_of(id) or 0, id)
    assert sorted(difference(a, b)[0]) == sorted(held(a) - held(b))


# strangers


def listed(*ids: bytes, count: int | None = None) -> bytes:
    """A range up to infinity with these ids, said to be `count`."""
    return bytes((0, 0, 2)) + number(len(ids) if count is None else count) + b"".join(ids)


def number(value: int, zeros: int = 0) -> bytes:
    digits = [value >> 7 * place & 0x7F for place in range(max(1, (value.bit_length() + 6) // 7) + zeros)]
    return bytes(digit | 0x80 for digit in digits[:0:-1]) + bytes(digits[:1])


MALFORMED = {
    "nothing": b"",
    "no version": b"\x01\x00\x00\x00",
    "a bound without a mode": b"\x61\x00\x00",
    "half a bound": b"\x61\x05\x04\x01",
    "an id prefix of 33 bytes": b"\x61\x05\x21" + bytes(33) + b"\x00",
    "an unknown mode": b"\x61\x00\x00\x03",
    "half a fingerprint": b"\x61\x00\x00\x01" + bytes(15),
    "an id too few": b"\x61" + listed(bytes(32), count=2),
    "half an id": b"\x61" + listed(bytes(31)),
    "2**40 ids": b"\x61" + listed(bytes(32), count=2**40),
    "2**64 - 1 ids": b"\x61" + listed(bytes(32), count=2**64 - 1),
    "2**64 ids": b"\x61" + listed(bytes(32), count=2**64),
    "a number without end": b"\x61" + b"\xff" * 50_000,
    "a number that begins with zeros": b"\x61\x00\x00\x02" + number(0, zeros=1),
    "a long zero": b"\x61" + b"\x80" * 40_000,
    "prefixes out of order": b"\x61\x05\x01\x09\x00\x01\x01\x08\x00",
    "a shorter prefix later": b"\x61\x05\x02\x09\x09\x00\x01\x01\x09\x00",
    "a time after the end": b"\x61\x00\x00\x00\x05\x00\x00",
    "a time beyond 64 bits": b"\x61" + number(2**64 - 1) + b"\x00\x00" + number(2) + b"\x00\x00",
    "the time of the end, spelt out": b"\x61" + number(2**64 - 1) + b"\x00\x00" + number(1 + 1) + b"\x00\x00",
    "more ranges than a frame has": b"\x61" + b"\x01\x00\x00" * (LIMIT // RANGE_BYTES + 1),
    "more bytes than a frame has": b"\x61" + listed(*[bytes(32)] * (LIMIT // 32)),
}


@pytest.fixture(scope="module", name="ours")
def some_index() -> Index:
    return index_of(Sets(a=2_000).made()[0])


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_malformed_is_refused_on_both_sides(kind: str, ours: Index) -> None:
    frame = MALFORMED[kind]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            respond(ours, frame, LIMIT)
        with pytest.raises(CodecError):
            Reconciliation(ours, LIMIT).take(frame)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("endless", [b"\xff" * 50_000, b"\x81" + b"\x80" * 50_000, b"\xff" * 10 + b"\x01"])
def test_a_number_without_end_is_read_no_further_than_numbers_go(endless: bytes) -> None:
    reader = _Reader(b"\x61" + endless)
    with pytest.raises(CodecError, match="10 bytes"):
        reader.range()
    assert reader.at == 11


@pytest.mark.parametrize(
    "frame",
    [
        b"\x61",
        b"\x61\x05\x01\x09\x00\x01\x01\x09\x00",  # the same bound twice: an empty range
        b"\x61\x05\x02\x09\x00\x00\x01\x01\x09\x00",  # and with a prefix of another length
        b"\x61" + number(2**64 - 1) + b"\x00\x00\x00\x00\x00",  # the highest time, then the end
        b"\x61" + listed(bytes(32)) + listed(),  # the end twice, as the reference writes a frame that is just full
        b"\x61" + b"\x01\x00\x00" * (LIMIT // RANGE_BYTES),
    ],
)
def test_what_is_unusual_is_taken(frame: bytes, ours: Index) -> None:
    assert respond(ours, frame, LIMIT)[0] == 0x61
    Reconciliation(ours, LIMIT).take(frame)


def test_another_version_is_told_ours_and_ends_a_conversation(ours: Index) -> None:
    assert respond(ours, b"\x62 whatever", LIMIT) == b"\x61"
    with pytest.raises(CodecError, match="version 1"):
        Reconciliation(ours, LIMIT).take(b"\x62")


def both_sides(ours: Index, frame: bytes, limit: int) -> None:
    """Either side answers within the limit, or refuses."""
    with suppress(CodecError):
        assert len(respond(ours, frame, limit)) <= limit
    with suppress(CodecError):
        assert len(Reconciliation(ours, limit).take(frame).next or b"") <= limit


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"\x61" + data))
def test_any_bytes_are_answered_or_refused(data: bytes) -> None:
    both_sides(index_of(Sets(a=100).made()[0]), data, LIMIT)


@st.composite
def plausible(draw: st.DrawFn) -> bytes:
    """Frames whose ranges are well formed one by one."""
    frame = bytearray(b"\x61")
    for _ in range(draw(st.integers(0, 40))):
        prefix = draw(st.binary(max_size=3))
        frame += number(draw(st.sampled_from([0, 1, 2, 1_700_000_000, 2**20, 2**63]))) + bytes([len(prefix)]) + prefix
        ids = draw(st.lists(st.binary(min_size=32, max_size=32), max_size=3))
        modes = [b"\x00", b"\x01" + draw(st.binary(min_size=16, max_size=16)), listed(*ids)[2:]]
        frame += draw(st.sampled_from(modes))
    return bytes(frame)


@given(plausible())
def test_any_ranges_are_answered_within_the_limit(frame: bytes) -> None:
    both_sides(index_of(Sets(both=3_000).made()[0]), frame, MIN_LIMIT)


def test_a_peer_that_never_comes_to_an_end_is_left_after_some_rounds(ours: Index) -> None:
    asking = Reconciliation(ours, LIMIT)
    rounds, question = 0, asking.first()
    while True:
        rounds += 1
        step = asking.take(b"\x61" + bytes((0, 0, 1)) + rounds.to_bytes(16, "big"))  # always another fingerprint
        if step.next is None:
            break
        question = step.next
    assert rounds == MAX_ROUNDS
    assert len(question) <= LIMIT


def test_a_peer_that_claims_to_lack_everything_again_and_again_learns_no_more(ours: Index) -> None:
    a = index_of(Sets(a=MAX_HAVE + 100).made()[0])
    asking = Reconciliation(a, LIMIT)
    assert [len(asking.take(b"\x61" + listed()).have) for _ in range(3)] == [MAX_HAVE, 0, 0]


def test_ids_listed_twice_are_needed_once(ours: Index) -> None:
    lists = bytes((5, 0, 2, 2)) + b"x" * 32 + b"x" * 32 + bytes((0, 0, 2, 1)) + b"x" * 32
    assert Reconciliation(ours, LIMIT).take(b"\x61" + lists).need == [b"x" * 32]


def test_limits_below_the_least_are_a_mistake(ours: Index) -> None:
    with pytest.raises(ValueError, match="4096"):
        respond(ours, b"\x61\x00\x00\x02\x00", MIN_LIMIT - 1)
