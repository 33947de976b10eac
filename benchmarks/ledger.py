"""What a statement costs a node that takes it in, and how long a volunteer waits for its slice to be durable.

Rates are per second of CPU time of the whole process, DuckDB's threads included, so they are rates of one core and
hardly change when the machine is busy. The baseline is the signature alone: nothing is validated faster than PyNaCl
verifies.

A commit is one result with its 64 rows, alone in its transaction, as a volunteer's is; it ends when the database says
that it is on disk. Its baseline is a file to which the same number of bytes is appended and synced.
"""

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from nacl.signing import VerifyKey

from benchmarks.report import Line, Lines, at_least
from benchmarks.statements import Made, make
from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import P2pcapError
from p2pcap.identity import signed_bytes
from p2pcap.ledger.allowance import Rations
from p2pcap.ledger.records import Result
from p2pcap.ledger.validate import Verdict, validate
from p2pcap.node.change import Change
from p2pcap.node.intake import Intake
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject

GOAL = 2_000.0
"""Statements a second and core, signature and commit included (docs/protocol.md, Goals)."""

DECODE_GOAL, SHARE_GOAL = 5_000.0, 60.0
"""Statements a second and core that are decoded and whose signature is verified; and per cent of the rate at which the
signature alone is."""

STATEMENTS = 3_000
PAGE = 256
"""Statements in an answer to a sync request."""

ROUNDS = 3
COMMITS = 400
WARM = 20
"""Commits before those that are counted."""


def run() -> Lines:
    """Statements a second and core; the median and the slowest hundredth of the commits."""
    made = make(max(STATEMENTS, COMMITS + WARM))
    headers = [made.header(number) for number in range(STATEMENTS)]
    with TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        seconds = trio.run(_rounds, made, headers, Path(folder))
        verify, decoded, validated, stored = (ROUNDS * STATEMENTS / spent for spent in seconds)
        yield at_least("ledger.decode_verify", decoded, "statements/s/core", DECODE_GOAL, verify)
        yield at_least("ledger.decode_verify_share", 100 * decoded / verify, "%", SHARE_GOAL)
        yield Line("ledger.validate", validated, "statements/s/core", baseline=verify)
        yield at_least("ledger.intake", stored, "statements/s/core", GOAL, verify)
        commits = trio.run(_commits, made, Path(folder) / "commits.duckdb")
        syncs = _syncs(made, Path(folder) / "synced")
    for name, part in (("p50", 50), ("p99", 99)):
        yield Line(f"ledger.commit_{name}", _percentile(commits, part), "ms", baseline=_percentile(syncs, part))


async def _rounds(made: Made, headers: Sequence[Envelope], folder: Path) -> list[float]:
    """CPU seconds of verifying, decoding, validating and taking in all headers ROUNDS times, in turn."""
    totals = [0.0, 0.0, 0.0, 0.0]
    for number in range(ROUNDS):
        for way, cpu in enumerate(
            (
                await _cpu(lambda: _verify(headers)),
                await _cpu(lambda: _decode(headers)),
                await _cpu(lambda: _validate(made, headers)),
                await _taken_in(made, headers, folder / f"{number}.duckdb"),
            )
        ):
            totals[way] += cpu
    return totals


async def _cpu(work: Callable[[], Awaitable[None]]) -> float:
    started = time.process_time()
    await work()
    return time.process_time() - started


async def _verify(headers: Sequence[Envelope]) -> None:
    for header in headers:
        VerifyKey(header.author).verify(signed_bytes(header.kind, header.payload), header.signature)


async def _decode(headers: Sequence[Envelope]) -> None:
    for header in headers:
        envelope = open_envelope(header.data)
        decode(envelope.payload, Result)
        if not envelope.holds():
            raise P2pcapError("A signature of this benchmark does not hold.")


async def _validate(made: Made, headers: Sequence[Envelope]) -> None:
    ledger = made.ledger()
    for header in headers:
        if validate(ledger, header.data, time.time()).verdict is not Verdict.ACCEPT:
            raise P2pcapError("A result of this benchmark is not valid.")


async def _taken_in(made: Made, headers: Sequence[Envelope], path: Path) -> float:
    """CPU seconds for pages of statements as sync brings them: validated, committed, counted."""
    store = Store.open(path)
    try:
        await store.commit(PutProject(made.project, time.time()))
        ledger = made.ledger()
        intake = Intake(made.author, ledger, store, Change(), lambda envelope, result: None, time.time)

        ledger.rations = Rations(len(headers))  # all of them are one author's

        async def pages() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(intake.run)
                for start in range(0, len(headers), PAGE):
                    await intake.receive([header.data for header in headers[start : start + PAGE]])
                nursery.cancel_scope.cancel()

        cpu = await _cpu(pages)
    finally:
        await store.close()
    if len(ledger.index) != len(headers):
        raise P2pcapError(f"Only {len(ledger.index)} of {len(headers)} statements were taken in.")
    return cpu


async def _commits(made: Made, path: Path) -> list[float]:
    """Milliseconds of each commit."""
    batches = [made.batch(number) for number in range(COMMITS + WARM)]
    times: list[float] = []
    store = Store.open(path)
    try:
        await store.commit(PutProject(made.project, time.time()))
        for batch in batches:
            started = time.perf_counter()
            await store.commit(batch)
            times.append(1_000 * (time.perf_counter() - started))
    finally:
        await store.close()
    return times[WARM:]


def _syncs(made: Made, path: Path) -> list[float]:
    """Milliseconds of each append and fsync of as many bytes as a result has."""
    batch = made.batch(0)
    data = os.urandom(len(batch.body) + len(batch.envelope.data))
    times: list[float] = []
    with path.open("ab", buffering=0) as file:
        for _ in range(COMMITS):
            started = time.perf_counter()
            file.write(data)
            os.fsync(file.fileno())
            times.append(1_000 * (time.perf_counter() - started))
    return times


def _percentile(values: Sequence[float], part: int) -> float:
    return statistics.quantiles(values, n=100)[part - 1]
