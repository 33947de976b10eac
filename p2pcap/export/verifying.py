"""`p2pcap verify` for Parquet: the whole file checked against the proof in it, without a node or a network.

A task's rows of one chunk are checked by themselves, so all cores can share a file.

Always holds: no row is looked at before the file's digest holds. Memory is that of some thousand rows and one chunk in
each process. The first row that fails is named by its number in the file, from 1 on.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from p2pcap.errors import UntrustedError
from p2pcap.export.anchoring import chunk_table, open_ledger
from p2pcap.export.checking import KINDS, SIGNED, Cells, RowFault, check
from p2pcap.export.section import Batches, Chain, Group, Part, Seals, Section, Statements, open_section
from p2pcap.ledger.state import Ledger
from p2pcap.project.chunks import Chunks
from p2pcap.project.opened import Project, open_list

ROWS = 8_192
"""Rows read at one time."""

SHARE = 16
"""Chunks that a process checks before it is given others."""


@dataclass(frozen=True)
class Tally:
    """Rows that hold (`errors` of them are errors), and the results they are of, `sealed` of them by a checkpoint."""

    rows: int = 0
    errors: int = 0
    results: int = 0
    sealed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        results, sealed = self.results + other.results, self.sealed + other.sealed
        return Tally(self.rows + other.rows, self.errors + other.errors, results, sealed)


@dataclass(frozen=True)
class Verified:
    """What holds of a file. `unchecked` are its columns that no signature is over."""

    project: Project
    tally: Tally
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """Rows of one task and chunk, from row `start` of the file on, with what proves them."""

    group: Group
    start: int
    count: int


def verify_parquet(path: Path, expected: bytes | None = None, processes: int | None = None) -> Verified:
    """Check the file at `path`; `expected` is the project's hash, where it is known.

    Raises UntrustedError for a file that is not what was signed, and names the first row that fails.
    """
    section = open_section(path)
    anchor = _anchor(section, expected)
    names = _columns(path)
    spans, rest = _spans(path, section)
    shares = [spans[at : at + SHARE] for at in range(0, len(spans), SHARE)]
    cores = processes or len(os.sched_getaffinity(0))
    if min(cores, len(shares)) > 1:
        tally = _together(section, expected, shares, cores)
    else:
        tally = sum((_check_share(section, anchor, share) for share in shares), Tally())
    if rest:
        raise UntrustedError(f"{path}, {rest} Do not use this file.")
    unchecked = tuple(name for name in names if name not in KINDS)
    return Verified(anchor.ledger.project, tally, unchecked)


@dataclass(frozen=True)
class _Anchor:
    """What the file's rows are checked against."""

    ledger: Ledger
    chunks: Chunks
    lists: Mapping[int, Part]


def _anchor(section: Section, expected: bytes | None) -> _Anchor:
    parts = section.contents
    chain, statements = section.read(parts.project, Chain), section.read(parts.statements, Statements)
    lists = {each.chunk: each.part for each in parts.lists}
    ledger = open_ledger(chain, statements, section.read(parts.seals, Seals), expected)
    return _Anchor(ledger, chunk_table(ledger.project, map(section.raw, parts.pages)), lists)


# one process after the other takes a share


_section: Section
_held: _Anchor


def _together(section: Section, expected: bytes | None, shares: Sequence[Sequence[Span]], cores: int) -> Tally:
    """The shares are answered in order, so the first fault is that of the first row."""
    start = (section, expected)
    with ProcessPoolExecutor(cores, get_context("spawn"), _start, start) as pool:
        try:
            return sum(pool.map(_take, shares), Tally())
        except BrokenProcessPool as error:
            raise UntrustedError(f"{section.path} ended the process that read it. Do not use this file.") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start(section: Section, expected: bytes | None) -> None:
    global _section, _held
    _section, _held = section, _anchor(section, expected)


def _take(share: Sequence[Span]) -> Tally:
    return _check_share(_section, _held, share)


def _check_share(section: Section, anchor: _Anchor, share: Sequence[Span]) -> Tally:
    """Spans that follow each other. Raises UntrustedError that names the row."""
    total = Tally()
    for span, cells in zip(share, _cells(section.path, share), strict=True):
        try:
            total += _check_span(section, anchor, span, cells)
        except RowFault as fault:
            raise _named(section.path, span, cells, fault) from fault
        except UntrustedError as error:
            raise UntrustedError(f"{section.path}: {error} Do not use this file.") from error
    return total


def _check_span(section: Section, anchor: _Anchor, span: Span, cells: Cells) -> Tally:
    tid, chunk = span.group.tid, span.group.chunk
    found = None
    if chunk in anchor.lists and chunk < len(anchor.chunks):
        found = open_list(section.raw(anchor.lists[chunk]), anchor.chunks[chunk])
    batches = section.read(span.group.part, Batches)
    results, sealed = check(anchor.ledger, tid, chunk, batches, found, cells)
    errors = sum(error is not None for error in cells["error"])
    return Tally(span.count, errors, results, sealed)


