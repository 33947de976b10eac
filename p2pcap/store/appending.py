"""Adding rows in bulk.

Always holds: an append that fails leaves nothing waiting to be written.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import duckdb
from msgspec import UNSET

from p2pcap.project.items import Item

AT_ONCE = 256
"""Rows of one call, which holds Python's lock and with it the event loop: for up to 0.3 s when it was given a long item
list with much metadata at once."""


def append(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add `rows` to `table`, in its columns."""
    if not rows:
        return
    appender = connection.appender(table)
    try:
        for start in range(0, len(rows), AT_ONCE):
            appender.append_rows(rows[start : start + AT_ONCE])
        appender.flush()
    except BaseException:
        with suppress(duckdb.Error):  # the transaction is lost, and the first error says why
            appender.clear()
        raise


def item_values(item: Item) -> tuple[Any, ...]:
    """The item in the columns of reads.ITEM."""
    url, place = (None if value is UNSET else value for value in (item.url, item.at))
    return (item.key, item.hash, item.length, url, place, None if item.fields is UNSET else as_map(item.fields))


def as_map(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """`texts` for a column of type MAP.

    duckdb 2.0.0 also takes a plain dictionary, but one whose keys are "key" and "value", as the columns of a dataset
    may well be called, ends in an internal error, or as an empty map (TransformDictionaryToMap). This form is safe.
    """
    return {"key": list(texts), "value": list(texts.values())}
