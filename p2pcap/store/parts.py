"""The canonical table for exports: one SELECT, run over stretch after stretch of it, in order.

A table of a hundred million rows cannot be sorted in a volunteer's memory, and need not be: its order is that of
chunks and items. So the table is cut at chunks, and the SELECT sees one stretch at a time as the relation `part`; what
it orders inside the stretch is then ordered in all. `part` has the columns of the view `captions`, and those of EXTRA.

Always holds: all stretches are read in one transaction, so they are of one state of the ledger; what is not one SELECT
is never run; memory does not grow with the table. What is read does not depend on this file's local numbers.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb

from p2pcap.errors import QueryError
from p2pcap.store.canonical import check_whole
from p2pcap.store.guard import Guard
from p2pcap.store.query import BATCH_ROWS, check, explained
from p2pcap.store.readers import Readers
from p2pcap.store.schema import ASKED, KEPT, ROWS

STRETCH = 131_072
"""Rows of a stretch, about: each costs the joins with whatever is small, and memory for its rows."""

WITHIN = 600.0
"""Seconds for one stretch, with the time its reader takes over it."""

EXTRA = """,
    coalesce(t.place, t.kept) AS stage_no, t.prompts, c.texts, c.tokens AS counts, c.finish AS finishes, r.tier,
    (r.confirmed >> (c.item - b.first)) & 1 = 1 AS verified"""
"""The stage's number; the prompts' names, the answers, their tokens and finish reasons, in the same order; the author's
tier; whether a verifier found the row right."""

PART = f"""
{ROWS.format(asked=EXTRA)} WHERE {ASKED} AND {{where}}
UNION ALL
{ROWS.format(asked=EXTRA)} WHERE {KEPT} AND {{where}}
"""

PLACES = """
SELECT t.tid, h.chunk, h.images
FROM (SELECT DISTINCT task_no, chunk FROM batch) b JOIN task t USING (task_no) JOIN chunk h USING (chunk)
WHERE (t.place IS NOT NULL OR t.kept IS NOT NULL) AND h.chunk BETWEEN ? AND ?
ORDER BY ALL
"""

Order = Literal["task", "image"]
"""What stretches follow: "task", then chunk; or chunk alone, with the rows of all tasks in one stretch."""

MAX_CHUNKS = 2**31 - 1


@dataclass(frozen=True)
class Stretch:
    """Neighbouring chunks; of one task, or of all where `tid` is None."""

    tid: bytes | None
    first: int
    last: int

    @property
    def where(self) -> str:
        """The condition on the rows of a candidate `c` in a batch `b` of a task `t`."""
        chunks = f"c.chunk BETWEEN {self.first} AND {self.last} AND b.chunk BETWEEN {self.first} AND {self.last}"
        return chunks if self.tid is None else f"{chunks} AND t.tid = unhex('{self.tid.hex()}')"


NOTHING = Stretch(None, 0, -1)
"""A stretch without rows: it tells the columns."""


@dataclass
class Parts:
    """A running export: the columns, and the rows of one stretch after the other as one goes through it."""

    schema: Any
    _cursor: duckdb.DuckDBPyConnection
    _readers: Readers
    _sql: str
    _stretches: Sequence[Stretch]
    _stop: threading.Event
    _reader: Any = field(default=None, init=False)
    rows: int = field(default=0, init=False)
    truncated: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Any]:
        """The result as Arrow record batches. Raises QueryError when it fails or is broken off."""
        for stretch in self._stretches:
            with Guard(self._readers, self._cursor, WITHIN, self._stop) as guard, explained(guard):
                self._reader = _reader(self._cursor, self._sql, stretch)
                for batch in self._reader:
                    if guard.reason:
                        raise QueryError(guard.reason)
                    self.rows += batch.num_rows
                    yield batch
            self.close()

    def close(self) -> None:
        """End the running stretch."""
        if self._reader is not None:
            self._reader.close()


@contextmanager
def parts(
    readers: Readers,
    sql: str,
    order: Order,
    chunks: tuple[int, int] = (0, MAX_CHUNKS),
    stop: threading.Event | None = None,
) -> Iterator[Parts]:
    """Run `sql`, a SELECT from `part`, over the chunks from the first to the last of `chunks`, on the calling thread.
    Setting `stop` breaks it off.

    Raises QueryError for anything but one SELECT, or one that does not run; StoreError when not all rows are kept here.
    """
    stop = stop or threading.Event()
    with readers.lend() as cursor:
        with Guard(readers, cursor, WITHIN, stop) as guard, explained(guard):
            check_whole(cursor)
            check(cursor, sql)
            with _reader(cursor, sql, NOTHING) as none:
                schema = none.schema
            stretches = _stretches(cursor, order, chunks)
        found = Parts(schema, cursor, readers, sql, stretches, stop)
        try:
            yield found
        finally:
            found.close()


def _reader(cursor: duckdb.DuckDBPyConnection, sql: str, stretch: Stretch) -> Any:
    return cursor.sql(f"WITH part AS ({PART.format(where=stretch.where)})\n{sql}").to_arrow_reader(BATCH_ROWS)


def _stretches(cursor: duckdb.DuckDBPyConnection, order: Order, chunks: tuple[int, int]) -> list[Stretch]:
    found = cursor.execute(PLACES, list(chunks)).fetchall()
    if order == "image":
        found = sorted({(None, chunk, images) for _, chunk, images in found}, key=lambda place: place[1])
    stretches: list[Stretch] = []
    room = 0
    for tid, chunk, images in found:
        if stretches and stretches[-1].tid == tid and images <= room:
            stretches[-1] = Stretch(tid, stretches[-1].first, chunk)
        else:
            stretches.append(Stretch(tid, chunk, chunk))
            room = STRETCH
        room -= images
    return stretches
