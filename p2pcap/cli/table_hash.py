"""`p2pcap table-hash`: compare two nodes' tables without moving them."""

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import Target, find_node, node_option
from p2pcap.cli.output import result, result_json


@click.command(
    "table-hash",
    epilog="""\b
Example:
  p2pcap table-hash --node ~/cats""",
)
@forms("As one JSON object.", "Only the hash, as without it.")
@node_option
def table_hash(form: Form, node: str | None) -> None:
    """Print the hash of a node's table of captions: equal hashes, equal tables (docs/sql.md)."""
    found = _hash(find_node(node))
    if form == "json":
        result_json({"hash": found})
    else:
        result(found)


def _hash(target: Target) -> str:
    """The hash, from the node that runs, or from the file of one that does not."""
    if target.running:
        from p2pcap.node.client import Client

        with Client(target.running.socket) as client:
            return client.table_hash()
    from p2pcap.store.canonical import table_hash as hash_of
    from p2pcap.store.database import reading
    from p2pcap.store.readers import store_errors

    with reading(target.paths.database) as readers, store_errors(), readers.lend() as cursor:
        return hash_of(cursor)
