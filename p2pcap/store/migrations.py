"""Bringing the file of an older version up to the schema of this one.

Always holds: before anything is changed, a copy of the old file lies beside it, on disk. All steps and the new version
number are one transaction: after a crash the file is the old one or the new one. A step says by itself all that it
needs, so that a later change to p2pcap.store.schema does not change what it does.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from p2pcap.codec import MAX_BLOB, decode
from p2pcap.envelope import open_envelope
from p2pcap.errors import CodecError, StoreError
from p2pcap.ledger.checkpoint import open_tiers
from p2pcap.project.opened import version_of
from p2pcap.project.records import DEFAULT_ERROR_AUTHORS, Manifest, Plan
from p2pcap.store import schema

MARGIN = 64 * 1024 * 1024
"""Bytes that stay free on the disk, for the new tables."""

ADDED_IN_2 = """
CREATE TABLE unconfirmed (no INTEGER NOT NULL, chunk INTEGER NOT NULL, item INTEGER NOT NULL);
CREATE TABLE standing (
    no INTEGER NOT NULL, errors UBIGINT NOT NULL, counts BOOLEAN NOT NULL, confirmed UBIGINT NOT NULL, sealed INTEGER,
    tier INTEGER NOT NULL, tie BLOB NOT NULL);
CREATE TABLE ruled (id BLOB NOT NULL, counts BOOLEAN NOT NULL, confirmed UBIGINT NOT NULL);
CREATE TABLE redacted (chunk INTEGER NOT NULL, item INTEGER NOT NULL);
CREATE TABLE seal (number INTEGER NOT NULL, hash BLOB NOT NULL, beacon BLOB NOT NULL, tiers BLOB NOT NULL);
CREATE TABLE sealed (number INTEGER NOT NULL, id BLOB NOT NULL);
CREATE TABLE policy (error_authors INTEGER NOT NULL);
CREATE TABLE checkpoint (
    no INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, time BIGINT NOT NULL, statements BIGINT NOT NULL,
    captions BIGINT NOT NULL);
CREATE TABLE ruling (
    no INTEGER NOT NULL, kind VARCHAR NOT NULL, target VARCHAR NOT NULL, word VARCHAR NOT NULL, author VARCHAR NOT NULL,
    reason VARCHAR NOT NULL, time BIGINT NOT NULL);
INSERT INTO standing
SELECT b.no, coalesce(e.errors, 0), true, 0, NULL, 0, s.id FROM batch b JOIN statement s USING (no) LEFT JOIN (
    SELECT c.no, bit_or(1::UBIGINT << (c.item - b.first)) AS errors
    FROM candidate c JOIN batch b USING (no) WHERE c.error <> '' GROUP BY c.no
) e USING (no);
"""

UNCONFIRMED_IN_2 = """
INSERT INTO unconfirmed
SELECT c.no, c.chunk, c.item FROM candidate c JOIN batch b USING (no) JOIN (
    SELECT b.task_no, c.chunk, c.item, count(DISTINCT b.author_no) AS authors
    FROM candidate c JOIN batch b USING (no) WHERE c.error <> '' GROUP BY ALL
) e ON e.task_no = b.task_no AND e.chunk = c.chunk AND e.item = c.item
WHERE c.error <> '' AND e.authors < ?
    AND NOT EXISTS (SELECT 1 FROM superseded s WHERE s.no = c.no AND s.item = c.item)
"""


def to_2(connection: duckdb.DuckDBPyConnection) -> None:
    """Rulings, redactions, checkpoints; errors that need several authors. Who wins stays as it is: without any of these
    both schemas rank answers before errors, then by id."""
    for statement in connection.extract_statements(ADDED_IN_2):
        connection.execute(statement)
    error_authors = _error_authors(connection)
    if error_authors is not None:
        connection.execute("INSERT INTO policy VALUES (?)", [error_authors])
    connection.execute(UNCONFIRMED_IN_2, [error_authors or DEFAULT_ERROR_AUTHORS])


def to_3(connection: duckdb.DuckDBPyConnection) -> None:
    """Bodies that are checked and not kept. A file of schema 2 keeps all of them."""
    connection.execute("CREATE TABLE dropped (no INTEGER NOT NULL)")


def to_4(connection: duckdb.DuckDBPyConnection) -> None:
    """Images that have a URL, metadata, or no hash before somebody captions them, or are parts of a file. In schema 3
    every item is a file by itself and has its hash, so no row has to say one."""
    for column in ("url VARCHAR", "place BIGINT", "fields MAP(VARCHAR, VARCHAR)", "file VARCHAR"):
        connection.execute(f"ALTER TABLE item ADD COLUMN {column}")
    connection.execute("ALTER TABLE candidate ADD COLUMN image BLOB")


def to_5(connection: duckdb.DuckDBPyConnection) -> None:
    """Several tasks, and tasks that are asked no more. A file of schema 4 has one, which is asked; what wrote it knew
    nothing of stages' names."""
    connection.execute("ALTER TABLE task ADD COLUMN stage VARCHAR DEFAULT ''")
    connection.execute("ALTER TABLE task ALTER COLUMN stage SET NOT NULL")
    connection.execute("ALTER TABLE task ALTER COLUMN stage DROP DEFAULT")
    for column in ("place", "kept", "kept_no"):
        connection.execute(f"ALTER TABLE task ADD COLUMN {column} INTEGER")
    connection.execute("UPDATE task SET place = 0")


