"""Item lists against the plan, and bodies against headers and item lists: what `p2pcap fsck` takes over.

Always holds: a list or a body that is handed out is the signed one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import duckdb

from p2pcap.codec import encode
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.ledger.body import check_rows, open_body
from p2pcap.ledger.records import Result, Row
from p2pcap.project.chunks import Chunks
from p2pcap.project.items import Item
from p2pcap.project.opened import open_list
from p2pcap.project.task import Task
from p2pcap.store import reads
from p2pcap.store.writes import PutItems


@dataclass
class Bodies:
    """`lists` is the connection on which accepted item lists are found; `tasks` are the known ones by their ids.
    `unlisted` counts the bodies that were checked against no item list."""

    lists: duckdb.DuckDBPyConnection
    tasks: Mapping[bytes, Task]
    unlisted: int = field(default=0, init=False)
    _chunk: tuple[int, tuple[Item, ...] | None] = field(default=(-1, None), init=False)

    def rows(self, result: Result, body: bytes) -> tuple[Row, ...]:
        """The rows in `body`. Raises UntrustedError when they are not what `result` signs."""
        rows = open_body(body, result)
        task, items = self.tasks.get(result.tid), self._items(result.chunk)
        if task is None or items is None:
            self.unlisted += 1
        else:
            check_rows(rows, result, items, task)
        return rows

    def _items(self, chunk: int) -> tuple[Item, ...] | None:
        """The chunk's list; the last one is kept, for bodies come chunk by chunk."""
        if self._chunk[0] != chunk:
            self._chunk = (chunk, reads.items(self.lists, chunk))
        return self._chunk[1]


def item_lists(rows: Iterator[Any], chunks: Chunks) -> Iterator[tuple[int, PutItems | None]]:
    """The lists in rows of a chunk and the columns of reads.ITEM, in order, by chunk; None for one that `chunks` does
    not name. A list that names a file is never found this way: only its blob says which file."""
    for chunk, listed in groupby(rows, key=itemgetter(0)):
        yield chunk, listed_in(_encoded(listed), chunk, chunks)


def listed_in(data: bytes | None, chunk: int, chunks: Chunks) -> PutItems | None:
    """The list in a blob; None when `chunks` does not name it, or its page is not to be had."""
    try:
        return PutItems.of(chunk, open_list(data or b"", chunks[chunk]))
    except (UntrustedError, IndexError):
        return None


def _encoded(rows: Iterator[Any]) -> bytes | None:
    try:
        return encode(tuple(reads.item_of(*row[1:]) for row in rows))
    except (ValueError, CodecError):
        return None
