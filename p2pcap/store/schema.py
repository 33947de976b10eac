"""The tables and views of a node's database.

`statement`, `batch.body`, `item` and `blob` are what a node was given; everything else is a projection of them, which
p2pcap.store.fsck can make anew. Of a body that was checked here and is not kept, `dropped` names the result, and what
its rows in `candidate` still say takes the body's place. Numbers that this file calls `…_no` are local to one file:
they keep joins narrow, and mean nothing on another node.

`task.place` is the number of the stage that asks it now, NULL for tasks of earlier plans; `task.stage` that stage's
name, or the last one it had. `task.kept` is the number of the stage that keeps its answers, and `kept_no` orders the
tasks that one stage keeps, the newest last. Views show what is asked now, unless they say otherwise.

Always holds: a file has exactly one row in `meta`, and it names the schema the file was written with. The names and
columns here and docs/sql.md say the same; a test compares them.
"""

import duckdb

from p2pcap.errors import StoreError
from p2pcap.project.items import NO_IMAGE

SCHEMA = 6
"""Version of the tables below. An older file is brought up to it (p2pcap.store.migrations), a newer one is refused."""

MAX_TIME = 253_402_300_799
"""Latest time a timestamp column shows: the last second of the year 9999. An author may sign any number."""

IMAGE = "coalesce(nullif(i.hash, ''::BLOB), c.image)"
"""The image's hash: the item list's, or where that has none the row's; of an `item i` and a `candidate c`."""

TABLES = """
CREATE TABLE meta (schema INTEGER NOT NULL, created_by VARCHAR NOT NULL);
CREATE TABLE blob (hash BLOB PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE statement (
    no INTEGER NOT NULL, id BLOB PRIMARY KEY, kind VARCHAR NOT NULL, author BLOB NOT NULL,
    envelope BLOB NOT NULL, received DOUBLE NOT NULL);
CREATE TABLE task (task_no INTEGER PRIMARY KEY, tid BLOB NOT NULL, model VARCHAR NOT NULL, revision VARCHAR NOT NULL,
    prompts VARCHAR[] NOT NULL, stage VARCHAR NOT NULL, place INTEGER,
    kept INTEGER, kept_no INTEGER);
CREATE TABLE author (author_no INTEGER PRIMARY KEY, key BLOB NOT NULL, peer_id VARCHAR NOT NULL, name VARCHAR NOT NULL,
    granted BIGINT NOT NULL);
CREATE TABLE chunk (chunk INTEGER NOT NULL, images INTEGER NOT NULL);
CREATE TABLE item (chunk INTEGER NOT NULL, item INTEGER NOT NULL, key VARCHAR NOT NULL, hash BLOB NOT NULL,
    length BIGINT NOT NULL, url VARCHAR, place BIGINT, fields MAP(VARCHAR, VARCHAR), file VARCHAR);
CREATE TABLE batch (
    no INTEGER NOT NULL, task_no INTEGER NOT NULL, author_no INTEGER NOT NULL, chunk INTEGER NOT NULL,
    first INTEGER NOT NULL, mask BLOB NOT NULL, tokens BIGINT NOT NULL, engine BLOB NOT NULL, time BIGINT NOT NULL,
    root BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX batch_root ON batch (root);
CREATE TABLE candidate (
    no INTEGER NOT NULL, chunk INTEGER NOT NULL, item INTEGER NOT NULL, texts VARCHAR[] NOT NULL,
    tokens BIGINT[] NOT NULL, finish VARCHAR[] NOT NULL, error VARCHAR NOT NULL, reason VARCHAR NOT NULL, image BLOB);
CREATE TABLE dropped (no INTEGER NOT NULL);
CREATE TABLE superseded (no INTEGER NOT NULL, chunk INTEGER NOT NULL, item INTEGER NOT NULL);
CREATE TABLE unconfirmed (no INTEGER NOT NULL, chunk INTEGER NOT NULL, item INTEGER NOT NULL);
CREATE TABLE standing (
    no INTEGER NOT NULL, errors UBIGINT NOT NULL, counted UBIGINT NOT NULL, confirmed UBIGINT NOT NULL,
    failed UBIGINT NOT NULL, unsure UBIGINT NOT NULL, sealed INTEGER, tier INTEGER NOT NULL, tie BLOB NOT NULL);
CREATE TABLE ruled (
    id BLOB NOT NULL, counted UBIGINT NOT NULL, confirmed UBIGINT NOT NULL, failed UBIGINT NOT NULL,
    unsure UBIGINT NOT NULL);
CREATE TABLE tier (author BLOB NOT NULL, tier INTEGER NOT NULL);
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
"""

