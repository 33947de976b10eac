"""Answers of one stage that another one uses: from the database, or, where this node does not keep them, from peers.

Always holds: what comes from a peer are the rows whose Merkle root the canonical result names, and that result was
checked here once (p2pcap.node.bodies); nothing of it is kept, so a node's share stays as it is.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing

import structlog
import trio

from p2pcap.errors import UntrustedError
from p2pcap.ledger.body import open_rows
from p2pcap.ledger.records import MAX_RAW, Row
from p2pcap.node.seams import LedgerStore, Network

FETCH_WITHIN = 30.0
"""Seconds for the bodies of a slice; whatever is missing then is asked for again later."""

log = structlog.get_logger()

Texts = Sequence[str]
"""A text for each prompt of the task."""


async def canonical_answers(
    store: LedgerStore, network: Network, tid: bytes, chunk: int, wanted: Collection[int]
) -> Mapping[int, Texts]:
    """The canonical answers of the task `tid` to those of the images `wanted` of a chunk that have some, as far as they
    are here or with a connected peer now. Raises StoreError."""
    found: dict[int, Texts] = dict(await store.answers(tid, chunk))
    roots = await store.roots_of_dropped(tid, chunk, [item for item in wanted if item not in found])
    if roots:
        rows = await _fetched(network, set(roots.values()))
        found |= {item: said for item, root in roots.items() if (said := _said(rows.get(root, ()), item)) is not None}
    return found


def _said(rows: Sequence[Row], item: int) -> Texts | None:
    return next(([answer.text for answer in row.answers] for row in rows if row.item == item), None)


async def _fetched(network: Network, roots: Collection[bytes]) -> Mapping[bytes, Sequence[Row]]:
    """The rows with these Merkle roots that peers hand over in time."""
    rows: dict[bytes, Sequence[Row]] = {}

    def verify(root: bytes, data: bytes) -> bool:
        try:
            opened = open_rows(data)
        except UntrustedError as error:
            log.warning("body refused", reason=str(error))
            return False
        if opened.root == root:
            rows[root] = opened.rows
        return opened.root == root

    with trio.move_on_after(FETCH_WITHIN):
        async with aclosing(network.fetch("body", list(roots), None, verify, MAX_RAW)) as arriving:
            async for _ in arriving:
                continue  # `verify` has its rows
    if len(rows) < len(roots):
        log.warning("answers of another stage not to be had", bodies=len(roots) - len(rows))
    return rows
