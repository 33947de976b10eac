"""Watches over a running query, so that it cannot starve the node that answers it.

DuckDB has one memory limit for the whole database. A query that reaches it would make the node's own commits fail, or
even the database shut down, when there is no memory left to roll one back. So queries are broken off well before.

Always holds: a query under guard ends soon after its time is up, its memory is too much, or nobody wants it any more;
`reason` then says why.
"""

import threading
import time
from types import TracebackType
from typing import Self

import duckdb

from p2pcap.store.readers import Lender

MAX_FIXED, MAX_MEMORY = 300 * 1024 * 1024, 700 * 1024 * 1024
"""Bytes that running queries may hold together, of the 1 GB that the database has: of what cannot be moved to disk, and
in all. A list or a long text doubles the former at one stroke, faster than anybody can look."""

PERIOD = 0.02
"""Seconds between two looks: DuckDB fills memory by about 500 MB a second (measured on two cores)."""


TOO_MUCH_MEMORY = "The query was stopped because it took too much memory. Ask for less at a time."
BROKEN_OFF = "The query was broken off. Ask again."


class Guard:
    """Interrupts what runs on `cursor`: after `seconds`, when queries hold too much memory, or on `stop`. It
    looks every `period` seconds."""

    def __init__(
        self,
        readers: Lender,
        cursor: duckdb.DuckDBPyConnection,
        seconds: float,
        stop: threading.Event,
        period: float = PERIOD,
    ) -> None:
        self._readers = readers
        self._cursor = cursor
        self._seconds = seconds
        self._stop = stop
        self._period = period
        self._deadline = time.monotonic() + seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="p2pcap-query-guard", daemon=True)
        self.reason = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._period):
            self.reason = self.reason or self._fault()
            if self.reason:
                self._cursor.interrupt()  # again and again: one between two steps of a query is lost

    def _fault(self) -> str:
        if self._stop.is_set():
            return BROKEN_OFF
        if time.monotonic() > self._deadline:
            return f"The query was stopped after {self._seconds:g} s. Ask for less, or allow more time with --seconds."
        fixed, memory = self._readers.memory()
        if fixed > MAX_FIXED or memory > MAX_MEMORY:
            return TOO_MUCH_MEMORY
        return ""
