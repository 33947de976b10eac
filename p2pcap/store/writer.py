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
from dataclasses import dataclass

import duckdb

from p2pcap.errors import StoreError
from p2pcap.store.known import Known
from p2pcap.store.transaction import write
from p2pcap.store.writes import Write, weight

GROUP_ROWS = 16_384
"""Rows in one transaction, about: some tens of milliseconds of work, so nobody waits long for others."""


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
                rows += sum(map(weight, job.writes))
        return jobs

    def _commit(self, jobs: list[Job]) -> None:
        try:
            write(self._connection, self._known, [one for job in jobs for one in job.writes])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread lives on and whoever waits is told
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
            else:
                jobs[0].done(_explained(error))
        else:
            for job in jobs:
                job.done(None)


def _explained(error: Exception) -> Exception:
    if not isinstance(error, duckdb.Error):
        return error
    what = str(error).splitlines()[0].rstrip(".")
    return StoreError(f"The database cannot be written: {what}. See that the disk has room, then start the node again.")
