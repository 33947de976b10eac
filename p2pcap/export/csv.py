"""CSV by RFC 4180, with line feeds: a head line, texts in quotation marks, nothing at all for what there is not.

Answers and metadata stand in a cell as JSON. A text that a spreadsheet would take for a formula gets an apostrophe in
front where that is asked for; programs that read the file want the text as it is.

Always holds: a text comes back exactly as it went in, unless apostrophes were asked for.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from p2pcap.export.asking import Asked
from p2pcap.export.columns import Column, Shape, table
from p2pcap.export.counts import Counts
from p2pcap.export.lines import Progress, write
from p2pcap.export.source import Source

FORMULA = "^[=+\\-@\\t\\r]"
"""How a text begins that a spreadsheet takes for a formula."""

SQL: dict[str, str] = {
    "plain": "{sql}",
    "text": "{sql}",
    "time": "time_text",
    "answers": "to_json({sql})",
    "fields": "to_json({sql})",
    "list": "to_json({sql})",
}


def write_csv(
    source: Source,
    asked: Asked,
    destination: Path,
    *,
    shape: Shape,
    columns: Sequence[str],
    force: bool,
    progress: Progress,
    spreadsheet: bool = False,
) -> Counts:
    """Write the rows asked for. Raises ConfigError, QueryError, StoreError."""
    found = table(source, asked, shape, columns, partial(line, spreadsheet=spreadsheet))
    head = ",".join(_quoted(column.name) for column in found.columns).encode() + b"\n"
    return write(source, found.sql, found.order, asked, destination, force=force, progress=progress, head=head)


def line(columns: Sequence[Column], *, spreadsheet: bool = False) -> str:
    """SQL: the columns as one line of CSV."""
    cells = ", ',', ".join(_cell(column, spreadsheet) for column in columns)
    return f"concat({cells}, chr(10)) AS line"


def _cell(column: Column, spreadsheet: bool) -> str:
    value = SQL[column.kind].format(sql=column.sql)
    if column.kind in ("plain", "time"):
        return value
    if spreadsheet and column.kind == "text":
        value = f"CASE WHEN regexp_matches({value}, '{FORMULA}') THEN '''' || {value} ELSE {value} END"
    return f"""'"' || replace(({value})::VARCHAR, '"', '""') || '"'"""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n\r') else name
