"""One transaction: writes staged, applied to the tables, committed, and then known.

Always holds: when `write` raises, the file and `known` are as they were before.
"""

from collections.abc import Iterable
from contextlib import suppress

import duckdb

from p2pcap.store import dropping, ranking
from p2pcap.store.appending import append
from p2pcap.store.known import Known
from p2pcap.store.staging import Stage
from p2pcap.store.writes import Write

UPSERT_AUTHORS = """
INSERT INTO author SELECT unnest(?::INTEGER[]), unnest(?::BLOB[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),
    unnest(?::BIGINT[])
ON CONFLICT (author_no) DO UPDATE SET name = excluded.name, granted = excluded.granted
"""
"""All at once: a statement for each takes DuckDB 2 ms, and a swarm may admit hundreds in a second."""

NAME_TASK = """UPDATE task SET model = ?, revision = ?, prompts = ?, stage = coalesce(?, stage), place = ?,
    kept = ?, kept_no = ? WHERE task_no = ?"""


def write(connection: duckdb.DuckDBPyConnection, known: Known, writes: Iterable[Write]) -> None:
    """Commit `writes`, all or none. Raises duckdb.Error, or ValueError for what has no place in the store."""
    stage = Stage(known)
    for one in writes:
        stage.add(one)
    stage.finish()
    connection.begin()
    try:
        _replace(connection, stage)
        dropping.make_room(connection, stage.restored)
        for table, rows in stage.rows.items():
            append(connection, table, rows)
        _update(connection, stage)
        dropping.drop(connection, stage.dropping)
        ranking.drop(connection, stage)
        ranking.move(connection, stage)
        ranking.rank(connection, stage.touched, stage.error_authors)
        connection.commit()
    except BaseException:
        with suppress(duckdb.Error):  # a failed commit has ended the transaction itself
            connection.rollback()
        raise
    stage.absorb()


def _replace(connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    """Delete what newer rows take the place of."""
    if stage.project is not None:
        connection.execute("DELETE FROM chunk")
        connection.execute("DELETE FROM policy")
    if stage.judging.ruled:
        ids = list(stage.judging.ruled)
        connection.execute("DELETE FROM ruled WHERE id IN (SELECT unnest(?::BLOB[]))", [ids])
    if stage.judging.moves_tiers:
        connection.execute("DELETE FROM tier")
    if stage.dropped_blobs:
        connection.execute("DELETE FROM blob WHERE hash IN (SELECT unnest(?::BLOB[]))", [list(stage.dropped_blobs)])


def _update(connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    """Change rows in place, and take away statements that lost their slot, also such as were just appended."""
    for values in stage.task_names:
        connection.execute(NAME_TASK, values)
    if authors := stage.author_rows():
        connection.execute(UPSERT_AUTHORS, [list(column) for column in zip(*authors, strict=True)])
    if stage.named:
        connection.execute("UPDATE candidate SET image = NULL WHERE chunk IN (SELECT unnest(?))", [list(stage.named)])
    if stage.replaced:
        connection.execute("DELETE FROM statement WHERE id IN (SELECT unnest(?::BLOB[]))", [list(stage.replaced)])
