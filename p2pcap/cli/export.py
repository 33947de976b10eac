"""`p2pcap export`: the formats that are one table in one file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pcap.cli.export_files import everything, imagefolder, json, kohya, lance, txt, webdataset, webshart
from p2pcap.cli.export_options import asked, destination, filters, shapes, table_form, tell, write
from p2pcap.cli.hub import attribution, hub
from p2pcap.cli.nodes import Target, find_node
from p2pcap.cli.output import say
from p2pcap.errors import ConfigError
from p2pcap.export.asking import Asked
from p2pcap.export.columns import Shape

if TYPE_CHECKING:
    from p2pcap.store.canonical import Run


@click.group()
def export() -> None:
    """Write the captions to files, for people, trainers and programs.

    Works while the node runs and when it does not. Nodes with equal tables write equal bytes.
    """


@export.command(
    epilog="""\b
Examples:
  p2pcap export jsonl captions.jsonl
  p2pcap export jsonl - --wide | gzip > captions.jsonl.gz
  p2pcap export jsonl proven.jsonl --proofs"""
)
@destination("file", dash=True)
@shapes
@filters
@click.option("--proofs", is_flag=True, help="Give each line what proves it; takes no filters, and has error rows.")
def jsonl(
    destination: Path, force: bool, node: str | None, shape: Shape | None, columns: str, proofs: bool, **options: Any
) -> int:
    """Write one JSON object a line to DESTINATION ("-": standard output)."""
    from p2pcap.export.jsonl import write_jsonl

    wanted = asked(options)
    if proofs:
        if wanted != Asked(errors=wanted.errors) or shape or columns:
            raise ConfigError("Lines with proofs are whole rows of the whole table. Leave --proofs or the filters out.")
        return _proven(destination, force, node)
    return write(write_jsonl, wanted, destination, force=force, node=node, **table_form(shape, columns))


@export.command(
    epilog="""\b
Examples:
  p2pcap export csv captions.csv --wide
  p2pcap export csv dogs.csv --columns key,caption --where "caption ILIKE '%dog%'\""""
)
@destination("file", dash=True)
@shapes
@click.option("--spreadsheet", is_flag=True, help="Put an apostrophe before texts that a spreadsheet would calculate.")
@filters
def csv(
    destination: Path,
    force: bool,
    node: str | None,
    shape: Shape | None,
    columns: str,
    spreadsheet: bool,
    **options: Any,
) -> int:
    """Write a table with a head line to DESTINATION ("-": standard output, unless that is a terminal)."""
    if str(destination) == "-" and sys.stdout.isatty():
        raise ConfigError("Captions in CSV may hold what steers a terminal. Name a file, or pipe it into a program.")
    from p2pcap.export.csv import write_csv

    form = table_form(shape, columns)
    return write(write_csv, asked(options), destination, force=force, node=node, spreadsheet=spreadsheet, **form)


@export.command(
    epilog="""\b
Examples:
  p2pcap export parquet captions.parquet
  p2pcap export parquet best.parquet --verified --sealed"""
)
@destination("file")
@shapes
@filters
def parquet(destination: Path, force: bool, node: str | None, shape: Shape | None, columns: str, **options: Any) -> int:
    """Write a typed, compressed table to DESTINATION, with the proof of what it says (p2pcap verify).

    With --long, --wide, --prompt, or --columns that leave out what was signed, it carries none.
    """
    from p2pcap.export.parquet import unproven, write_parquet

    wanted, form = asked(options), table_form(shape, columns)
    code = write(write_parquet, wanted, destination, force=force, node=node, **form)
    if option := unproven(wanted, form["shape"], form["columns"]):
        say(f"{destination} carries no proof for p2pcap verify: {option} leaves out what the authors signed")
    return code


for other in (attribution, everything, hub, imagefolder, json, kohya, lance, txt, webdataset, webshart):
    export.add_command(other)


def _proven(destination: Path, force: bool, node: str | None) -> int:
    from p2pcap.export.proven_lines import write_lines, write_proven

    with _runs(find_node(node)) as runs:
        if str(destination) == "-":
            counts = write_lines(runs, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            counts = write_proven(runs, destination, force=force)
    return tell(counts, destination)


@contextmanager
def _runs(target: Target) -> Iterator["Iterator[Run]"]:
    """The canonical table of a node that runs, or of the file of one that does not."""
    if target.running:
        from p2pcap.export.proven_lines import decode_runs
        from p2pcap.node.client import Client

        with Client(target.running.socket) as client:
            yield decode_runs(client.export())
        return
    from p2pcap.store.canonical import runs
    from p2pcap.store.database import reading
    from p2pcap.store.readers import store_errors

    with reading(target.paths.database) as readers, store_errors(), readers.lend() as cursor:
        yield runs(cursor)
