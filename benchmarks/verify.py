"""`p2pcap verify` of a million captions: how long, and against how long the cryptography alone takes.

The project of `ledger_scale` is exported to Parquet with its proof. The file is verified as the command does it, by as
many processes as this one may use cores. The baseline is what nobody can leave out, on one core: PyNaCl verifies the
15,625 signatures, and each row's exact bytes are hashed, with the hashes above them up to the signed root; both made
before the clock starts. The export's share that the proof costs is told beside it.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from nacl.signing import VerifyKey

from benchmarks.ledger_scale import BATCHES, CAPTIONS, written
from benchmarks.report import Line, Lines, at_most
from benchmarks.statements import Made, make
from p2pcap.cli.nodes import Target
from p2pcap.cli.rows import open_source
from p2pcap.codec import encode
from p2pcap.errors import P2pcapError
from p2pcap.export.asking import Asked
from p2pcap.export.parquet import write_parquet
from p2pcap.export.verifying import verify_parquet
from p2pcap.identity import signed_bytes
from p2pcap.paths import NodePaths

GOAL = 60.0
"""Seconds on two cores."""

GROUP = 625
"""Results whose bytes are made at one time."""


def run() -> Lines:
    """Seconds of the check, of the cryptography alone, and of making the proof; bytes of the proof for a caption."""
    with TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        paths = NodePaths(Path(folder) / "node")
        paths.directory.mkdir()
        made = make(BATCHES)
        trio.run(written, made, paths.database)
        export = Path(folder) / "captions.parquet"
        seconds, added = _exported(paths, export)
        yield Line("verify.proof", added / CAPTIONS, "bytes/caption")
        yield Line("verify.export", seconds, "s")
        bare = sum(_bare(made))
        wall, cpu = _verified(export, made)
        yield at_most("verify.parquet", wall, "s", GOAL, bare)
        yield Line("verify.cpu", cpu, "s", baseline=bare)


def _exported(paths: NodePaths, export: Path) -> tuple[float, int]:
    """Seconds of writing the file with its proof, and the bytes between its rows and its footer."""
    import pyarrow.parquet as pq

    started = time.perf_counter()
    with open_source(Target(paths.directory, None)) as source:
        write_parquet(source, Asked(), export)
    seconds = time.perf_counter() - started
    metadata = pq.read_metadata(export)
    last = metadata.row_group(metadata.num_row_groups - 1)
    ends = (last.column(number).total_compressed_size for number in range(last.num_columns))
    start = min(
        last.column(number).dictionary_page_offset or last.column(number).data_page_offset
        for number in range(last.num_columns)
    )
    return seconds, export.stat().st_size - metadata.serialized_size - start - sum(ends)


def _bare(made: Made) -> Iterator[float]:
    """CPU seconds of the signatures and hashes of GROUP results at a time."""
    numbers = iter(range(BATCHES))
    while group := list(islice(numbers, GROUP)):
        puts = [made.batch(number) for number in group]
        rows = [[encode(row) for row in put.rows] for put in puts]
        started = time.process_time()
        for put, encoded in zip(puts, rows, strict=True):
            envelope = put.envelope
            VerifyKey(envelope.author).verify(signed_bytes(envelope.kind, envelope.payload), envelope.signature)
            level = [hashlib.sha256(b"\0" + data).digest() for data in encoded]
            while len(level) > 1:
                level = [hashlib.sha256(b"\1" + level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
        yield time.process_time() - started


def _verified(export: Path, made: Made) -> tuple[float, float]:
    """Seconds by the clock, and of all processes' CPU time."""
    started, before = time.perf_counter(), _cpu()
    found = verify_parquet(export, made.project.hash)
    seconds, spent = time.perf_counter() - started, _cpu() - before
    if found.tally.rows != CAPTIONS or found.tally.sealed != BATCHES:
        raise P2pcapError("The check of this benchmark did not see all captions.")
    return seconds, spent


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
