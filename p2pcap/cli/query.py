"""`p2pcap query`: SQL over a node's captions, read-only."""

import csv
import sys
from pathlib import Path

import click

from p2pcap.cli.exits import FAILED, OK
from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import Target, find_node, node_option
from p2pcap.cli.output import result, results, say, table, warn
from p2pcap.cli.rows import ALL_ROWS, ALL_SECONDS, Rows, run_query
from p2pcap.cli.values import plain
from p2pcap.export.escape import safe_json

PEOPLE, MACHINES = 1_000, 1_000_000
"""Rows that are shown unless --rows says otherwise: in a table, and in the other forms."""

SECONDS = 60.0
"""How long a query may take unless --seconds says otherwise."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula; such a text gets an apostrophe in front."""


@click.command(
    epilog="""\b
Examples:
  p2pcap query "SELECT key, caption FROM captions LIMIT 10"
  p2pcap query "SELECT author_name, rows FROM contributors" --json
  p2pcap query "SELECT key, url FROM images WHERE captioned = 0" --to missing.parquet
  p2pcap query "SELECT key FROM captions WHERE answers['objects'] ILIKE '%dog%'" -q"""
)
@click.argument("sql")
@forms("An array of objects.", "The first column, one value a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a head line.")
@click.option(
    "--to",
    "destination",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a .parquet, .csv or .jsonl file.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--rows", type=click.IntRange(1, ALL_ROWS), help="At most so many rows.")
@click.option("--seconds", type=FiniteRange(0.1, ALL_SECONDS), help="At most so long.  [default: 60; with --to 600]")
@node_option
def query(
    sql: str,
    form: Form,
    as_csv: bool,
    destination: Path | None,
    force: bool,
    rows: int | None,
    seconds: float | None,
    node: str | None,
) -> int:
    """Run one SELECT over a node's tables; docs/sql.md describes them. SQL may be "-" for standard input.

    Works while the node runs and when it does not. Nothing can be changed this way.
    """
    sql = sys.stdin.read() if sql == "-" else sql
    target = find_node(node)
    if destination is not None:
        return _write(target, sql, destination, force, rows, seconds or ALL_SECONDS)
    chosen = _chosen(form, as_csv)
    limit = rows or (PEOPLE if chosen == "people" else MACHINES)
    show = {"people": _show_table, "json": show_json, "csv": _show_csv, "quiet": _show_first}[chosen]
    with run_query(target, sql, limit, seconds or SECONDS) as found:
        show(found)
    if found.truncated:
        warn(f"only the first {limit} rows are shown; ask for more with --rows")
    return OK


def _chosen(form: Form, as_csv: bool) -> str:
    """The one form that was chosen. Fails as misuse for two."""
    if as_csv and form != "people":
        raise click.UsageError(f"--csv and --{form} are two forms of the same. Leave one of them out.")
    return "csv" if as_csv else form


def _write(target: Target, sql: str, path: Path, force: bool, rows: int | None, seconds: float) -> int:
    """The result in a file. A file that lacks rows nobody wanted left out is a failure."""
    from p2pcap.cli.query_files import check_name, write_rows
    from p2pcap.export.destination import check_file

    check_name(path)
    check_file(path, force=force)
    with run_query(target, sql, rows or ALL_ROWS, seconds) as found:
        count = write_rows(found, path, force=force)
    say(f"wrote {path}: {count} rows")
    if found.truncated:
        warn(f"there are more than {count} rows; ask for less at a time" if rows is None else "there are more rows")
    return FAILED if found.truncated and rows is None else OK


def _show_table(rows: Rows) -> None:
    results(table(rows.schema.names, plain(rows)), "no rows")


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
        result(str(row[0]))
