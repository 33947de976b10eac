"""What the writer has to know of the file it goes on with.

Always holds: what is recalled is what the writer knew when it wrote, or, after a redaction, a little less
(p2pcap.store.known).
"""

from typing import Any

import duckdb

from p2pcap.ledger.checkpoint import Seals
from p2pcap.ledger.checks import Ruled
from p2pcap.project.opened import version_of
from p2pcap.project.records import DEFAULT_ERROR_AUTHORS
from p2pcap.store import reads
from p2pcap.store.known import Author, Known, Place
from p2pcap.store.standing import Judged


def known(cursor: duckdb.DuckDBPyConnection) -> Known:
    """What the file holds."""
    manifest = reads.newest_manifest(cursor)
    covered, contested = _covered(cursor)
    numbers = dict(_rows(cursor, "SELECT id, no FROM statement"))
    authors = _rows(cursor, "SELECT key, author_no, granted, name FROM author")
    policy = _rows(cursor, "SELECT error_authors FROM policy")
    return Known(
        numbers=numbers,
        next_no=max(numbers.values(), default=-1) + 1,
        checked={no for (no,) in _rows(cursor, "SELECT no FROM batch")},
        dropped={no for (no,) in _rows(cursor, "SELECT no FROM dropped")},
        authors={key: Author(no, granted, name) for key, no, granted, name in authors},
        tasks=dict(_rows(cursor, "SELECT tid, task_no FROM task")),
        covered=covered,
        contested=contested,
        redacted=_redacted(cursor),
        judged=_judged(cursor),
        blobs={hash_ for (hash_,) in _rows(cursor, "SELECT hash FROM blob")},
        item_lists=reads.item_lists(cursor),
        version=version_of(manifest[1]) if manifest else (0, 0),
        error_authors=policy[0][0] if policy else DEFAULT_ERROR_AUTHORS,
    )


def _covered(cursor: duckdb.DuckDBPyConnection) -> tuple[dict[Place, int], dict[Place, int]]:
    """Items with a candidate, and those of them that are contested."""
    query = "SELECT task_no, chunk, first, mask, errors FROM batch JOIN standing USING (no)"
    covered: dict[Place, int] = {}
    contested: dict[Place, int] = {}
    for task, chunk, first, mask, errors in _rows(cursor, query):
        items, before = int.from_bytes(mask, "little") << first, covered.get((task, chunk), 0)
        if twice := before & items | errors << first:
            contested[task, chunk] = contested.get((task, chunk), 0) | twice
        covered[task, chunk] = before | items
    return covered, contested


def _redacted(cursor: duckdb.DuckDBPyConnection) -> dict[int, int]:
    redacted: dict[int, int] = {}
    for chunk, item in _rows(cursor, "SELECT chunk, item FROM redacted"):
        redacted[chunk] = redacted.get(chunk, 0) | 1 << item
    return redacted


def _judged(cursor: duckdb.DuckDBPyConnection) -> Judged:
    ruled = _rows(cursor, "SELECT id, counted, confirmed, failed, unsure FROM ruled")
    seals = Seals()
    for seal, ids in reads.seals(cursor):
        seals.take(seal, ids)
    return Judged({id_: Ruled(*said) for id_, *said in ruled}, seals)


def _rows(cursor: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    return cursor.execute(query).fetchall()
