"""Two databases compared, table by table, by what they say and not by their local numbers.

Always holds: equal contents compare as equal, in whatever order they were written. Rows are read in order from both
sides and never all at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb

EXAMPLES = 3
"""Keys of each difference that are named."""

FETCH = 1_024

ID = "coalesce(lower(hex(s.id)), 'a row without its statement')"
TABLES = {
    "blob": "SELECT lower(hex(hash)), hash(data) FROM blob",
    "statement": "SELECT kind || ' ' || lower(hex(id)), hash(author, envelope) FROM statement",
    "task": "SELECT lower(hex(tid)), hash(model, revision, prompts, place, kept, kept_no) FROM task",
    "policy": "SELECT 'policy', hash(error_authors) FROM policy",
    "chunk": "SELECT 'chunk ' || chunk, hash(images) FROM chunk",
    "item": """
        SELECT 'chunk ' || chunk, bit_xor(hash(item, key, hash, length, url, file, place, fields IS NULL,
            list_sort(map_entries(fields)))) + count(*)
        FROM item GROUP BY chunk""",
    "author": "SELECT lower(hex(key)), hash(peer_id, name, granted) FROM author",
    "batch": f"""
        SELECT {ID}, hash(t.tid, a.key, b.chunk, b.first, b.mask, b.tokens, b.engine, b.time, b.root, b.body)
        FROM batch b LEFT JOIN statement s USING (no) LEFT JOIN task t USING (task_no)
            LEFT JOIN author a USING (author_no)""",
    "candidate": f"""
        SELECT {ID}, x.digest FROM (
            SELECT no, bit_xor(hash(chunk, item, texts, tokens, finish, error, reason, image)) + count(*) AS digest
            FROM candidate GROUP BY no) x LEFT JOIN statement s USING (no)""",
    "dropped": f"SELECT {ID}, count(*) FROM dropped LEFT JOIN statement s USING (no) GROUP BY s.id",
    "standing": f"""
        SELECT {ID}, hash(r.errors, r.counted, r.confirmed, r.failed, r.unsure, r.sealed, r.tier, r.tie)
        FROM standing r LEFT JOIN statement s USING (no)""",
    "superseded": f"""
        SELECT {ID}, bit_xor(hash(x.chunk, x.item)) + count(*)
        FROM superseded x LEFT JOIN statement s USING (no) GROUP BY s.id""",
    "unconfirmed": f"""
        SELECT {ID}, bit_xor(hash(x.chunk, x.item)) + count(*)
        FROM unconfirmed x LEFT JOIN statement s USING (no) GROUP BY s.id""",
    "ruled": f"""
        SELECT {ID}, hash(r.counted, r.confirmed, r.failed, r.unsure)
        FROM ruled r JOIN statement s USING (id) JOIN batch b USING (no)""",
    "tier": "SELECT lower(hex(author)), hash(tier) FROM tier",
    "redacted": "SELECT 'chunk ' || chunk, bit_xor(hash(item)) + count(*) FROM redacted GROUP BY chunk",
    "seal": "SELECT 'checkpoint ' || number, hash(hash, beacon, tiers) FROM seal",
    "sealed": "SELECT 'checkpoint ' || number, bit_xor(hash(id)) + count(*) FROM sealed GROUP BY number",
    "checkpoint": f"""
        SELECT {ID}, hash(c.number, c.hash, c.time, c.statements, c.captions)
        FROM checkpoint c LEFT JOIN statement s USING (no)""",
    "ruling": f"""
        SELECT {ID} || ' ' || r.target, hash(r.kind, r.word, r.author, r.reason, r.time)
        FROM ruling r LEFT JOIN statement s USING (no)""",
}
"""Of each table, a key and a digest of what stands under it. What belongs together (the rows of one result, the items
of one chunk) has one key. What rulings make of a result is compared only where its rows are held."""


@dataclass
class Difference:
    """How a table differs from what the statements say: keys it lacks, keys it has beyond them, keys under which
    something else stands. Of each the number, and the first few."""

    table: str
    missing: int = 0
    surplus: int = 0
    changed: int = 0
    examples: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus or self.changed)

    def text(self) -> str:
        """For people, on one line."""
        counts = {"missing": self.missing, "too many": self.surplus, "different": self.changed}
        said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return f"{self.table}: {said} ({', '.join(self.examples)}{', …' if self._more else ''})"

    @property
    def _more(self) -> bool:
        return self.missing + self.surplus + self.changed > len(self.examples)

    def note(self, key: str) -> None:
        """Name a key, while few are named."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(key)


def differences(found: duckdb.DuckDBPyConnection, wanted: duckdb.DuckDBPyConnection) -> Iterator[Difference]:
    """The tables of `found` that differ from those of `wanted`."""
    for table, query in TABLES.items():
        difference = _compare(table, _rows(found, query), _rows(wanted, query))
        if difference:
            yield difference


def _compare(table: str, found: Iterator[tuple[str, int]], wanted: Iterator[tuple[str, int]]) -> Difference:
    """Walk along both in the order of their keys."""
    difference = Difference(table)
    one, other = next(found, None), next(wanted, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            difference.surplus += 1
            difference.note(one[0])
            one = next(found, None)
        elif one is None or one[0] != other[0]:
            difference.missing += 1
            difference.note(other[0])
            other = next(wanted, None)
        else:
            if one[1] != other[1]:
                difference.changed += 1
                difference.note(one[0])
            one, other = next(found, None), next(wanted, None)
    return difference


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[str, int]]:
    """Keys and digests, ordered by the bytes of the key."""
    connection.execute(f"SELECT * FROM ({query}) AS x(key, digest) ORDER BY ALL")
    while rows := connection.fetchmany(FETCH):
        yield from rows
