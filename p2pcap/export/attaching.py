"""Puts into a Parquet file what proves its rows.

The file is written first, by whatever writes fastest; then what is in it is read off its columns, and the statements
that prove it are asked for. So the proof fits any choice of rows: of a result's rows that are not in the file, it holds
the hashes.

Always holds: two nodes with equal tables put equal bytes into equal files. Memory does not grow with the captions: a
page of chunks is in hand at one time, and for each result in the file some hundred bytes.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from p2pcap.export.gathering import Gathering, Present, Select, pages
from p2pcap.export.section import Contents, Group, Listed, SectionWriter

NEEDED = ("task", "chunk", "item", "statement", "image", "answers", "error", "reason")
"""The columns without which a file's rows cannot be checked."""

CHUNKS = 64
"""Chunks whose statements and lists are asked for at one time."""

Place = tuple[str, int]
"""Task id in hex, and chunk."""


def attach(path: Path, select: Select) -> None:
    """Put the proof of its rows into the Parquet file at `path`, which nobody uses yet. Raises StoreError when the node
    cannot prove them any more."""
    present = _present(path)
    node = Gathering(select)
    with SectionWriter(path) as writer:
        chunks = sorted({chunk for _, chunk in present})
        pages_of = {data for chunk in chunks if (data := node.page_of(chunk))}
        named = tuple(writer.put_raw(data) for data in sorted(pages_of))
        lists = tuple(_lists(writer, node, chunks))
        authors: set[bytes] = set()
        groups = tuple(_groups(writer, node, present, authors))
        seals = node.seals()
        statements = tuple(node.statements(authors, len(seals)))
        parts = (writer.put(node.chain), writer.put(statements), writer.put(seals))
        writer.finish(Contents(*parts, named, lists, groups))


def _lists(writer: SectionWriter, node: Gathering, chunks: Sequence[int]) -> Iterator[Listed]:
    """The item lists of these chunks, as far as they are stored."""
    for page in pages(chunks, CHUNKS):
        for chunk, data in node.lists(page):
            yield Listed(chunk, writer.put_raw(data))


def _groups(
    writer: SectionWriter, node: Gathering, present: Mapping[Place, Mapping[str, Present]], authors: set[bytes]
) -> Iterator[Group]:
    """What proves each task's rows of each chunk, in the order of the file; `authors` becomes whose they are."""
    for task, places in groupby(present, key=lambda place: place[0]):
        for page in pages((chunk for _, chunk in places), CHUNKS):
            envelopes = node.envelopes(task, page)
            for chunk in page:
                held = present[task, chunk]
                batches = tuple(node.batches(held, envelopes))
                authors |= {envelopes[id_].author for id_ in held}
                yield Group(bytes.fromhex(task), chunk, writer.put(batches))


# what is in the file


def _present(path: Path) -> dict[Place, dict[str, Present]]:
    """By task and chunk, in the order of the file, the results that rows are of, by their ids in hex."""
    import pyarrow.parquet as pq

    found: dict[Place, dict[str, Present]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(NEEDED)):
            names = zip(*(batch.column(name).to_pylist() for name in ("task", "chunk", "statement")), strict=True)
            items, marks = batch.column("item").to_pylist(), _marks(batch)
            start = 0
            for (task, chunk, statement), run in groupby(names):
                end = start + sum(1 for _ in run)
                held = found.setdefault((task, chunk), {}).setdefault(statement, Present())
                held.items |= _bits(items[start:end])
                held.marks += marks[4 * start : 4 * end]
                start = end
    return found


def _bits(items: Sequence[int]) -> int:
    """Ascending numbers as bits; nearly always they follow each other."""
    if items[-1] - items[0] == len(items) - 1:
        return ((1 << len(items)) - 1) << items[0]
    return sum(1 << item for item in items)


def _marks(batch: Any) -> bytes:
    """The marks of the rows (p2pcap.ledger.leaves.mark), one after the other, from Arrow's own buffers: there the
    answers of one row lie side by side."""
    answers = batch.column("answers")
    ends = answers.offsets.to_pylist()
    marks = [0] * batch.num_rows
    for name in ("text", "finish", "tokens"):
        marks = _marked(answers.values.field(name), ends, marks)
    for name in ("image", "error", "reason"):
        marks = _marked(batch.column(name), range(batch.num_rows + 1), marks)
    return struct.pack(f">{len(marks)}I", *marks)


def _marked(column: Any, ends: Sequence[int], marks: list[int]) -> list[int]:
    """The marks, each carried on over the bytes of the column's cells from one end to the next one."""
    _, *buffers = column.buffers()
    if buffers[-1] is None or not len(buffers[-1]):
        return marks
    data = memoryview(buffers[-1])
    if len(buffers) == 1:
        places = [8 * (column.offset + end) for end in ends]
    else:
        offsets = memoryview(buffers[0]).cast("q" if str(column.type) == "large_string" else "i")
        places = [offsets[column.offset + end] for end in ends]
    return [zlib.crc32(data[start:end], mark) for start, end, mark in zip(places, places[1:], marks, strict=False)]
