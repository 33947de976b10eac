"""Rows read ahead, on a thread of their own: while some are written, the next ones are made.

Always holds: batches come in their order, errors where they belong; not more than AHEAD wait; after the block the
thread is gone, whatever happened inside.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from p2pcap.export.source import Rows

AHEAD = 4
"""Batches that wait to be written: about a stretch, or 25 MB."""


@contextmanager
def reading_ahead(rows: Rows) -> Iterator[Iterator[Any]]:
    """The batches of `rows`, while the block lasts."""
    pool = ThreadPoolExecutor(1, "p2pcap-reading-ahead")
    try:
        yield _batches(pool, iter(rows))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(pool: ThreadPoolExecutor, batches: Iterator[Any]) -> Iterator[Any]:
    waiting = deque(pool.submit(next, batches, None) for _ in range(AHEAD))
    while (batch := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, batches, None))
        yield batch
