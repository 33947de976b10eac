"""A query's rows as Python values.

Always holds: every value is one that JSON has.
"""

from collections.abc import Iterator
from typing import Any

from p2pcap.cli.rows import Rows


def plain(rows: Rows) -> Iterator[list[object]]:
    """The rows as Python values: bytes in hex, times in ISO 8601, maps as dictionaries."""
    for batch in rows:
        columns = [_column(column) for column in batch.columns]
        yield from map(list, zip(*columns, strict=True))


def _column(column: Any) -> list[object]:
    return [_value(value) for value in column.to_pylist(maps_as_pydicts="lossy")]


def _value(value: Any) -> object:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_value(inner) for inner in value]
        case None | bool() | int() | float() | str():
            return value
        case _ if hasattr(value, "isoformat"):
            return value.isoformat()
        case _:
            return str(value)
