"""A ledger of a million captions for the benchmarks of exports, each image with a name of its own."""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.statements import ITEMS, SLICES, Made, make
from p2pcap.project.items import Item
from p2pcap.project.records import SLICE
from p2pcap.store.store import Store
from p2pcap.store.writes import PutItems, PutProject, PutStatement, Write

BATCHES = 15_625
CAPTIONS = BATCHES * SLICE
TOGETHER = 625
"""Batches of one transaction."""


async def write_ledger(path: Path) -> None:
    """Make the database at `path`: signed, as a node would find it that has followed the project."""
    made = make(BATCHES)
    store = Store.open(path)
    try:
        for writes in _writes(made):
            await store.commit(*writes)
    finally:
        await store.close()


def _writes(made: Made) -> Iterator[list[Write]]:
    now = time.time()
    lists = [PutItems(chunk, _items(chunk)) for chunk in range(-(-BATCHES // SLICES))]
    yield [PutProject(made.project, now), PutStatement(made.grant, now), *lists]
    for first in range(0, BATCHES, TOGETHER):
        yield [made.batch(number) for number in range(first, first + TOGETHER)]


def _items(chunk: int) -> tuple[Item, ...]:
    return tuple(Item(f"{chunk:04}/{item.key}", item.hash, item.length) for item in ITEMS)
