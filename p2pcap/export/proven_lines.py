"""JSON Lines that prove themselves: one line for each image that has a row in the canonical table.

Always holds: nodes with equal tables write equal bytes; memory does not grow with the table; the destination is written
whole or not at all.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from p2pcap.errors import ConfigError, FrameError, UntrustedError
from p2pcap.export.counts import Counts
from p2pcap.export.destination import whole_file
from p2pcap.export.escape import safe_json
from p2pcap.export.provenance import ExportedRow, exported_rows, verify_row
from p2pcap.store.canonical import Run

MAX_LINE = 16 * 1024 * 1024
"""Bytes of a line: a row has at most 1 MiB, shown twice with JSON's escapes and carried once in base64; the escaped
metadata of an image has less than 2 MiB."""


def write_proven(runs: Iterable[Run], destination: Path, *, force: bool = False) -> Counts:
    """Write the canonical table to the file `destination`.

    Raises ConfigError when it exists (unless `force`) or cannot be written, and UntrustedError when the table holds
    something its author did not sign.
    """
    with whole_file(destination, force=force) as file:
        return write_lines(runs, file)


def write_lines(runs: Iterable[Run], file: BinaryIO) -> Counts:
    """Write the canonical table to `file`, a line a row."""
    counts = Counts()
    for run in runs:
        for row in exported_rows(run):
            file.write(safe_json(msgspec.json.encode(row)) + b"\n")
            counts.add(error=row.error is not None)
    return counts


def decode_runs(messages: Iterable[bytes]) -> Iterator[Run]:
    """The runs that a running node sent, as MessagePack."""
    for message in messages:
        try:
            yield msgspec.msgpack.decode(message, type=Run)
        except msgspec.MsgspecError as error:
            raise FrameError("The node exports in a form this program does not know. Use the same version.") from error


def verify_file(path: Path) -> Counts:
    """Check every line of an export by itself, and that all are of one project, in order and none twice.

    Whether lines are missing cannot be seen from the file. Raises UntrustedError with the line's number, or ConfigError
    for a file that cannot be read.
    """
    counts = Counts()
    before: ExportedRow | None = None
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = verify_row(_parsed(line))
            if before is not None and (row.project != before.project or _place(row) <= _place(before)):
                raise UntrustedError("The row is of another project than the one before it, or out of order.")
        except UntrustedError as error:
            raise UntrustedError(f"{path}, line {number}: {error} Do not use this file.") from error
        before = row
        counts.add(error=row.error is not None)
    return counts


def _place(row: ExportedRow) -> tuple[str, int, int]:
    return (row.task, row.chunk, row.item)


def _parsed(line: bytes) -> object:
    if len(line) > MAX_LINE or not line.endswith(b"\n"):
        raise UntrustedError("The line is cut short, or too long.")
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UntrustedError("The line is not JSON.") from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                yield line
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
