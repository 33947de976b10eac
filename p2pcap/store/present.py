"""What a running node knows beside its ledger, as tables that queries can join.

The tables are temporary and of one transaction: nothing of them reaches the file, or another query. Without a running
node they are there too, and empty, so that a query means the same.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import duckdb

COLUMNS = {
    "peer": "VARCHAR",
    "name": "VARCHAR",
    "role": "VARCHAR",
    "address": "VARCHAR",
    "direction": "VARCHAR",
    "relayed": "BOOLEAN",
    "engine_ready": "BOOLEAN",
    "since": "DOUBLE",
    "rtt": "DOUBLE",
    "score": "DOUBLE",
    "sent": "BIGINT",
    "received": "BIGINT",
}
"""The columns of `peers`, with their types; `since` becomes a TIMESTAMP."""


@dataclass(frozen=True)
class Peer:
    """A connected peer, with the fields of p2pcap.node.snapshot.PeerInfo; `since` is unix seconds."""

    peer: str
    name: str
    role: str
    address: str
    direction: str
    relayed: bool
    engine_ready: bool
    since: float
    rtt: float | None
    score: float
    sent: int
    received: int


def show(cursor: duckdb.DuckDBPyConnection, peers: Sequence[Peer]) -> None:
    """Make the table `peers`, for the transaction that `cursor` is in."""
    rows = [astuple(peer) for peer in peers]
    columns = [[row[place] for row in rows] for place, _ in enumerate(COLUMNS)]
    values = ", ".join(f"unnest(?::{kind}[]) AS {name}" for name, kind in COLUMNS.items())
    shown = "* REPLACE (make_timestamp((since * 1000000)::BIGINT) AS since)"
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE peers AS SELECT {shown} FROM (SELECT {values})", columns)
