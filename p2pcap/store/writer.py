"""The one thread that writes.

Callers put jobs in a queue; the thread takes what gathered while its last commit ran and commits it as one
transaction, so a busy node pays for one flush to disk where it would have paid for hundreds, and an idle node's single
write waits for nobody.

Always holds: a job is reported as done after the transaction that holds it is on disk, or as failed and then nothing of
it is. A job that cannot be written fails alone; the others of its group are committed.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import duckdb

from p2pcap.errors import StoreError
from p2pcap.store.staging import Known, Stage
from p2pcap.store.writes import Write, weight

GROUP_ROWS = 16_384
"""Rows in one transaction, about: some tens of milliseconds of work, so nobody waits long for others."""

UPSERT_AUTHOR = """
INSERT INTO author VALUES (?, ?, ?, ?, ?)
ON CONFLICT (author_no) DO UPDATE SET name = excluded.name, granted = excluded.granted
"""

SUPERSEDE = """
INSERT INTO superseded
SELECT no, chunk, item FROM (
    SELECT c.no, c.chunk, c.item, row_number() OVER (PARTITION BY c.item ORDER BY c.error <> '', s.id) AS rank
    FROM candidate c JOIN batch b USING (no) JOIN statement s USING (no)
    WHERE b.task_no = ? AND b.chunk = ? AND list_contains(?, c.item)) ranked
WHERE rank > 1 AND NOT EXISTS (SELECT 1 FROM superseded x WHERE x.no = ranked.no AND x.item = ranked.item)
"""
"""The ranking of p2pcap.ledger.canonical.rank, over the contested items of one chunk. A loser never wins again."""


@dataclass(frozen=True)
class Job:
    """Writes for one transaction, and whom to tell: `done` gets None or the error, on the writer's thread."""

    writes: Sequence[Write]
    done: Callable[[Exception | None], None]


class Writer:
    """Owns `connection` and `known` from the moment it is made."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, known: Known) -> None:
        self._connection = connection
        self._known = known
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="p2pcap-store", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue `job`. Returns at once; its `done` is called exactly once."""
        self._queue.put(job)

    def close(self) -> None:
        """Commit what is queued, and end the thread. Waits for it."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            if jobs := self._gather():
                self._commit(jobs)
        self._connection.close()

    def _gather(self) -> list[Job]:
        """The next job, and with it whatever else waits, up to GROUP_ROWS."""
        jobs: list[Job] = []
        rows = 0
        while rows < GROUP_ROWS and not self._closing:
            try:
                job = self._queue.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                self._closing = True
            else:
                jobs.append(job)
                rows += sum(weight(write) for write in job.writes)
        return jobs

    def _commit(self, jobs: list[Job]) -> None:
        try:
            self._write([write for job in jobs for write in job.writes])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread lives on and whoever waits is told
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
            else:
                jobs[0].done(_explained(error))
        else:
            for job in jobs:
                job.done(None)

    def _write(self, writes: list[Write]) -> None:
        stage = Stage(self._known)
        for write in writes:
            stage.add(write)
        self._transaction(stage)
        self._known.absorb(stage)

    def _transaction(self, stage: Stage) -> None:
        self._connection.begin()
        try:
            self._append(stage)
            self._update(stage)
            self._connection.commit()
        except BaseException:
            with suppress(duckdb.Error):  # a failed commit has ended the transaction itself
                self._connection.rollback()
            raise

    def _append(self, stage: Stage) -> None:
        if stage.replace_chunks:
            self._connection.execute("DELETE FROM chunk")
        for table, rows in stage.rows.items():
            appender = self._connection.appender(table)
            try:
                appender.append_rows(rows)
                appender.flush()
            except BaseException:
                with suppress(duckdb.Error):  # the transaction is lost, and the first error says why
                    appender.clear()
                raise

    def _update(self, stage: Stage) -> None:
        for values in stage.task_names:
            self._connection.execute("UPDATE task SET model = ?, revision = ?, prompts = ? WHERE task_no = ?", values)
        for values in stage.author_rows():
            self._connection.execute(UPSERT_AUTHOR, values)
        for (task, chunk), items in stage.contested.items():
            self._connection.execute(SUPERSEDE, [task, chunk, _numbers(items)])


def _numbers(bits: int) -> list[int]:
    return [index for index in range(bits.bit_length()) if bits >> index & 1]


def _explained(error: Exception) -> Exception:
    if not isinstance(error, duckdb.Error):
        return error
    what = str(error).splitlines()[0].rstrip(".")
    return StoreError(f"The database cannot be written: {what}. See that the disk has room, then start the node again.")
