"""`p2pcap query`: SQL over a node's captions, read-only."""

import csv
import sys
from collections.abc import Iterator
from typing import Any

import click

from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import clean, result, say, table
from p2pcap.cli.rows import Rows, run_query
from p2pcap.export.escape import safe_json

PEOPLE, MACHINES = 1_000, 1_000_000
"""Rows that are shown unless --rows says otherwise: in a table, and in the other forms."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula; such a text gets an apostrophe in front."""


@click.command(
    epilog="""\b
Examples:
  p2pcap query "SELECT key, caption FROM captions LIMIT 10"
  p2pcap query "SELECT author_name, rows FROM contributors" --json
  p2pcap query "SELECT key FROM captions WHERE answers['objects'] ILIKE '%dog%'" -q"""
)
@click.argument("sql")
@click.option("--json", "form", flag_value="json", help="An array of objects.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated, with a head line.")
@click.option("-q", "--quiet", "form", flag_value="quiet", help="The first column, one value a line.")
@click.option("--rows", type=click.IntRange(1, 10_000_000), help="At most so many rows.")
@click.option("--seconds", default=60.0, show_default=True, type=FiniteRange(0.1, 600), help="At most so long.")
@node_option
def query(sql: str, form: str | None, rows: int | None, seconds: float, node: str | None) -> None:
    """Run one SELECT over a node's tables; docs/sql.md describes them. SQL may be "-" for standard input.

    Works while the node runs and when it does not. Nothing can be changed this way.
    """
    sql = sys.stdin.read() if sql == "-" else sql
    limit = rows or (MACHINES if form else PEOPLE)
    show = {None: _show_table, "json": show_json, "csv": _show_csv, "quiet": _show_first}[form]
    with run_query(find_node(node), sql, limit, seconds) as found:
        show(found)
    if found.truncated:
        say(f"only the first {limit} rows are shown; ask for more with --rows")


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


def _show_table(rows: Rows) -> None:
    lines = table(rows.schema.names, plain(rows))
    for line in lines:
        result(line)
    if not lines:
        say("no rows")


def show_json(rows: Rows) -> None:
    """An array of objects on standard output."""
    import msgspec

    out, before = sys.stdout.buffer, b"["
    for row in plain(rows):
        out.write(before + b"\n" + safe_json(msgspec.json.encode(dict(zip(rows.schema.names, row, strict=True)))))
        before = b","
    out.write(b"\n]\n" if before == b"," else b"[]\n")
    out.flush()


def _show_csv(rows: Rows) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows.schema.names)
    for row in plain(rows):
        writer.writerow([_csv_cell(value) for value in row])


def _csv_cell(value: object) -> object:
    if isinstance(value, dict | list):
        import msgspec

        value = msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        return value
    text = "".join(letter for letter in value if letter.isprintable() or letter in "\n\t")
    return f"'{text}" if text.startswith(FORMULA) else text


def _show_first(rows: Rows) -> None:
    for row in plain(rows):
        click.echo(clean(str(row[0])))
