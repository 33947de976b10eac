"""JSON Lines: an object a line, with the same fields in the same order on each.

Always holds: the file is fit to be shown on a terminal; a text comes back from it exactly as it went in.
"""

from collections.abc import Sequence
from pathlib import Path

from p2pcap.export.asking import Asked
from p2pcap.export.columns import Column, Shape, table
from p2pcap.export.counts import Counts
from p2pcap.export.lines import Progress, write
from p2pcap.export.source import Source
from p2pcap.export.sql import name


def write_jsonl(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    shape: Shape,
    columns: Sequence[str],
    force: bool,
    progress: Progress,
) -> Counts:
    """Write the rows asked for. Raises ConfigError, QueryError, StoreError."""
    found = table(source, asked, shape, columns, line)
    return write(source, found.sql, found.order, asked, destination, force=force, progress=progress, escape=True)


def line(columns: Sequence[Column]) -> str:
    """SQL: the columns as one JSON object and a line feed."""
    return f"concat({json_object(columns)}, chr(10)) AS line"


def json_object(columns: Sequence[Column]) -> str:
    """SQL: the columns as one JSON object."""
    return f"to_json(struct_pack({', '.join(map(_member, columns))}))"


def _member(column: Column) -> str:
    return f"{name(column.name)} := {'time_text' if column.kind == 'time' else column.sql}"
