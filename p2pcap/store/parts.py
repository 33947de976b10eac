"""The canonical table for exports: one SELECT, run over stretch after stretch of it, in order.

A table of a hundred million rows cannot be sorted in a volunteer's memory, and need not be: its order is that of
chunks and items. So the table is cut at chunks, and the SELECT sees one stretch at a time as the relation `part`, which
has the columns of PART; what is ordered inside the stretch is then ordered in all. By chunk and item a stretch is
ordered here and not by the SELECT: DuckDB's sort moves each wide row several times, and would be half of an export.

Always holds: all stretches are read in one transaction, so they are of one state of the ledger; what is not one SELECT
is never run; memory is that of a stretch and does not grow with the table. What is read does not depend on this file's
local numbers.
"""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb

from p2pcap.errors import QueryError
from p2pcap.project.items import NO_IMAGE
from p2pcap.store.canonical import check_whole
from p2pcap.store.guard import Guard
from p2pcap.store.query import check, explained
from p2pcap.store.readers import Lender
from p2pcap.store.schema import ASKED, IMAGE, KEPT, MAX_TIME

STRETCH = 32_768
"""Rows of a stretch, about: each costs the joins with whatever is small, and memory for its rows."""

BATCH_ROWS = 8_192
"""Rows in one record batch: 4 MB with captions of 400 letters."""

IN_MEMORY = 64 * 1024 * 1024
"""Bytes of a stretch that are ordered in memory, where they are there twice: several times those of usual captions."""

WITHIN = 600.0
"""Seconds for one stretch, with the time its reader takes over it."""

MADE = f"""
SELECT b.no, b.first, r.confirmed, r.tier, r.sealed, lower(hex(s.id)) AS statement, a.peer_id AS author,
    a.name AS author_name, lower(hex(b.engine)) AS engine,
    make_timestamp(least(b.time, {MAX_TIME}) * 1000000) AS time,
    strftime(make_timestamp(least(b.time, {MAX_TIME}) * 1000000), '%Y-%m-%dT%H:%M:%SZ') AS time_text,
    t.prompts, t.model, t.stage, lower(hex(t.tid)) AS task, coalesce(t.place, t.kept) AS stage_no, t.place, t.kept,
    t.kept_no
FROM batch b JOIN statement s USING (no) JOIN standing r USING (no) JOIN author a USING (author_no)
    JOIN task t USING (task_no)
WHERE {{batches}}"""
"""SQL: what the rows of a batch have in common, worked out once for all of them."""

PART = f"""
SELECT i.key, nullif(lower(hex({IMAGE})), '{NO_IMAGE.hex()}') AS image, c.chunk, c.item, c.texts[1] AS caption,
    CASE WHEN c.error = '' THEN map(t.prompts[:len(c.texts)], c.texts[:len(t.prompts)]) END AS answers,
    list_sum(c.tokens)::BIGINT AS tokens,
    CASE WHEN c.error <> '' THEN NULL WHEN list_contains(c.finish, 'length') THEN 'length' ELSE 'stop' END AS finish,
    nullif(c.error, '') AS error, nullif(c.reason, '') AS reason, t.author, t.author_name, t.model, t.engine, t.time,
    t.statement, t.sealed, u.no IS NULL AS final, i.url, i.file, i.place, i.fields, t.stage, t.task,
    t.time_text, t.stage_no, t.prompts, c.texts, c.tokens AS counts, c.finish AS finishes, t.tier,
    (t.confirmed >> (c.item - t.first)) & 1 = 1 AS verified
FROM candidate c JOIN ({MADE}) t USING (no) LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item
    LEFT JOIN unconfirmed u ON u.no = c.no AND u.item = c.item
WHERE NOT EXISTS (SELECT 1 FROM superseded s WHERE s.no = c.no AND s.item = c.item) AND {{chunks}}"""
"""SQL: the columns of the view `captions`; `time_text`, the time as text; the stage's number; the prompts' names, the
answers, their tokens and finish reasons, in the same order; the author's tier; whether a verifier found the row right.
"""

PLACES = """
SELECT t.tid, h.chunk, h.images
FROM (SELECT DISTINCT task_no, chunk FROM batch) b JOIN task t USING (task_no) JOIN chunk h USING (chunk)
WHERE (t.place IS NOT NULL OR t.kept IS NOT NULL) AND h.chunk BETWEEN ? AND ?
ORDER BY ALL
"""

KEEPS = "SELECT 1 FROM task WHERE kept IS NOT NULL LIMIT 1"
"""Most projects keep nothing of earlier tasks, and to look for it would cost as much as all the rest."""

