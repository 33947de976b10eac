"""Rows as they leave the engine: always within the protocol's limits."""

from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import decode, encode
from p2pcap.engine.base import Output
from p2pcap.errors import ImageError
from p2pcap.ledger.body import in_bodies
from p2pcap.ledger.records import MAX_ANSWER, MAX_RAW, Answer, Row
from p2pcap.worker.slices import Image, Made, Slice, captioned, failed
from tests.makers import item

ITEM = item(0, 5)


def test_answers_become_a_row() -> None:
    made = captioned(5, ITEM.hash, (Output("a red circle", 4, "stop", (7, 8, 9, 2)), Output("circle", 1, "length")))
    assert made.row == Row(5, ITEM.hash, (Answer("a red circle", 4, "stop"), Answer("circle", 1, "length")))
    assert made.ids == ((7, 8, 9, 2), ())


def test_a_fault_becomes_a_row() -> None:
    assert failed(5, ITEM.hash, ImageError("empty", "The file has no bytes.")) == Row(
        5, ITEM.hash, (), "empty", "The file has no bytes."
    )


@given(st.lists(st.tuples(st.sampled_from("x💥"), st.sampled_from([0, 1, MAX_ANSWER, MAX_ANSWER + 1])), max_size=16))
def test_every_row_fits_a_body_and_its_schema(drawn: list[tuple[str, int]]) -> None:
    texts = [letter * count for letter, count in drawn]
    made = captioned(5, ITEM.hash, tuple(Output(text, 1, "stop", (1,)) for text in texts))
    row = made.row
    assert bool(made.ids) == bool(row.answers)
    assert decode(encode(row), Row, MAX_RAW) == row
    (run,) = in_bodies([row])
    assert len(encode(run)) <= MAX_RAW
    in_all = sum(len(text.encode()) for text in texts)
    too_long = any(len(text) > MAX_ANSWER for text in texts) or in_all > MAX_RAW - 2_000
    assert (row.error == "too-long") == too_long


@given(st.text())
def test_every_reason_fits(reason: str) -> None:
    row = failed(5, ITEM.hash, ImageError("rejected", reason * 50))
    assert decode(encode(row), Row, MAX_RAW) == row


def test_a_slice_is_complete_with_its_last_row() -> None:
    piece = Slice(0, 0, 64, 0b11)
    for index in (1, 0):
        assert not piece.complete
        piece.rows[index] = failed(index, item(0, index).hash, ImageError("empty", "The file has no bytes."))
    assert piece.complete


def test_what_is_done_is_split_off_and_the_rest_stays() -> None:
    piece = Slice(0, 0, 64, 0b111, images={index: (item(0, index), Image(b"h" * 32)) for index in range(3)})
    answered = Made(Row(1, item(0, 1).hash, (Answer("a", 1, "stop"),)), ((7,),))
    piece.put(answered)
    part = piece.split()
    assert (part.items, part.rows, part.ids, part.more) == (0b010, {1: answered.row}, {1: ((7,),)}, True)
    assert (piece.items, piece.rows, piece.ids, piece.more) == (0b101, {}, {}, False)
    assert part.complete
    assert sorted(piece.images) == [0, 2]
    for index in (0, 2):
        piece.put(Made(failed(index, b"", ImageError("empty", "The file has no bytes."))))
    assert piece.complete
    assert piece.ids == {}
