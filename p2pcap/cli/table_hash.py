"""`p2pcap table-hash`: compare two nodes' tables without moving them."""

import click

from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import result


@click.command(
    "table-hash",
    epilog="""\b
Example:
  p2pcap table-hash --node ~/cats""",
)
@node_option
def table_hash(node: str | None) -> None:
    """Print the hash of a node's table of captions: equal hashes, equal tables (docs/sql.md)."""
    target = find_node(node)
    if target.running:
        from p2pcap.node.client import Client

        with Client(target.running.socket) as client:
            result(client.table_hash())
        return
    from p2pcap.store.canonical import table_hash as hash_of
    from p2pcap.store.database import reading
    from p2pcap.store.readers import store_errors

    with reading(target.paths.database) as readers, store_errors(), readers.lend() as cursor:
        result(hash_of(cursor))
