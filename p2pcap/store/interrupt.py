"""A way to break off a reader from another thread."""

import threading

import duckdb


class Interrupt:
    """Set once, from any thread; whoever reads with it stops at the next row batch or inside a long computation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._set = False

    @property
    def is_set(self) -> bool:
        """Whether the reader is to stop."""
        return self._set

    def set(self) -> None:
        """Tell the reader to stop."""
        with self._lock:
            self._set = True
            if self._cursor is not None:
                self._cursor.interrupt()

    def attach(self, cursor: duckdb.DuckDBPyConnection | None) -> None:
        """The connection that the reader uses from now on; None when it has given it back."""
        with self._lock:
            self._cursor = cursor
