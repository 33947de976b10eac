"""Look-ups: what the node asks of its own database. Each takes a connection and returns plain values.

Always holds: nothing here writes, and nothing here is slow: look-ups go by key or by a narrow scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb
from msgspec import UNSET, UnsetType

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.ledger.checkpoint import Seal, open_tiers
from p2pcap.ledger.records import Result
from p2pcap.project.items import Item
from p2pcap.project.opened import version_of
from p2pcap.project.records import MAX_CHUNK, Manifest

T = TypeVar("T")

OTHERS = ("profile", "verdict", "ban", "void", "redact", "checkpoint", "fork", "stamp")
"""The kinds of statement that peers exchange by id, beside grants and results. Roots and manifests travel as blobs,
claims are not stored."""

ITEM = "key, hash, length, url, place, fields"
"""The columns of the table `item` that make an item, in its order. `file` is not one of them: it is the list's."""

Cursor = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class StoredResult:
    """A stored result's id, author and header; `checked` says whether its body is here, or was, and then `errors` are
    the items of the chunk whose row is an error, as bits."""

    id: bytes
    author: bytes
    result: Result
    checked: bool
    errors: int = 0


@dataclass(frozen=True)
class Bodiless:
    """A stored result whose body was never here; `number` is its statement's on this node."""

    number: int
    envelope: Envelope
    result: Result


@dataclass(frozen=True)
class Loaded:
    """What a node starts from. `root` is the first root's envelope, `manifest` that of the newest manifest, `plan` and
    `roots` the bytes it names; None when no project is stored. `grants` are envelopes, and so are `others`: what peers
    exchange beside grants and results. `seals` are the checkpoints taken, in order, each with the ids it seals.
    `item_lists` are the chunks whose items are stored."""

    root: bytes | None
    manifest: bytes | None
    plan: bytes | None
    roots: bytes | None
    grants: tuple[bytes, ...]
    results: tuple[StoredResult, ...]
    item_lists: frozenset[int]
    others: tuple[bytes, ...] = ()
    seals: tuple[tuple[Seal, tuple[bytes, ...]], ...] = ()


@dataclass(frozen=True)
class Contribution:
    """An author's share of the canonical table: rows, how many of them are errors, and how many are on this node."""

    peer_id: str
    name: str
    rows: int
    errors: int
    held: int


def load(cursor: Cursor) -> Loaded:
    """Everything a node's memory is rebuilt from."""
    manifest = newest_manifest(cursor)
    query = """SELECT s.envelope, s.id, r.no IS NOT NULL, coalesce(r.errors, 0)
        FROM statement s LEFT JOIN standing r USING (no) WHERE s.kind = 'result' ORDER BY s.no"""
    return Loaded(
        root=next(iter(_of_kind(cursor, "root")), None),
        manifest=manifest[0].data if manifest else None,
        plan=blob(cursor, manifest[1].plan) if manifest else None,
        roots=blob(cursor, manifest[1].roots.hash) if manifest and manifest[1].roots is not UNSET else None,
        grants=tuple(_of_kind(cursor, "grant")),
        results=tuple(_stored_result(*row) for row in _rows(cursor, query)),
        item_lists=frozenset(item_lists(cursor)),
        others=tuple(_of_kind(cursor, *OTHERS)),
        seals=tuple(seals(cursor)),
    )


def seals(cursor: Cursor) -> list[tuple[Seal, tuple[bytes, ...]]]:
    """The checkpoints taken, in order, each with the ids it seals."""
    ids: dict[int, list[bytes]] = {}
    for number, id_ in _rows(cursor, "SELECT number, id FROM sealed ORDER BY number, rowid"):
        ids.setdefault(number, []).append(id_)
    taken = _rows(cursor, "SELECT number, hash, beacon, tiers FROM seal ORDER BY number")
    return [
        (Seal(number, hash_, beacon, open_tiers(tiers)), tuple(ids.get(number, ())))
        for number, hash_, beacon, tiers in taken
    ]


def newest_manifest(cursor: Cursor) -> tuple[Envelope, Manifest] | None:
    """The stored manifest that is in force."""
    envelopes = [open_envelope(data) for data in _of_kind(cursor, "manifest")]
    found = [(envelope, decode(envelope.payload, Manifest)) for envelope in envelopes]
    return max(found, key=lambda pair: version_of(pair[1]), default=None)


def statements(cursor: Cursor, ids: Sequence[bytes]) -> list[bytes]:
    """The envelopes with these ids, without those not held, in no particular order."""
    if not ids:
        return []
    return [data for (data,) in _rows(cursor, f"SELECT envelope FROM statement WHERE id IN ({_marks(ids)})", ids)]


def body(cursor: Cursor, root: bytes) -> bytes | None:
    """A body whose rows have the Merkle root `root`."""
    query = "SELECT body FROM batch WHERE root = ? AND octet_length(body) > 0 ORDER BY no LIMIT 1"
    return _value(cursor, query, [root])


