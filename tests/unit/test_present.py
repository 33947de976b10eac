"""What is noted of a file's rows, and the order in which they come."""

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.export.present import Presence, marks_of
from p2pcap.ledger.leaves import mark
from p2pcap.store.parts import in_order

KINDS = pa.struct([("prompt", pa.string()), ("text", pa.string()), ("tokens", pa.int64()), ("finish", pa.string())])
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("statement", "task", "image", "error", "reason"), pa.string()),
        "answers": pa.list_(KINDS),
        "chunk": pa.int32(),
        "item": pa.int32(),
    }
)
ANSWER = st.fixed_dictionaries(
    {
        "prompt": st.just("p"),
        "text": st.text(max_size=8),
        "tokens": st.integers(0, 65_536),
        "finish": st.sampled_from(["stop", "length"]),
    }
)
IMAGE = st.binary(min_size=32, max_size=32).map(bytes.hex)
CAPTIONED = st.fixed_dictionaries(
    {"image": IMAGE, "answers": st.lists(ANSWER, min_size=1, max_size=3), "error": st.none(), "reason": st.none()}
)
FAILED = st.fixed_dictionaries(
    {"image": st.none() | IMAGE, "answers": st.none(), "error": st.just("decode"), "reason": st.text(max_size=5)}
)


def batch_of(rows: list[dict[str, Any]]) -> Any:
    whole = [{"statement": "s", "task": "t", "chunk": 0, "item": item} | row for item, row in enumerate(rows)]
    return pa.RecordBatch.from_pylist(whole, SCHEMA)


@given(st.lists(CAPTIONED | FAILED, min_size=1, max_size=9), st.data())
def test_the_marks_out_of_arrow_are_those_of_the_ledger(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    expected = [
        mark(
            [(one["text"], one["tokens"], one["finish"]) for one in row["answers"] or ()],
            *(row[name] or "" for name in ("image", "error", "reason")),
        )
        for row in rows[start:]
    ]
    assert marks_of(batch_of(rows).slice(start)) == b"".join(expected)


@given(st.lists(CAPTIONED, min_size=1, max_size=4), st.sampled_from(["text", "tokens", "finish"]), st.data())
def test_a_change_of_one_value_changes_the_mark(rows: list[dict[str, Any]], name: str, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(rows))
    answer = data.draw(st.sampled_from(row["answers"]))
    other = data.draw(ANSWER)[name]
    before = marks_of(batch_of(rows))
    same = answer[name] == other
    answer[name] = other
    assert (marks_of(batch_of(rows)) == before) is same


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_how_rows_are_cut_into_batches_does_not_matter(lengths: list[int]) -> None:
    whole = batch_of([{"image": "00" * 32, "answers": [], "error": None, "reason": None}] * sum(lengths))
    pieces, at = [], 0
    for length in lengths:
        pieces.append(whole.slice(at, length))
        at += length
    one, other = Presence(), Presence()
    assert list(one.noted(iter([whole]))) == [whole]
    assert list(other.noted(iter(pieces))) == pieces
    assert one.found == other.found
    assert one.found["t", 0]["s"].items == (1 << sum(lengths)) - 1


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1), max_size=4))
def test_rows_come_by_chunk_and_item_and_equal_ones_as_they_were(batches: list[list[tuple[int, int]]]) -> None:
    rows = [row for batch in batches for row in batch]
    numbers = iter(range(len(rows)))
    made = [
        pa.RecordBatch.from_pydict(
            {
                "n": [str(next(numbers)) for _ in batch],
                "chunk": pa.array([chunk for chunk, _ in batch], pa.int32()),
                "item": pa.array([item for _, item in batch], pa.int32()),
            }
        )
        for batch in batches
    ]
    found = [row["n"] for batch in in_order(made) for row in batch.to_pylist()]
    assert found == [str(number) for number in sorted(range(len(rows)), key=lambda number: rows[number])]
