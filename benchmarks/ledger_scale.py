"""A project of a million captions: how long a node takes to start with it, the table by SQL, the ids in memory.

The database is written by the store's own path, 40,000 captions in a transaction, each sealed by a checkpoint, as a
node would find it that has followed the project. Everything is signed; item lists are stored. The file lies in the
operating system's cache when it is opened: it was just written.

Cold start is what a node does before it can talk to others: open the database, load what it says, build the ledger.
The table is counted, and taken whole as `p2pcap query` takes it: every column of every row, in Arrow batches. Of each
number the best of ROUNDS runs counts: on a machine that does other things as well, the others say how busy it was.
"""

import gc
import hashlib
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from benchmarks.report import Line, Lines, at_most
from benchmarks.statements import ITEMS, Made, make
from p2pcap.codec import decode, encode
from p2pcap.envelope import seal
from p2pcap.errors import P2pcapError
from p2pcap.ledger import sealing
from p2pcap.ledger.checkpoint import SETTLE
from p2pcap.ledger.index import Index
from p2pcap.ledger.records import Result
from p2pcap.ledger.state import Ledger
from p2pcap.node.restart import rebuild, stored_project
from p2pcap.project.opened import Project
from p2pcap.project.records import SLICE
from p2pcap.store.database import reading
from p2pcap.store.query import Limits, select
from p2pcap.store.reads import Loaded
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutItems, PutProject, PutSeal, PutStatement, Write

BATCHES = 15_625
CAPTIONS = BATCHES * SLICE
ROUNDS = 3
SEALED = 625
"""Batches under one checkpoint: 40,000 captions."""

START_GOAL, SQL_GOAL, MEMORY_GOAL = 5.0, 2.0, 100.0
"""Seconds, seconds and megabytes (docs/protocol.md, Goals)."""

MB = 1_000_000
LIMITS = Limits(rows=2 * CAPTIONS, seconds=600.0)


def run() -> Lines:
    """Writes the database, then measures."""
    with TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        path = Path(folder) / "ledger.duckdb"
        made = make(BATCHES)
        yield Line("ledger_scale.write", CAPTIONS / trio.run(written, made, path), "captions/s")
        yield Line("ledger_scale.file", path.stat().st_size / MB, "MB")
        starts = [trio.run(_started, path, made.project) for _ in range(ROUNDS)]
        yield at_most("ledger_scale.cold_start", min(seconds for seconds, _ in starts), "s", START_GOAL)
        counts = [_queried(path, "SELECT count(*) FROM captions", 1) for _ in range(ROUNDS)]
        yield at_most("ledger_scale.count", min(counts), "s", SQL_GOAL)
        tables = [_queried(path, "SELECT * FROM captions", CAPTIONS) for _ in range(ROUNDS)]
        yield at_most("ledger_scale.table", min(tables), "s", SQL_GOAL)
        yield at_most("ledger_scale.ids", _ids_in_memory(starts[0][1]) / MB, "MB", MEMORY_GOAL)


async def written(made: Made, path: Path) -> float:
    """Write a project of BATCHES results. Seconds that the store's commits took, signing and encoding left out."""
    store = Store.open(path)
    seconds = 0.0
    try:
        for writes in _writes(made):
            started = time.perf_counter()
            await store.commit(*writes)
            seconds += time.perf_counter() - started
    finally:
        await store.close()
    return seconds


def _writes(made: Made) -> Iterator[list[Write]]:
    """The project, then SEALED batches at a time with their checkpoint."""
    now = time.time()
    lists = [PutItems(chunk, ITEMS) for chunk in range(len(made.project.counts))]
    data = encode(ITEMS)
    blob = PutBlob(hashlib.sha256(data).digest(), data)
    yield [PutProject(made.project, now), PutStatement(made.grant, now), blob, *lists]
    ledger = made.ledger()
    for first in range(0, BATCHES, SEALED):
        batches = [made.batch(number) for number in range(first, first + SEALED)]
        for put in batches:
            ledger.add(put.envelope, put.result)
            ledger.complete(put.envelope.id, put.envelope.author, put.result, 0)
        yield [*batches, *_checkpoint(made, ledger, time.time() + SETTLE + 1)]


def _checkpoint(made: Made, ledger: Ledger, now: float) -> list[Write]:
    sealed = sealing.make(ledger, sealing.sealable(ledger, now), os.urandom(32), now)
    envelope = seal(made.owner, "checkpoint", sealed.record)
    taken = sealing.seal_of(sealed.record, envelope.payload_hash, {})
    ledger.add(envelope, sealed.record)
    ledger.seal(sealed.record, taken, sealed.ids)
    blobs = [PutBlob(hash_, data) for hash_, data in sealed.blobs.items()]
    return [PutStatement(envelope, now), *blobs, PutSeal(taken, sealed.ids)]


async def _started(path: Path, project: Project) -> tuple[float, Loaded]:
    """Seconds until the ledger stands, and what it was built from."""
    started = time.perf_counter()
    store = Store.open(path)
    try:
        loaded = await store.load()
        stored = stored_project(loaded, project.hash)
        if stored is None:
            raise P2pcapError("The project of this benchmark is not in its database.")
        ledger = rebuild(loaded, stored)
        seconds = time.perf_counter() - started
    finally:
        await store.close()
    if ledger.items_done != CAPTIONS or len(ledger.seals.by_id) < BATCHES:
        raise P2pcapError(f"Only {ledger.items_done} of {CAPTIONS} captions came back.")
    return seconds, loaded


def _queried(path: Path, sql: str, rows: int) -> float:
    """Seconds until the last row is read."""
    with reading(path) as readers:
        started = time.perf_counter()
        with select(readers, sql, LIMITS) as selection:
            found = sum(batch.num_rows for batch in selection)
        seconds = time.perf_counter() - started
    if found != rows:
        raise P2pcapError(f"The query gave {found} rows instead of {rows}.")
    return seconds


def _ids_in_memory(loaded: Loaded) -> int:
    """Bytes of the id index and the map of results with their headers, as the ledger holds them."""
    found = [(encode(stored.id), encode(stored.author), encode(stored.result)) for stored in loaded.results]

    def built() -> tuple[Index, dict[bytes, tuple[bytes, Result]]]:
        index = Index()
        results: dict[bytes, tuple[bytes, Result]] = {}
        for id_data, author, header in found:
            id_, result = decode(id_data, bytes), decode(header, Result)
            index.add(result.time, id_)
            results[id_] = (decode(author, bytes), result)
        return index, results

    return _allocated(built)


def _allocated(make_it: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        kept = make_it()
        size = tracemalloc.get_traced_memory()[0]
        del kept
    finally:
        tracemalloc.stop()
    return size
