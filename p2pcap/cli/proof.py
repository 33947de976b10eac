"""`p2pcap proof`: one caption with all that proves it, in a small file."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pcap.cli.nodes import node_option
from p2pcap.cli.output import say
from p2pcap.errors import ConfigError

if TYPE_CHECKING:
    from p2pcap.export.single import Place
    from p2pcap.export.source import Source

PLACE = re.compile(r"(\d{1,7})/(\d{1,5})")
SHOWN = 5
"""Rows that are named when several are meant."""


@click.command(
    epilog="""\b
Examples:
  p2pcap proof photos/cat.png cat.proof
  p2pcap proof 12/345 345.proof --stage tags
  p2pcap verify cat.proof --project ticket.txt"""
)
@click.argument("item")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--stage", help="Of this stage, where there are several.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@node_option
def proof(item: str, destination: Path, stage: str | None, force: bool, node: str | None) -> None:
    """Write the proof of the caption of ITEM to DESTINATION, for `p2pcap verify`.

    ITEM is the image's key, or CHUNK/ITEM as `p2pcap query` shows them. Works while the node runs and when it does not.
    """
    from p2pcap.cli.export_options import held_source
    from p2pcap.export.destination import whole_path
    from p2pcap.export.gathering import Gathering
    from p2pcap.export.single import make_single

    with held_source(node) as source:
        place = _place(source, item, stage)
        data = make_single(Gathering(source.select), place)
    with whole_path(destination, force=force) as path:
        path.write_bytes(data)
    say(f"wrote {destination}, {len(data)} bytes; check it with: p2pcap verify {destination} --project TICKET")


def _place(source: "Source", item: str, stage: str | None) -> "Place":
    """The row meant. Raises ConfigError when there is none, or not one alone."""
    from p2pcap.export.single import Place
    from p2pcap.export.sql import literal

    wanted = f"stage = {literal(stage)}" if stage else "true"
    found = _found(source, f"key = {literal(item)} AND {wanted}")
    if not found and (place := PLACE.fullmatch(item)):
        found = _found(source, f"chunk = {int(place[1])} AND item = {int(place[2])} AND {wanted}")
    if not found:
        raise ConfigError(f'There is no row of {item!r}. Look with: p2pcap query "SELECT key FROM captions"')
    if len(found) > 1:
        rows = ", ".join(f"{row['chunk']}/{row['item']} of stage {row['stage']}" for row in found[:SHOWN])
        raise ConfigError(f"Several rows are meant: {rows}. Name one as CHUNK/ITEM, with --stage where it has several.")
    row = found[0]
    return Place(row["task"], row["statement"], row["chunk"], row["item"])


def _found(source: "Source", where: str) -> list[dict[str, Any]]:
    sql = f"SELECT task, statement, chunk, item, stage FROM captions WHERE {where} ORDER BY ALL LIMIT {SHOWN + 1}"
    return [row for batch in source.select(sql) for row in batch.to_pylist()]
