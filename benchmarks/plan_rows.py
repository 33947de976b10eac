"""A Parquet listing with one column of addresses, 10 million rows, planned: seconds, and memory of all its processes.

Planned as signing does, to item lists on disk. The CPU seconds of its processes tell how much of the time they waited
for the machine. Beside them how long pyarrow alone takes to read the column as Python texts, which is the least that
any planner in Python could take.
"""

import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet

from benchmarks.planned import plan
from benchmarks.report import Line, Lines, at_most
from p2pcap.errors import P2pcapError

ROWS, GROUP = 10_000_000, 100_000
GOAL_SECONDS, GOAL_MIB = 60.0, 1_024.0


def run() -> Lines:
    """Seconds, and MiB at most."""
    with tempfile.TemporaryDirectory(prefix="p2pcap-bench-") as folder:
        table, work = Path(folder, "rows.parquet"), Path(folder, "work")
        _write(table)
        work.mkdir()
        plain = _plain(table)
        cost = plan(work, table, ROWS)
    yield at_most("plan_rows.seconds", cost.seconds, "s", GOAL_SECONDS, plain)
    yield Line("plan_rows.cpu", cost.cpu, "s", baseline=plain)
    yield at_most("plan_rows.memory", cost.mib, "MiB", GOAL_MIB)


def _write(path: Path) -> None:
    schema = pyarrow.schema([("url", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, ROWS, GROUP):
            rows = range(start, start + GROUP)
            urls = [f"https://images.example.org/{row % 256:02x}/{row:012}.jpg" for row in rows]
            writer.write_table(pyarrow.table({"url": urls}, schema=schema))


def _plain(path: Path) -> float:
    began = time.perf_counter()
    count = sum(len(batch.column(0).to_pylist()) for batch in pyarrow.parquet.ParquetFile(path).iter_batches())
    if count != ROWS:
        raise P2pcapError("pyarrow did not read all rows.")
    return time.perf_counter() - began
