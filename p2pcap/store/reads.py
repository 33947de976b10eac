"""Look-ups: what the node asks of its own database. Each takes a connection and returns plain values.

Always holds: nothing here writes, and nothing here is slow: look-ups go by key or by a narrow scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.ledger.records import Result
from p2pcap.project.records import MAX_CHUNK, Item, Manifest
from p2pcap.store.staging import Author, Known

SYNCED = ("grant", "result")
"""The kinds of statement that peers exchange by id. Roots and manifests travel as blobs, claims are not stored."""

Cursor = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class StoredResult:
    """A stored result's id, author and header; `held` says whether its body, and so its rows, are here too."""

    id: bytes
    author: bytes
    result: Result
    held: bool


@dataclass(frozen=True)
class Loaded:
    """What a node starts from. `root` and `manifest` are envelopes (the newest), `plan` the bytes the manifest names;
    None when no project is stored. `grants` are envelopes; `item_lists` the chunks whose items are stored."""

    root: bytes | None
    manifest: bytes | None
    plan: bytes | None
    grants: tuple[bytes, ...]
    results: tuple[StoredResult, ...]
    item_lists: frozenset[int]


@dataclass(frozen=True)
class Contribution:
    """An author's share of the canonical table: rows, and how many of them are errors."""

    peer_id: str
    name: str
    rows: int
    errors: int


def known(cursor: Cursor) -> Known:
    """What the file holds, as the writer wants to know it."""
    coverage: dict[tuple[int, int], int] = {}
    held: set[int] = set()
    for no, task, chunk, first, mask in _rows(cursor, "SELECT no, task_no, chunk, first, mask FROM batch"):
        held.add(no)
        coverage[task, chunk] = coverage.get((task, chunk), 0) | int.from_bytes(mask, "little") << first
    authors = _rows(cursor, "SELECT key, author_no, granted, name FROM author")
    manifest = newest_manifest(cursor)
    return Known(
        numbers=dict(_rows(cursor, "SELECT id, no FROM statement")),
        held=held,
        authors={key: Author(no, granted, name) for key, no, granted, name in authors},
        tasks=dict(_rows(cursor, "SELECT tid, task_no FROM task")),
        coverage=coverage,
        blobs={hash_ for (hash_,) in _rows(cursor, "SELECT hash FROM blob")},
        item_lists=_item_lists(cursor),
        manifest=manifest[1].version if manifest else 0,
    )


def load(cursor: Cursor) -> Loaded:
    """Everything a node's memory is rebuilt from."""
    manifest = newest_manifest(cursor)
    stored = "FROM statement s LEFT JOIN (SELECT no AS held FROM batch) b ON b.held = s.no WHERE kind = 'result'"
    results = _rows(cursor, f"SELECT envelope, held IS NOT NULL {stored} ORDER BY s.no")
    return Loaded(
        root=next(iter(_of_kind(cursor, "root")), None),
        manifest=manifest[0].data if manifest else None,
        plan=blob(cursor, manifest[1].plan) if manifest else None,
        grants=tuple(_of_kind(cursor, "grant")),
        results=tuple(_stored_result(data, held) for data, held in results),
        item_lists=frozenset(_item_lists(cursor)),
    )


def newest_manifest(cursor: Cursor) -> tuple[Envelope, Manifest] | None:
    """The stored manifest of the highest version."""
    envelopes = [open_envelope(data) for data in _of_kind(cursor, "manifest")]
    found = [(envelope, decode(envelope.payload, Manifest)) for envelope in envelopes]
    return max(found, key=lambda pair: pair[1].version, default=None)


def statements(cursor: Cursor, ids: Sequence[bytes]) -> list[bytes]:
    """The envelopes with these ids, without those not held, in no particular order."""
    if not ids:
        return []
    marks = ", ".join("?" * len(ids))
    return [data for (data,) in _rows(cursor, f"SELECT envelope FROM statement WHERE id IN ({marks})", ids)]


def ids_after(cursor: Cursor, after: bytes, limit: int) -> list[bytes]:
    """At most `limit` ids of synced statements above `after`, ascending."""
    query = "SELECT id FROM statement WHERE id > ? AND kind IN (?, ?) ORDER BY id LIMIT ?"
    return [id_ for (id_,) in _rows(cursor, query, [after, *SYNCED, limit])]


def body(cursor: Cursor, root: bytes) -> bytes | None:
    """A body whose rows have the Merkle root `root`."""
    return _value(cursor, "SELECT body FROM batch WHERE root = ? ORDER BY no LIMIT 1", [root])


def blob(cursor: Cursor, hash_: bytes) -> bytes | None:
    """The blob with this SHA-256."""
    return _value(cursor, "SELECT data FROM blob WHERE hash = ?", [hash_])


def items(cursor: Cursor, chunk: int) -> tuple[Item, ...] | None:
    """The chunk's items, in order; None when its list is not stored."""
    query = "SELECT key, hash, length FROM item WHERE chunk = ? ORDER BY item LIMIT ?"
    return tuple(Item(*row) for row in _rows(cursor, query, [chunk, MAX_CHUNK])) or None


def bodies_missing(cursor: Cursor, limit: int) -> list[StoredResult]:
    """At most `limit` results whose body is not here, those that came first first."""
    query = """SELECT envelope FROM statement s WHERE kind = 'result'
        AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.no = s.no) ORDER BY no LIMIT ?"""
    return [_stored_result(data, held=False) for (data,) in _rows(cursor, query, [limit])]


def contributions(cursor: Cursor) -> tuple[Contribution, ...]:
    """Who made how many of the canonical rows, most first."""
    query = "SELECT author, author_name, rows, errors FROM contributors ORDER BY rows DESC, author"
    return tuple(Contribution(*row) for row in _rows(cursor, query))


def _of_kind(cursor: Cursor, kind: str) -> list[bytes]:
    query = "SELECT envelope FROM statement WHERE kind = ? ORDER BY no"
    return [data for (data,) in _rows(cursor, query, [kind])]


def _item_lists(cursor: Cursor) -> set[int]:
    return {chunk for (chunk,) in _rows(cursor, "SELECT DISTINCT chunk FROM item")}


def _stored_result(data: bytes, held: bool) -> StoredResult:
    envelope = open_envelope(data)
    return StoredResult(envelope.id, envelope.author, decode(envelope.payload, Result), held)


def _rows(cursor: Cursor, query: str, values: Sequence[Any] = ()) -> list[Any]:
    return cursor.execute(query, list(values)).fetchall()


def _value(cursor: Cursor, query: str, values: Sequence[Any]) -> bytes | None:
    row = cursor.execute(query, list(values)).fetchone()
    return row[0] if row else None