ASKED = "t.place IS NOT NULL"
KEPT = """t.kept IS NOT NULL AND c.error = '' AND NOT EXISTS (
    SELECT 1 FROM counted o JOIN task u USING (task_no)
    WHERE u.place = t.kept AND o.chunk = c.chunk AND o.item = c.item
) AND NOT EXISTS (
    SELECT 1 FROM counted o JOIN task u USING (task_no)
    WHERE u.kept = t.kept AND u.kept_no > t.kept_no AND o.error = '' AND o.chunk = c.chunk AND o.item = c.item
)"""
"""Of rows `c` of a task `t`: those of what is asked now; and answers to what was asked before that stand in where a
stage keeps them and has no row of its own, the newest where it keeps several tasks'. Two parts of a union, because a
project without kept tasks is then read as if there were no such thing."""

ROWS = f"""
SELECT i.key, nullif(lower(hex({IMAGE})), '{NO_IMAGE.hex()}') AS image, c.chunk, c.item, c.texts[1] AS caption,
    CASE WHEN c.error = '' THEN map(t.prompts[:len(c.texts)], c.texts[:len(t.prompts)]) END AS answers,
    list_sum(c.tokens)::BIGINT AS tokens,
    CASE WHEN c.error <> '' THEN NULL WHEN list_contains(c.finish, 'length') THEN 'length' ELSE 'stop' END AS finish,
    nullif(c.error, '') AS error, nullif(c.reason, '') AS reason,
    a.peer_id AS author, a.name AS author_name, t.model, lower(hex(b.engine)) AS engine,
    make_timestamp(least(b.time, {MAX_TIME}) * 1000000) AS time, lower(hex(s.id)) AS statement, r.sealed,
    u.no IS NULL AS final, i.url, i.file, i.place, i.fields,
    t.stage, lower(hex(t.tid)) AS task{{asked}}
FROM caption c JOIN batch b USING (no) JOIN statement s USING (no) JOIN author a USING (author_no)
    JOIN standing r USING (no) JOIN task t ON t.task_no = b.task_no
    LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item
    LEFT JOIN unconfirmed u ON u.no = c.no AND u.item = c.item"""

ANSWERS = """
SELECT i.key, c.chunk, c.item, t.prompts[p.number] AS prompt, c.texts[p.number] AS text,
    c.tokens[p.number] AS tokens, c.finish[p.number] AS finish, t.stage
FROM caption c JOIN task t USING (task_no), unnest(range(1, len(c.texts) + 1)) AS p(number)
    LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item"""

