"""JSON Lines: one line for each image that has a row in the canonical table.

Always holds: nodes with equal tables write equal bytes; memory does not grow with the table; the destination is written
whole or not at all.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from p2pcap.errors import ConfigError, FrameError, UntrustedError
from p2pcap.export.escape import safe_json
from p2pcap.export.provenance import ExportedRow, exported_rows, verify_row
from p2pcap.store.canonical import Run

MAX_LINE = 16 * 1024 * 1024
"""Bytes of a line: a row has at most 1 MiB, shown twice with JSON's escapes and carried once in base64; the escaped
metadata of an image has less than 2 MiB."""


@dataclass
class Counts:
    """What a file holds: images with a row, and how many of them have captions or an error."""

    images: int = 0
    captions: int = 0
    errors: int = 0

    def add(self, *, error: bool) -> None:
        """Count one row."""
        self.images += 1
        self.errors += error
        self.captions += not error


def write_jsonl(runs: Iterable[Run], destination: Path, *, force: bool = False) -> Counts:
    """Write the canonical table to the file `destination`.

    Raises ConfigError when it exists (unless `force`) or cannot be written, and UntrustedError when the table holds
    something its author did not sign.
    """
    _check_destination(destination, force)
    with _whole_file(destination) as file:
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
    except msgspec.MsgspecError as error:
        raise UntrustedError("The line is not JSON.") from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                yield line
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.") from error


def _check_destination(destination: Path, force: bool) -> None:
    with _write_errors(destination):
        if destination.is_dir():
            raise ConfigError(f"{destination} is a folder. Name a file in it.")
        if destination.exists() and not force:
            raise ConfigError(f"{destination} exists already. Name another file, or add --force to replace it.")
        if not destination.parent.is_dir():
            raise ConfigError(f"There is no folder {destination.parent}. Make it first, or name another one.")


@contextmanager
def _write_errors(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{destination} cannot be written: {error.strerror}. Choose another place.") from error


@contextmanager
def _whole_file(destination: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `destination` once it is complete and on disk; left unfinished it is removed."""
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    with _write_errors(destination):
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(destination)
        finally:
            temporary.unlink(missing_ok=True)
