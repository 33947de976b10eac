"""Bodies that this node has checked and does not keep: nodes share them out (p2pcap.node.shares).

What is known of such a result stays: its header, which of its rows are errors, and their tokens. So it counts, ranks
and is credited as before; only its body and its texts are gone.

Always holds: a result is in `dropped` exactly when its row in `batch` has no body, and then its rows in `candidate`
have no texts and no image. All of a result goes, or comes back, in one transaction.
"""

from collections.abc import Collection

import duckdb

EMPTY = (
    "UPDATE batch SET body = ''::BLOB WHERE {some}",
    "UPDATE candidate SET texts = [], finish = [], reason = '', image = NULL WHERE {some}",
    "INSERT INTO dropped SELECT no FROM batch WHERE {some}",
)
RETURN = tuple(f"DELETE FROM {table} WHERE {{some}}" for table in ("dropped", "batch", "candidate"))

SOME = "no BETWEEN ? AND ? AND no IN (SELECT unnest(?::INTEGER[]))"
"""The range lets DuckDB pass over most of a large table; the list alone does not."""


def drop(connection: duckdb.DuckDBPyConnection, numbers: Collection[int]) -> None:
    """Delete bodies and texts of these results, which have them."""
    _run(connection, EMPTY, numbers)


def make_room(connection: duckdb.DuckDBPyConnection, numbers: Collection[int]) -> None:
    """Delete what is left of these results, whose bodies and rows are about to be appended again."""
    _run(connection, RETURN, numbers)


def _run(connection: duckdb.DuckDBPyConnection, queries: tuple[str, ...], numbers: Collection[int]) -> None:
    if numbers:
        for query in queries:
            connection.execute(query.format(some=SOME), [min(numbers), max(numbers), list(numbers)])
