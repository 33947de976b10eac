"""Puts into a Parquet file what proves its rows.

The file is written first, by whatever writes fastest; what goes into it is noted by the way (p2pcap.export.present),
and then the statements that prove it are asked for. So the proof fits any choice of rows: of a result's rows that are
not in the file, it holds the hashes.

Always holds: two nodes with equal tables put equal bytes into equal files. Memory does not grow with the captions: a
page of chunks is in hand at one time, and for each result in the file some hundred bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from p2pcap.export.gathering import Gathering, Select, pages
from p2pcap.export.present import Place, Present
from p2pcap.export.section import Contents, Group, Listed, SectionWriter

CHUNKS = 128
"""Chunks whose statements and lists are asked for at one time."""


def attach(path: Path, select: Select, present: Mapping[Place, Mapping[str, Present]]) -> None:
    """Put the proof of its rows, which are `present`, into the Parquet file at `path`, which nobody uses yet. Raises
    StoreError when the node cannot prove them any more."""
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
            signed = node.signed(task, page)
            for chunk in page:
                held = present[task, chunk]
                batches = tuple(node.batches(held, signed, task))
                authors |= {signed[id_].author for id_ in held}
                yield Group(bytes.fromhex(task), chunk, writer.put(batches))
