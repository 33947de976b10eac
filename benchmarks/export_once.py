"""One export, or what it is compared with, in a process of its own: `python -m benchmarks.export_once WHAT NODE PLACE`,
which `once` starts.

Prints seconds, CPU seconds, and MiB of memory at most. Importing is not timed, nor is what a baseline reads before.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from p2pcap.cli.nodes import Target
from p2pcap.cli.rows import open_source, run_query
from p2pcap.errors import P2pcapError
from p2pcap.export.asking import Asked
from p2pcap.export.csv import write_csv
from p2pcap.export.jsonl import write_jsonl
from p2pcap.export.parquet import write_parquet
from p2pcap.export.sidecars import write_texts
from p2pcap.paths import NodePaths, running_node

ALL = Asked()
EVERYTHING = "SELECT * FROM captions"
IN_ORDER = f"{EVERYTHING} ORDER BY task, chunk, item"
ROWS, SECONDS = 10_000_000, 600.0
TABLE: dict[str, Any] = {"shape": "rows", "columns": (), "force": True, "progress": lambda rows: None}
WRITERS: dict[str, Callable[..., Any]] = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv}
COPIES = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "jsonl": "FORMAT json",
    "csv": "FORMAT csv, HEADER",
}


@dataclass(frozen=True)
class Cost:
    """Seconds, CPU seconds and MiB at most."""

    seconds: float
    cpu: float
    mib: float


def once(what: str, node: Path, place: Path) -> Cost:
    """Do it in another process. Raises P2pcapError when it fails."""
    command = [sys.executable, "-m", "benchmarks.export_once", what, str(node), str(place)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise P2pcapError(f"{what} failed: {done.stderr}")
    seconds, cpu, mib = map(float, done.stdout.split()[-3:])
    return Cost(seconds, cpu, mib)


def export(form: str, node: Path, place: Path) -> None:
    """The export of a node that does not run."""
    with open_source(Target(node, None)) as source:
        WRITERS[form](source, ALL, place, **TABLE)


def copy(form: str, node: Path, place: Path, rows: str) -> None:
    """DuckDB's own COPY of these rows."""
    with duckdb.connect(NodePaths(node).database, read_only=True, config={"threads": 2}) as connection:
        connection.execute(f"COPY ({rows}) TO '{place}' ({COPIES[form]})")


def texts(node: Path, place: Path) -> None:
    """A text file for each image."""
    with open_source(Target(node, None)) as source:
        write_texts(source, ALL, place, suffix=".txt", beside=False, force=False, progress=lambda rows: None)


def loop(rows: list[tuple[str, str]], place: Path) -> None:
    """A bare loop that writes these texts to files of these names."""
    for folder in {key.split("/")[0] for key, _ in rows}:
        (place / folder).mkdir(parents=True)
    for key, caption in rows:
        with open(f"{place}/{key[:-4]}.txt", "w", encoding="utf-8") as file:
            file.write(caption + "\n")


def arrow(node: Path) -> None:
    """The table as Arrow, in the process that has the database open."""
    with run_query(Target(node, None), EVERYTHING, ROWS, SECONDS) as found:
        _drain(found)


def streamed(node: Path) -> None:
    """The table as Arrow, from the running node."""
    with run_query(Target(node, running_node(node)), EVERYTHING, ROWS, SECONDS) as found:
        _drain(found)


def _drain(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def main(what: str, node: Path, place: Path) -> None:
    """Do `what`, and tell what it took."""
    work = _prepared(what, node, place)
    began, cpu = time.perf_counter(), _cpu()
    work()
    print(time.perf_counter() - began, _cpu() - cpu, _most_memory())


def _prepared(what: str, node: Path, place: Path) -> Callable[[], None]:
    kind, _, form = what.partition("-")
    if kind == "loop":
        with duckdb.connect(NodePaths(node).database, read_only=True) as connection:
            rows = connection.execute("SELECT key, caption FROM captions ORDER BY chunk, item").fetchall()
        return lambda: loop(rows, place)
    works: dict[str, Callable[[], None]] = {
        "export": lambda: export(form, node, place),
        "copy": lambda: copy(form, node, place, IN_ORDER),
        "unordered": lambda: copy(form, node, place, EVERYTHING),
        "texts": lambda: texts(node, place),
        "arrow": lambda: arrow(node),
        "streamed": lambda: streamed(node),
    }
    return works[kind]


def _most_memory() -> float:
    """MiB that this process had at most. Not `ru_maxrss`: that counts what the process had which started this one."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1_024


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
