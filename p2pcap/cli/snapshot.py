"""`p2pcap snapshot`: a copy of a node's database, for people who want a DuckDB shell of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pcap.cli.nodes import Target, find_node, node_option
from p2pcap.cli.output import say

if TYPE_CHECKING:
    from p2pcap.store.copying import Piece


@click.command(
    epilog="""\b
Examples:
  p2pcap snapshot captions.duckdb
  duckdb -readonly captions.duckdb "SELECT count(*) FROM captions\""""
)
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@node_option
def snapshot(destination: Path, force: bool, node: str | None) -> None:
    """Copy the node's database to the file DESTINATION, as it is at this moment, while the node goes on.

    docs/sql.md tells what is in it. It needs DuckDB 2.0 or newer; for older programs: p2pcap export parquet.
    """
    from p2pcap.export.destination import whole_path
    from p2pcap.store.copying import write_copy

    with whole_path(destination, force=force) as path, _pieces(find_node(node)) as pieces:
        write_copy(path, pieces)
    say(f"wrote {destination}: {destination.stat().st_size / 1_000_000:.1f} MB")


@contextmanager
def _pieces(target: Target) -> Iterator["Iterator[Piece]"]:
    """All tables of a node that runs, or of the file of one that does not."""
    if target.running:
        from p2pcap.node.client import Client

        with Client(target.running.socket) as client:
            yield client.pieces()
        return
    from p2pcap.store.copying import pieces
    from p2pcap.store.database import reading
    from p2pcap.store.readers import store_errors

    with reading(target.paths.database) as readers, store_errors(), readers.lend() as cursor:
        yield pieces(cursor)