def _named(path: Path, span: Span, cells: Cells, fault: RowFault) -> UntrustedError:
    """The fault with its row's number, and the image as the file calls it."""
    where = f"row {span.start + fault.index + 1}"
    if fault.index < span.count:
        key = cells["key"][fault.index] if "key" in cells else None
        called = f" ({key})" if isinstance(key, str) else ""
        where += f"{called}, chunk {span.group.chunk}, item {cells['item'][fault.index]}"
    return UntrustedError(f"{path}, {where}: {fault.reason}. Do not use this file.")


# reading


def _columns(path: Path) -> list[str]:
    """The file's columns. Raises UntrustedError when one that is needed is missing, or one holds what it never does."""
    import pyarrow.parquet as pq

    with _parquet_errors(path):
        schema = pq.read_schema(path)
    if missing := [name for name in ("task", "chunk", *SIGNED) if name not in schema.names]:
        raise UntrustedError(f"{path} lacks the columns {', '.join(missing)}, so its proof cannot be used.")
    strange = [field.name for field in schema if field.name in KINDS and not _is_of_kind(field)]
    if strange or len(set(schema.names)) < len(schema.names):
        raise UntrustedError(f"{path} has columns of another type than an export: {', '.join(strange)}. Do not use it.")
    names: list[str] = schema.names
    return names


def _is_of_kind(field: Any) -> bool:
    """Whether an Arrow field's cells are what the checks expect."""
    import pyarrow.types as types

    kind, of = KINDS[field.name], field.type
    if kind is list:
        inner = LISTS[field.name]
        return types.is_list(of) and types.is_struct(of.value_type) and _told(of.value_type) == inner
    return _name(of) == kind.__name__ or (field.name == "time" and types.is_timestamp(of))


LISTS = {
    "answers": {"prompt": "str", "text": "str", "tokens": "int", "finish": "str"},
    "fields": {"name": "str", "value": "str"},
}


def _told(structure: Any) -> dict[str, str]:
    return {inner.name: _name(inner.type) for inner in structure}


def _name(of: Any) -> str:
    import pyarrow.types as types

    if types.is_string(of) or types.is_large_string(of):
        return "str"
    return "int" if types.is_integer(of) else str(of)


def _spans(path: Path, section: Section) -> tuple[list[Span], str]:
    """Where each group's rows are; and what is wrong after the last of them, for what comes before it is looked at
    first."""
    spans: list[Span] = []
    groups = iter(section.contents.groups)
    start = 0
    for (task, chunk), count in _runs(path):
        group = next(groups, None)
        if group is None or (group.tid.hex(), group.chunk) != (task, chunk):
            return spans, f"row {start + 1}: the file does not prove rows of its task and chunk here."
        spans.append(Span(group, start, count))
        start += count
    return spans, "" if next(groups, None) is None else f"row {start}: rows are missing after it."


def _runs(path: Path) -> Iterator[tuple[tuple[Any, Any], int]]:
    """Task and chunk of rows that follow each other, and how many they are."""
    held, count = (None, None), 0
    for batch in _batches(path, ["task", "chunk"], None):
        pairs = zip(batch.column("task").to_pylist(), batch.column("chunk").to_pylist(), strict=True)
        for pair, run in groupby(pairs):
            if pair != held and count:
                yield held, count
                count = 0
            held = pair
            count += sum(1 for _ in run)
    if count:
        yield held, count


def _cells(path: Path, share: Sequence[Span]) -> Iterator[Cells]:
    """The rows of each span, as Python values."""
    names = [name for name in _columns(path) if name in KINDS]
    held: dict[str, list[Any]] = {name: [] for name in names}
    rest = list(share)
    start = share[0].start
    for batch in _batches(path, names, (start, share[-1].start + share[-1].count)):
        for name in names:
            held[name] += _values(batch.column(name), name)
        while rest and len(held[names[0]]) >= rest[0].count:
            count = rest.pop(0).count
            yield {name: values[:count] for name, values in held.items()}
            held = {name: values[count:] for name, values in held.items()}


def _values(column: Any, name: str) -> list[Any]:
    """A column's cells; times in microseconds."""
    import pyarrow as pa

    if name == "time" and pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _batches(path: Path, names: Sequence[str], rows: tuple[int, int] | None) -> Iterator[Any]:
    """Record batches of these columns and of these rows (first, and the one after the last); None: of all."""
    import pyarrow.parquet as pq

    with _parquet_errors(path), pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        first, last = rows or (0, sum(sizes))
        starts = [0, *accumulate(sizes)]
        groups = [n for n, size in enumerate(sizes) if starts[n] < last and starts[n] + size > first]
        at = starts[groups[0]] if groups else 0
        for batch in file.iter_batches(ROWS, row_groups=groups, columns=list(names), use_threads=False):
            part = batch.slice(max(0, first - at))
            part = part.slice(0, last - max(first, at))
            at += batch.num_rows
            if part.num_rows:
                yield part


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    """What pyarrow says of a broken file, as UntrustedError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UntrustedError(f"{path} cannot be read as Parquet: {what}. Fetch it again.") from error
