"""Adding rows in bulk.

Always holds: an append that fails leaves nothing waiting to be written.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import duckdb


def append(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add `rows` to `table`, in its columns."""
    if not rows:
        return
    appender = connection.appender(table)
    try:
        appender.append_rows(rows)
        appender.flush()
    except BaseException:
        with suppress(duckdb.Error):  # the transaction is lost, and the first error says why
            appender.clear()
        raise
