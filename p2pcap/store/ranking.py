"""Which of several rows counts, in SQL: the ranking of p2pcap.ledger.canonical over tables.

Only what is touched is ranked anew. The rows that lose stand in `superseded`; of those that win, the errors that too
few authors said stand in `unconfirmed`. So a row that nobody contests costs nothing.

Always holds: once `rank` has run on what a transaction touched, the rows of `candidate` that are not in `superseded`
are the canonical table; tests compare it with the pure function.
"""

from dataclasses import astuple
from typing import Any

import duckdb

from p2pcap.store.appending import append
from p2pcap.store.known import Place
from p2pcap.store.staging import Stage, numbers_of
from p2pcap.store.standing import Standing

HELD = """
SELECT s.id, s.author, b.task_no, b.chunk, b.first, b.mask, r.no, r.errors, r.counted, r.confirmed, r.failed, r.unsure,
    r.sealed, r.tier, r.tie
FROM standing r JOIN batch b USING (no) JOIN statement s USING (no)
"""

RANKED = """
CREATE OR REPLACE TEMP TABLE ranked AS
WITH touched AS (SELECT unnest(?::INTEGER[]) AS task_no, unnest(?::INTEGER[]) AS chunk, unnest(?::INTEGER[]) AS item),
entry AS (
    SELECT c.no, c.chunk, c.item, b.task_no, b.author_no, c.error <> '' AS failed, r.sealed, r.tier, r.tie,
        (r.counted >> (c.item - b.first)) & 1 = 1 AS counts, (r.confirmed >> (c.item - b.first)) & 1 = 1 AS confirmed
    FROM touched t JOIN batch b ON b.task_no = t.task_no AND b.chunk = t.chunk
        JOIN candidate c ON c.no = b.no AND c.item = t.item JOIN standing r ON r.no = b.no),
placed AS (
    SELECT *, row_number() OVER (
        PARTITION BY task_no, chunk, item ORDER BY sealed NULLS LAST, failed, tier DESC, tie) AS place
    FROM entry WHERE counts),
said AS (
    SELECT *, failed AND row_number() OVER (
        PARTITION BY task_no, chunk, item, failed, author_no ORDER BY place) = 1 AS another_author
    FROM placed),
heard AS (
    SELECT *, failed AND (confirmed OR count_if(another_author) OVER (
        PARTITION BY task_no, chunk, item ORDER BY place) >= ?) AS final
    FROM said),
decided AS (
    SELECT task_no, chunk, item, min(place) FILTER (NOT failed) AS answer, min(place) FILTER (failed) AS error,
        min(place) FILTER (final) AS final
    FROM heard GROUP BY ALL)
SELECT e.no, e.chunk, e.item, coalesce(
        h.place = CASE WHEN d.answer IS NULL OR d.final < d.answer THEN d.error ELSE d.answer END, false) AS wins,
    e.failed AND d.final IS NULL AS unconfirmed
FROM entry e LEFT JOIN heard h ON h.no = e.no AND h.item = e.item
    LEFT JOIN decided d ON d.task_no = e.task_no AND d.chunk = e.chunk AND d.item = e.item
"""

KEEP = """
DELETE FROM {table} x USING ranked r WHERE r.no = x.no AND r.item = x.item AND NOT ({holds});
INSERT INTO {table} SELECT no, chunk, item FROM ranked r
WHERE ({holds}) AND NOT EXISTS (SELECT 1 FROM {table} x WHERE x.no = r.no AND x.item = r.item)
"""

RESULTS = ("batch", "candidate", "dropped", "standing", "superseded", "unconfirmed")
"""The tables that say something of a result whose body was checked."""

FALL = """
DELETE FROM {table} WHERE no IN (SELECT unnest(?::INTEGER[]))
"""


def drop(connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    """Take away the bodies and rows that the stage's redactions close, and touch what they covered."""
    for write in stage.redactions:
        dropped, fallen = set(write.dropped), []
        for row in connection.execute(f"{HELD} WHERE b.chunk = ?", [write.chunk]).fetchall():
            items = _items(row)
            if items & write.items or row[0] in dropped:
                fallen.append(row[6])
                stage.touch((row[2], row[3]), items, only_contested=False)
        for table in RESULTS if fallen else ():
            connection.execute(FALL.format(table=table), [fallen])
        stage.fallen.update(fallen)


def move(connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    """Write the standings that rulings and seals change, and touch the items that this may bear on."""
    changed: list[Standing] = []
    for row in _moved(connection, stage):
        before = Standing(*row[6:])
        after = stage.judging.standing(before.no, row[0], row[1], before.errors)
        if after != before:
            changed.append(after)
            stage.touch((row[2], row[3]), _items(row), only_contested=after.counted == before.counted)
    if changed:
        connection.execute(FALL.format(table="standing"), [[standing.no for standing in changed]])
        append(connection, "standing", [astuple(standing) for standing in changed])


def rank(connection: duckdb.DuckDBPyConnection, touched: dict[Place, int], error_authors: int) -> None:
    """Rank the touched items anew."""
    places = [(task, chunk, item) for (task, chunk), items in touched.items() for item in numbers_of(items)]
    if not places:
        return
    connection.execute(RANKED, [*map(list, zip(*places, strict=True)), error_authors])
    for table, holds in (("superseded", "NOT r.wins"), ("unconfirmed", "r.wins AND r.unconfirmed")):
        for statement in KEEP.format(table=table, holds=holds).split(";"):
            connection.execute(statement)
    connection.execute("DROP TABLE ranked")


def _moved(connection: duckdb.DuckDBPyConnection, stage: Stage) -> list[Any]:
    """The held results whose standing may be another one now."""
    rows: list[Any] = []
    if stage.moved:
        query = f"{HELD} JOIN (SELECT unnest(?::BLOB[]) AS id) m ON m.id = s.id"
        rows += connection.execute(query, [list(stage.moved)]).fetchall()
    if stage.judging.moves_tiers:
        unsealed = connection.execute(f"{HELD} WHERE r.sealed IS NULL").fetchall()
        rows += [row for row in unsealed if row[0] not in stage.moved]
    return rows


def _items(row: Any) -> int:
    return int.from_bytes(row[5], "little") << int(row[4])
