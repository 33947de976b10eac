"""`p2pcap export` and `p2pcap verify`: captions out of a node, and the check that they are what was signed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pcap.cli.nodes import Target, find_node, node_option
from p2pcap.cli.output import say

if TYPE_CHECKING:
    from p2pcap.store.canonical import Run


@click.group()
def export() -> None:
    """Write the captions to a file."""


@export.command(
    epilog="""\b
Examples:
  p2pcap export jsonl captions.jsonl
  p2pcap export jsonl - | gzip > captions.jsonl.gz"""
)
@click.argument("destination", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@node_option
def jsonl(destination: Path, force: bool, node: str | None) -> None:
    """Write one line of JSON for each image to DESTINATION ("-": standard output), with its proof.

    Every node with the same table writes the same bytes. Works while the node runs and when it does not.
    """
    from p2pcap.export.jsonl import write_jsonl, write_lines

    with _runs(find_node(node)) as runs:
        if str(destination) == "-":
            counts = write_lines(runs, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            counts = write_jsonl(runs, destination, force=force)
    say(f"wrote {counts.images} images to {destination}: {counts.captions} captioned, {counts.errors} errors")


@click.command(
    epilog="""\b
Example:
  p2pcap verify captions.jsonl"""
)
@click.argument("file", type=click.Path(path_type=Path))
def verify(file: Path) -> None:
    """Check that every line of an export says what its author signed. Needs no node and no network."""
    from p2pcap.export.jsonl import verify_file

    counts = verify_file(file)
    say(f"{file} holds: {counts.images} rows, each signed by its author; {counts.errors} of them are errors")


@contextmanager
def _runs(target: Target) -> Iterator["Iterator[Run]"]:
    """The canonical table of a node that runs, or of the file of one that does not."""
    if target.running:
        from p2pcap.export.jsonl import decode_runs
        from p2pcap.node.client import Client

        with Client(target.running.socket) as client:
            yield decode_runs(client.export())
        return
    from p2pcap.store.canonical import runs
    from p2pcap.store.database import reading
    from p2pcap.store.readers import store_errors

    with reading(target.paths.database) as readers, store_errors(), readers.lend() as cursor:
        yield runs(cursor)