def blob(cursor: Cursor, hash_: bytes) -> bytes | None:
    """The blob with this SHA-256."""
    return _value(cursor, "SELECT data FROM blob WHERE hash = ?", [hash_])


def items(cursor: Cursor, chunk: int) -> tuple[Item, ...] | None:
    """The chunk's items, in order; None when its list is not stored."""
    query = f"SELECT {ITEM} FROM item WHERE chunk = ? ORDER BY item LIMIT ?"
    return tuple(item_of(*row) for row in _rows(cursor, query, [chunk, MAX_CHUNK])) or None


def has_items(cursor: Cursor, chunk: int) -> bool:
    """Whether the chunk's list is stored. Cheap, however long the list is."""
    return bool(_rows(cursor, "SELECT 1 FROM item WHERE chunk = ? LIMIT 1", [chunk]))


def item_of(
    key: str, hash_: bytes, length: int, url: str | None, place: int | None, fields: dict[str, str] | None
) -> Item:
    """The item in a row of ITEM. Raises ValueError when it is none."""
    return Item(key, hash_, length, _or_unset(url), _or_unset(place), _or_unset(fields))


def bodies_missing(cursor: Cursor, after: int, limit: int) -> list[Bodiless]:
    """At most `limit` results whose body was never here, by number, of those numbered higher than `after`."""
    query = """SELECT no, envelope FROM statement s WHERE kind = 'result' AND no > ?
        AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.no = s.no) ORDER BY no LIMIT ?"""
    found = [(number, open_envelope(data)) for number, data in _rows(cursor, query, [after, limit])]
    return [Bodiless(number, envelope, decode(envelope.payload, Result)) for number, envelope in found]


def dropped(cursor: Cursor) -> set[bytes]:
    """The ids of the results whose bodies were checked and are not kept."""
    return {id_ for (id_,) in _rows(cursor, "SELECT s.id FROM dropped JOIN statement s USING (no)")}


def contributions(cursor: Cursor) -> tuple[Contribution, ...]:
    """Who made how many of the canonical rows, most first."""
    query = "SELECT author, author_name, rows, errors, held FROM contributors ORDER BY rows DESC, author"
    return tuple(Contribution(*row) for row in _rows(cursor, query))


def answers(cursor: Cursor, tid: bytes, chunk: int) -> dict[int, list[str]]:
    """The canonical answers of a task to the images of a chunk, by item, as far as they are on this node."""
    query = """SELECT c.item, c.texts FROM caption c JOIN task t USING (task_no)
        WHERE t.tid = ? AND c.chunk = ? AND c.error = ''"""
    return dict(_rows(cursor, query, (tid, chunk)))


def roots_of_dropped(cursor: Cursor, tid: bytes, chunk: int, wanted: Sequence[int]) -> dict[int, bytes]:
    """The roots of the bodies, checked here and not kept, that hold the canonical answers of a task to those of the
    images `wanted` of a chunk, by item."""
    query = """SELECT c.item, b.root FROM counted c JOIN dropped USING (no) JOIN batch b USING (no)
        JOIN task t ON t.task_no = c.task_no WHERE t.tid = ? AND c.chunk = ? AND c.error = ''
        AND c.item IN (SELECT unnest(?::INTEGER[]))"""
    return dict(_rows(cursor, query, (tid, chunk, list(wanted)))) if wanted else {}


def item_lists(cursor: Cursor) -> dict[int, bool]:
    """The chunks whose item lists are stored, and whether a list gives the hash of every image."""
    return dict(_rows(cursor, "SELECT chunk, bool_and(octet_length(hash) > 0) FROM item GROUP BY chunk"))


def failures(cursor: Cursor) -> tuple[tuple[str, int], ...]:
    """The codes of the canonical table's error rows, with the number of rows of each; most first."""
    query = "SELECT error, count(*) FROM failures GROUP BY error ORDER BY count(*) DESC, error"
    return tuple(_rows(cursor, query))


def _of_kind(cursor: Cursor, *kinds: str) -> list[bytes]:
    query = f"SELECT envelope FROM statement WHERE kind IN ({_marks(kinds)}) ORDER BY no"
    return [data for (data,) in _rows(cursor, query, kinds)]


def _stored_result(data: bytes, id_: bytes, checked: bool, errors: int) -> StoredResult:
    envelope = open_envelope(data)
    result = decode(envelope.payload, Result)
    return StoredResult(id_, envelope.author, result, checked, errors << result.offset)


def _or_unset(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _rows(cursor: Cursor, query: str, values: Sequence[Any] = ()) -> list[Any]:
    return cursor.execute(query, list(values)).fetchall()


def _value(cursor: Cursor, query: str, values: Sequence[Any]) -> bytes | None:
    row = cursor.execute(query, list(values)).fetchone()
    return row[0] if row else None