VIEWS = f"""
CREATE VIEW counted AS
SELECT b.task_no, c.* EXCLUDE (no), c.no
FROM candidate c JOIN batch b USING (no)
WHERE NOT EXISTS (SELECT 1 FROM superseded s WHERE s.no = c.no AND s.item = c.item);

CREATE VIEW caption AS
SELECT * FROM counted c WHERE NOT EXISTS (SELECT 1 FROM dropped d WHERE d.no = c.no);

CREATE VIEW history AS
{ROWS.format(asked=", t.place IS NOT NULL AS asked")};

CREATE VIEW captions AS
{ROWS.format(asked="")} WHERE {ASKED}
UNION ALL
{ROWS.format(asked="")} WHERE {KEPT};

CREATE VIEW answers AS
{ANSWERS} WHERE {ASKED}
UNION ALL
{ANSWERS} WHERE {KEPT};

CREATE VIEW images AS
SELECT i.key, i.chunk, i.item, nullif(lower(hex(i.hash)), '') AS image, nullif(i.length, 0) AS bytes, i.url, i.file,
    i.place, i.fields, coalesce(c.captioned, 0) AS captioned, coalesce(c.failed, 0) AS failed,
    r.chunk IS NOT NULL AS redacted
FROM item i LEFT JOIN (
    SELECT c.chunk, c.item, count_if(c.error = '')::BIGINT AS captioned, count_if(c.error <> '')::BIGINT AS failed
    FROM counted c JOIN task t USING (task_no) WHERE t.place IS NOT NULL GROUP BY c.chunk, c.item
) c ON c.chunk = i.chunk AND c.item = i.item LEFT JOIN redacted r ON r.chunk = i.chunk AND r.item = i.item;

CREATE VIEW failures AS
SELECT i.key, i.url, i.file, i.place, c.chunk, c.item, c.error, nullif(c.reason, '') AS reason, u.no IS NULL AS final,
    e.authors, len(e.authors)::BIGINT AS tries, make_timestamp(least(b.time, {MAX_TIME}) * 1000000) AS time, t.stage
FROM counted c JOIN batch b USING (no) JOIN task t ON t.task_no = c.task_no JOIN (
    SELECT b.task_no, c.chunk, c.item, list_sort(list(DISTINCT a.peer_id)) AS authors
    FROM candidate c JOIN batch b USING (no) JOIN standing r USING (no) JOIN author a USING (author_no)
    WHERE c.error <> '' AND (r.counted >> (c.item - b.first)) & 1 = 1 GROUP BY ALL
) e ON e.task_no = c.task_no AND e.chunk = c.chunk AND e.item = c.item
    LEFT JOIN item i ON i.chunk = c.chunk AND i.item = c.item
    LEFT JOIN unconfirmed u ON u.no = c.no AND u.item = c.item
WHERE c.error <> '' AND t.place IS NOT NULL;

CREATE VIEW authors AS
SELECT peer_id AS author, name AS author_name, lower(hex(key)) AS key,
    CASE WHEN granted > 0 THEN make_timestamp(least(granted, {MAX_TIME}) * 1000000) END AS granted
FROM author;

CREATE VIEW contributors AS
SELECT a.peer_id AS author, a.name AS author_name,
    coalesce(c.rows, 0) AS rows, coalesce(c.held, 0) AS held, coalesce(c.errors, 0) AS errors,
    coalesce(c.tokens, 0) AS tokens, make_timestamp(least(c.first, {MAX_TIME}) * 1000000) AS first,
    make_timestamp(least(c.last, {MAX_TIME}) * 1000000) AS last,
    h.passed + h.failed + h.unsure AS checked, h.passed, h.failed,
    h.captions - h.passed - h.failed - h.unsure AS unchecked,
    coalesce(t.tier, 0) AS tier
FROM author a JOIN (
    SELECT b.author_no, sum(bit_count(b.mask::BIT))::BIGINT AS captions, sum(bit_count(r.confirmed))::BIGINT AS passed,
        sum(bit_count(r.failed))::BIGINT AS failed, sum(bit_count(r.unsure))::BIGINT AS unsure
    FROM batch b JOIN standing r USING (no) GROUP BY b.author_no
) h USING (author_no) LEFT JOIN (
    SELECT b.author_no, count(*) AS rows, count_if(d.no IS NULL)::BIGINT AS held,
        count_if(c.error <> '')::BIGINT AS errors, sum(list_sum(c.tokens))::BIGINT AS tokens, min(b.time) AS first,
        max(b.time) AS last
    FROM counted c JOIN batch b USING (no) LEFT JOIN dropped d USING (no) GROUP BY b.author_no
) c USING (author_no) LEFT JOIN tier t ON t.author = a.key;

CREATE VIEW chunks AS
SELECT h.chunk, h.images, coalesce(c.done, 0) AS done, coalesce(c.held, 0) AS held,
    coalesce(c.errors, 0) AS errors, coalesce(r.redacted, 0) AS redacted, t.stage
FROM chunk h JOIN task t ON t.place IS NOT NULL LEFT JOIN (
    SELECT task_no, chunk, count(*) AS done, count_if(d.no IS NULL)::BIGINT AS held,
        count_if(error <> '')::BIGINT AS errors
    FROM counted LEFT JOIN dropped d USING (no) GROUP BY task_no, chunk
) c USING (task_no, chunk) LEFT JOIN (SELECT chunk, count(*) AS redacted FROM redacted GROUP BY chunk) r USING (chunk);

CREATE VIEW checkpoints AS
SELECT s.number, make_timestamp(least(c.time, {MAX_TIME}) * 1000000) AS time, c.statements, c.captions
FROM seal s LEFT JOIN checkpoint c ON c.number = s.number AND c.hash = s.hash;

CREATE VIEW rulings AS
SELECT kind, target, word, author, reason, make_timestamp(least(time, {MAX_TIME}) * 1000000) AS time FROM ruling;
"""


def create(connection: duckdb.DuckDBPyConnection, program: str) -> None:
    """All tables and views, in one transaction; `program` is the version that wrote the file."""
    connection.execute("BEGIN TRANSACTION")
    for statement in connection.extract_statements(TABLES):
        connection.execute(statement)
    views(connection)
    connection.execute("INSERT INTO meta VALUES (?, ?)", [SCHEMA, program])
    connection.execute("COMMIT")


def exists(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file holds anything at all. A new file does not."""
    row = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE NOT internal").fetchone()
    return row is not None and row[0] > 0


def views(connection: duckdb.DuckDBPyConnection) -> None:
    """The views alone, in a file that has none."""
    for statement in connection.extract_statements(VIEWS):
        connection.execute(statement)


def version(connection: duckdb.DuckDBPyConnection, path: str) -> int:
    """The schema of the file. Raises StoreError when it is none of p2pcap's, or newer than this program."""
    try:
        row = connection.execute("SELECT schema, created_by FROM meta").fetchone()
    except duckdb.CatalogException as error:
        raise StoreError(f"{path} is a database, but not p2pcap's. Move it away, or name another folder.") from error
    if row is None:
        raise StoreError(f"{path} is damaged. Move it away; peers send its contents again.")
    if row[0] > SCHEMA:
        raise StoreError(f"{path} was written by p2pcap {row[1]}, which is newer than this one. Update p2pcap.")
    return int(row[0])