LOOKS = 0.2
"""Seconds between two looks at a stretch: it takes what it takes, as its rows are counted before it begins."""

Order = Literal["task", "answer", "image"]
"""What stretches follow: "task" and "answer", then chunk; or chunk alone, with the rows of all tasks in one stretch. By
"task" the SELECT's last two columns are chunk and item, and rows come by these; else in the SELECT's own order."""

MAX_CHUNKS = 2**31 - 1


@dataclass(frozen=True)
class Stretch:
    """Neighbouring chunks; of one task, or of all where `tid` is None."""

    tid: bytes | None
    first: int
    last: int

    def part(self, *, kept: bool) -> str:
        """SQL: its rows; with those of earlier tasks that stand in where a stage keeps them, if there may be any."""
        chunks = f"chunk BETWEEN {self.first} AND {self.last}"
        batches = f"b.{chunks}" + (f" AND t.tid = unhex('{self.tid.hex()}')" if self.tid is not None else "")
        part = PART.format(batches=batches, chunks=f"c.{chunks}")
        now, before = f"{part} AND {ASKED}", f"{part} AND {KEPT}"
        return f"{now} UNION ALL {before}" if kept else now


NOTHING = Stretch(None, 0, -1)
"""A stretch without rows: it tells the columns."""


@dataclass
class Parts:
    """A running export: the columns, and the rows of one stretch after the other as one goes through it."""

    schema: Any
    _cursor: duckdb.DuckDBPyConnection
    _readers: Lender
    _sql: str
    _order: Order
    _kept: bool
    _stretches: Sequence[Stretch]
    _stop: threading.Event
    _reader: Any = field(default=None, init=False)
    _batches: Generator[Any] | None = field(default=None, init=False)
    rows: int = field(default=0, init=False)
    truncated: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Any]:
        """The result as Arrow record batches, once. Raises QueryError when it fails or is broken off."""
        self._batches = self._read_all()
        return self._batches

    def _read_all(self) -> Generator[Any]:
        for stretch in self._stretches:
            with Guard(self._readers, self._cursor, WITHIN, self._stop, LOOKS) as guard, explained(guard):
                for batch in self._ordered(stretch) if self._order == "task" else self._read(stretch, self._sql):
                    if guard.reason:
                        raise QueryError(guard.reason)
                    self.rows += batch.num_rows
                    yield batch

    def close(self) -> None:
        """End the reading, and the watch over it."""
        if self._batches is not None:
            self._batches.close()
        self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _read(self, stretch: Stretch, sql: str) -> Iterator[Any]:
        self._reader = _reader(self._cursor, sql, stretch, self._kept)
        yield from self._reader
        self._close_reader()

    def _ordered(self, stretch: Stretch) -> Iterator[Any]:
        """The stretch by chunk and item. DuckDB sorts it, on disk if need be, where it is too large to do so here."""
        found: list[Any] = []
        size = 0
        for batch in self._read(stretch, self._sql):
            found.append(batch)
            size += batch.nbytes
            if size > IN_MEMORY:
                self._close_reader()
                found.clear()
                last = len(self.schema)
                yield from self._read(stretch, f"SELECT * FROM ({self._sql}) ORDER BY {last - 1}, {last}")
                return
        yield from in_order(found)


def in_order(batches: Sequence[Any]) -> Iterator[Any]:
    """The rows of record batches by their last two columns, chunk and item; as they are where that is their order."""
    import numpy as np
    import pyarrow as pa

    if not batches:
        return
    rows = pa.Table.from_batches(batches)
    chunks, items = (rows.column(place).to_numpy() for place in (-2, -1))
    places = chunks.astype(np.int64) << 32 | items
    if (places[1:] < places[:-1]).any():
        rows = rows.take(np.argsort(places, kind="stable"))
    yield from rows.to_batches(BATCH_ROWS)


@contextmanager
def parts(
    readers: Lender,
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
            kept = bool(cursor.execute(KEEPS).fetchall())
            with _reader(cursor, sql, NOTHING, kept) as none:
                schema = none.schema
            stretches = _stretches(cursor, order, chunks)
        found = Parts(schema, cursor, readers, sql, order, kept, stretches, stop)
        try:
            yield found
        finally:
            found.close()


def _reader(cursor: duckdb.DuckDBPyConnection, sql: str, stretch: Stretch, kept: bool) -> Any:
    return cursor.sql(f"WITH part AS ({stretch.part(kept=kept)})\n{sql}").to_arrow_reader(BATCH_ROWS)


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
