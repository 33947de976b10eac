"""The canonical table, read in order: for exports, and as one hash that nodes can compare.

Order is everywhere the same: task id, chunk, item. What is read here does not depend on the numbers this file gave to
authors and statements, nor on the order in which they arrived.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import duckdb
import msgspec

from p2pcap.errors import StoreError
from p2pcap.store.schema import IMAGE, KEPT

RUNS = 64
"""Runs whose bodies are in memory at one time."""

STEP = 64
"""Chunks that are hashed at one time."""

HERE = """
SELECT count(*), count_if(d.no IS NULL) FROM counted LEFT JOIN dropped d USING (no)
HAVING (SELECT count(*) FROM dropped) > 0
"""

PLACES = """
SELECT DISTINCT t.tid, b.task_no, b.chunk, t.place IS NULL FROM batch b JOIN task t USING (task_no)
WHERE t.place IS NOT NULL OR t.kept IS NOT NULL ORDER BY t.tid, b.chunk
"""

WINNERS = """
SELECT c.no, c.item, i.key, i.url, i.file, i.place, i.fields
FROM candidate c LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item
WHERE c.no IN (SELECT no FROM batch WHERE task_no = ? AND chunk = ?)
    AND NOT EXISTS (SELECT 1 FROM superseded s WHERE s.no = c.no AND s.item = c.item)
"""

KEPT_ONLY = f"AND EXISTS (SELECT 1 FROM batch b JOIN task t USING (task_no) WHERE b.no = c.no AND {KEPT})"
"""Of a task that is not asked any more, what a stage keeps."""

BATCHES = """
SELECT b.no, s.envelope, b.body, a.name, t.model, t.prompts
FROM batch b JOIN statement s USING (no) JOIN author a USING (author_no) JOIN task t USING (task_no)
WHERE list_contains(?, b.no)
"""

LINES = f"""
SELECT concat_ws(' ', c.chunk, c.item, lower(hex(s.id)), sha256(concat_ws(chr(31), coalesce(i.key, ''),
    coalesce(lower(hex({IMAGE})), ''), c.error, c.reason, array_to_string(c.texts, chr(31)),
    array_to_string(c.tokens, ','), array_to_string(c.finish, ','))))
FROM caption c JOIN statement s USING (no) LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item
WHERE c.task_no = ? AND c.chunk BETWEEN ? AND ? ORDER BY c.chunk, c.item
"""


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """A row that counts: its item, and what the chunk's item list says of the image; None when that is not stored, and
    where the list has no URL, no file, no place in it, or no metadata."""

    item: int
    key: str | None
    url: str | None
    file: str | None
    place: int | None
    fields: dict[str, str] | None


class Run(msgspec.Struct, frozen=True):
    """Neighbouring rows of the canonical table that come from one result.

    `envelope` and `body` are that result's, whole; `items` are the rows that count. `author_name`, `model` and
    `prompts` are this node's word.
    """

    tid: bytes
    chunk: int
    envelope: bytes
    body: bytes
    author_name: str
    model: str
    prompts: tuple[str, ...]
    items: tuple[Shown, ...]


def runs(cursor: duckdb.DuckDBPyConnection) -> Iterator[Run]:
    """What the canonical table says of the tasks that are asked now, with what they keep of others, in order, with what
    proves it. Needs memory for one chunk's item list and RUNS bodies. Raises StoreError when not all is kept here."""
    check_whole(cursor)
    for tid, task, chunk, kept in cursor.execute(PLACES).fetchall():
        query = f"{WINNERS} {KEPT_ONLY if kept else ''} ORDER BY c.item"
        winners = cursor.execute(query, [task, chunk]).fetchall()
        by_result = groupby(winners, key=itemgetter(0))
        stretches = [(no, tuple(Shown(*row[1:]) for row in rows)) for no, rows in by_result]
        for start in range(0, len(stretches), RUNS):
            yield from _with_bodies(cursor, tid, chunk, stretches[start : start + RUNS])


def _with_bodies(
    cursor: duckdb.DuckDBPyConnection, tid: bytes, chunk: int, stretches: Sequence[tuple[int, tuple[Shown, ...]]]
) -> Iterator[Run]:
    numbers = sorted({no for no, _ in stretches})
    batches = {row[0]: row[1:] for row in cursor.execute(BATCHES, [numbers]).fetchall()}
    for no, items in stretches:
        envelope, body, name, model, prompts = batches[no]
        yield Run(tid, chunk, envelope, body, name, model, tuple(prompts), items)


def check_whole(cursor: duckdb.DuckDBPyConnection) -> None:
    """Raises StoreError when some row that counts was checked here and its text is not kept."""
    row = cursor.execute(HERE).fetchone()
    if row is not None and row[1] < row[0]:
        raise StoreError(
            f"This node holds {100 * row[1] // row[0]} % of the captions ({row[1]} of {row[0]}); it keeps only a share "
            "of them. Ask a node that holds all, or run this one with p2pcap join --store full and room enough."
        )


def table_hash(cursor: duckdb.DuckDBPyConnection) -> str:
    """SHA-256, in hex, over one line for each row of the canonical table, in order, each ended by a line feed:

        TID CHUNK ITEM STATEMENT DIGEST

    TID is the task id in hex, CHUNK and ITEM are decimal, STATEMENT is the winning result's id in hex, and DIGEST is
    SHA-256 in hex over UTF-8 of: key, image hash in hex as the row has it, error, reason, the answers' texts in the
    order of the prompts, their token counts joined by commas, their finish reasons joined by commas; with U+001F
    between each two.

    Raises StoreError when not all of the table is kept here.
    """
    check_whole(cursor)
    total = hashlib.sha256()
    for tid, task, last in cursor.execute(
        "SELECT tid, task_no, max(chunk) FROM batch JOIN task USING (task_no) GROUP BY ALL ORDER BY tid"
    ).fetchall():
        for first in range(0, last + 1, STEP):
            for (line,) in cursor.execute(LINES, [task, first, first + STEP - 1]).fetchall():
                total.update(f"{tid.hex()} {line}\n".encode())
    return total.hexdigest()