ADDED_IN_6 = f"""
ALTER TABLE standing RENAME TO standing_5;
CREATE TABLE standing (
    no INTEGER NOT NULL, errors UBIGINT NOT NULL, counted UBIGINT NOT NULL, confirmed UBIGINT NOT NULL,
    failed UBIGINT NOT NULL, unsure UBIGINT NOT NULL, sealed INTEGER, tier INTEGER NOT NULL, tie BLOB NOT NULL);
INSERT INTO standing
SELECT no, errors, if(counts, {2**64 - 1}, 0), confirmed, 0, 0, sealed, tier, tie FROM standing_5;
DROP TABLE standing_5;
ALTER TABLE ruled RENAME TO ruled_5;
CREATE TABLE ruled (
    id BLOB NOT NULL, counted UBIGINT NOT NULL, confirmed UBIGINT NOT NULL, failed UBIGINT NOT NULL,
    unsure UBIGINT NOT NULL);
INSERT INTO ruled SELECT id, if(counts, {2**64 - 1}, 0), confirmed, 0, 0 FROM ruled_5;
DROP TABLE ruled_5;
CREATE TABLE tier (author BLOB NOT NULL, tier INTEGER NOT NULL);
"""


def to_6(connection: duckdb.DuckDBPyConnection) -> None:
    """What checks found, by item; authors' tiers. What wrote schema 5 knew nobody who checked anything."""
    for statement in connection.extract_statements(ADDED_IN_6):
        connection.execute(statement)
    newest = connection.execute("SELECT tiers FROM seal ORDER BY number DESC LIMIT 1").fetchone()
    for author, tier in open_tiers(newest[0]).items() if newest is not None else ():
        connection.execute("INSERT INTO tier VALUES (?, ?)", [author, tier])


MIGRATIONS: Mapping[int, Callable[[duckdb.DuckDBPyConnection], None]] = {1: to_2, 2: to_3, 3: to_4, 4: to_5, 5: to_6}
"""The step that leads away from each older version."""


def keep_copy(path: Path, version: int) -> Path:
    """A copy of the file, which no process has open, beside it and on disk. Raises StoreError when there is no room."""
    copy = path.with_name(f"{path.name}.schema-{version}")
    part = copy.with_name(f"{copy.name}.part")
    needed = path.stat().st_size + MARGIN
    try:
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError("no room on the disk")
        with path.open("rb") as old, part.open("wb") as new:
            shutil.copyfileobj(old, new, 1024 * 1024)
            new.flush()
            os.fsync(new.fileno())
        part.replace(copy)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"{path} was written by an older p2pcap, and no copy of it could be made before the change: "
            f"{error.strerror or error}. It is as it was. Make room for {needed // 1_000_000 + 1} MB, then start again."
        ) from error
    return copy


def migrate(connection: duckdb.DuckDBPyConnection, found: int, program: str) -> None:
    """Bring a file with schema `found` up to schema.SCHEMA; `program` is the version that does it."""
    connection.begin()
    names = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    for (name,) in names:
        connection.execute(f'DROP VIEW IF EXISTS "{name}"')
    for version in range(found, schema.SCHEMA):
        MIGRATIONS[version](connection)
    schema.views(connection)
    connection.execute("UPDATE meta SET schema = ?, created_by = ?", [schema.SCHEMA, program])
    connection.commit()


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error_authors(connection: duckdb.DuckDBPyConnection) -> int | None:
    """What the newest stored plan asks for; None when no project is stored."""
    envelopes = connection.execute("SELECT envelope FROM statement WHERE kind = 'manifest'").fetchall()
    manifests = [decode(open_envelope(data).payload, Manifest) for (data,) in envelopes]
    newest = max(manifests, key=version_of, default=None)
    if newest is None:
        return None
    plan = connection.execute("SELECT data FROM blob WHERE hash = ?", [newest.plan]).fetchone()
    try:
        return decode(plan[0], Plan, MAX_BLOB).policy.authors_for_error if plan is not None else None
    except CodecError:
        return None  # of an older version's form; the maintainer's next manifest says it again
