"""What rows a Parquet file gets, noted as they are written: what its proof is made from.

Always holds: what is noted depends on the rows and on their order alone, not on how they are cut into batches. Memory
is some hundred bytes for each result that rows are of.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from p2pcap.ledger.leaves import FINISH_WEIGHT, TOKENS_WEIGHT, mark

NEEDED = ("task", "chunk", "item", "statement", "image", "answers", "error", "reason")
"""The columns without which a file's rows cannot be checked."""

Place = tuple[str, int]
"""Task id in hex, and chunk."""

IMAGE = 64
"""Digits of an image's hash."""


@dataclass
class Present:
    """The rows of one result that a file has: items as bits of the chunk, and marks in the order of the items."""

    items: int = 0
    marks: bytearray = field(default_factory=bytearray)


class Presence:
    """Notes the rows of a file. `found`: by task and chunk, in the order of the file, the results that rows are of, by
    their ids in hex."""

    def __init__(self) -> None:
        self.found: dict[Place, dict[str, Present]] = {}

    def noted(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, each noted as it goes by."""
        for batch in batches:
            self.note(batch)
            yield batch

    def note(self, batch: Any) -> None:
        """Note the rows of an Arrow record batch with the columns NEEDED."""
        import pyarrow.compute as pc

        runs = pc.run_end_encode(batch.column("statement"))
        tasks, chunks = batch.column("task"), batch.column("chunk")
        items, marks = batch.column("item").to_numpy(), marks_of(batch)
        start = 0
        for statement, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            place = tasks[start].as_py(), chunks[start].as_py()  # a result is of one task and chunk
            held = self.found.setdefault(place, {}).setdefault(statement, Present())
            held.items |= _bits(items[start:end].tolist())
            held.marks += marks[4 * start : 4 * end]
            start = end


def _bits(items: list[int]) -> int:
    """Ascending numbers as bits; nearly always they follow each other."""
    if items[-1] - items[0] == len(items) - 1:
        return ((1 << len(items)) - 1) << items[0]
    return sum(1 << item for item in items)


def marks_of(batch: Any) -> bytes:
    """The marks of the rows (p2pcap.ledger.leaves.mark), one after the other. Rows that have an image and no error,
    nearly all of them, are marked out of Arrow's own buffers, many at one time."""
    import pyarrow.compute as pc

    usual = pc.and_(pc.is_null(batch.column("error")), pc.is_valid(batch.column("image")))
    if usual.true_count == batch.num_rows:
        return _usual(batch)
    marks = memoryview(_usual(batch.filter(usual)))
    places = accumulate(usual.to_pylist(), initial=0)
    return b"".join(
        marks[4 * place : 4 * place + 4] if fast else _unusual(batch, row)
        for row, (place, fast) in enumerate(zip(places, usual.to_pylist(), strict=False))
    )


def _unusual(batch: Any, row: int) -> bytes:
    answers, image, error, reason = (
        batch.column(name)[row].as_py() for name in ("answers", "image", "error", "reason")
    )
    shown = [(answer["text"], answer["tokens"], answer["finish"]) for answer in answers or ()]
    return mark(shown, image or "", error or "", reason or "")


def _usual(batch: Any) -> bytes:
    import numpy as np

    if not batch.num_rows:
        return b""
    answers = batch.column("answers")
    ends = answers.offsets.to_numpy()
    places = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], np.diff(ends)) + 1
    tokens = answers.values.field("tokens").to_numpy()[ends[0] : ends[-1]]
    letters, bounds = _text(answers.values.field("finish"))
    finish = np.diff(_sums(np.frombuffer(letters, np.uint8))[bounds[ends[0] : ends[-1] + 1]])
    weighed = _sums(places * (TOKENS_WEIGHT * tokens + FINISH_WEIGHT * finish))
    image, cuts = _text(batch.column("image"))
    words = np.frombuffer(image[cuts[0] : cuts[-1]], "<u8").reshape(-1, IMAGE // 8)
    folded = np.bitwise_xor.reduce(words, axis=1)
    rest = np.diff(weighed[ends - ends[0]]) + (folded & 0xFFFFFFFF).astype(np.int64) + (folded >> 32).astype(np.int64)
    texts, bounds = _text(answers.values.field("text"))
    cuts = bounds[ends].tolist()
    checks = [zlib.crc32(texts[start:end]) for start, end in pairwise(cuts)]
    marks = (np.array(checks, np.int64) + rest).astype(np.uint32).astype(">u4")
    return bytes(marks.tobytes())


def _sums(numbers: Any) -> Any:
    """The sum of the numbers before each place, and of all of them."""
    import numpy as np

    return np.concatenate(([0], np.cumsum(numbers, dtype=np.int64)))


def _text(column: Any) -> tuple[memoryview, Any]:
    """The bytes of a column of texts, and where each text begins in them, and the last one ends."""
    import numpy as np

    _, offsets, data = column.buffers()
    kind = np.int64 if str(column.type) == "large_string" else np.int32
    bounds = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    return memoryview(data or b""), bounds
