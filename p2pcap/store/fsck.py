"""Is the database what its statements say? And if not, make it so.

Everything but statements, bodies, item lists and blobs follows from these. So it is made anew beside the file
(p2pcap.store.rebuilding) and compared (p2pcap.store.comparing).

Always holds: the file is only read, unless a repair is asked for and needed; then the new file takes its place in one
step, and the old one stays under another name. The node must not run meanwhile, and cannot be started.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from p2pcap.errors import StoreError
from p2pcap.store.comparing import Difference, differences
from p2pcap.store.database import connect_writer, reading, unusable
from p2pcap.store.migrations import sync_folder
from p2pcap.store.rebuilding import Progress, Rebuilding
from p2pcap.store.writes import PutProject


@dataclass(frozen=True)
class Report:
    """What was found: statements and bodies that do not verify, tables that differ, and what could not be checked.
    `kept` is where the old file lies after a repair."""

    left_out: list[str]
    differences: list[Difference]
    notes: list[str]
    kept: Path | None = None

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to repair."""
        return not self.left_out and not self.differences


def check(path: Path, progress: Progress, repair: bool = False) -> Report:
    """Check the database at `path`, and repair it if asked to. Raises StoreError: in use, unreadable, no room."""
    with _beside(path) as new:
        report = _rebuilt(path, new, progress)
        if report.is_well or not repair:
            return report
        return replace(report, kept=_put_in_place(new, path))


def make_anew(path: Path, renewal: PutProject, progress: Progress) -> list[str]:
    """Replace the database at `path` by one in which this version of the project is in force, and that holds what
    verifies by it; returns what was left out. Raises StoreError."""
    with _beside(path) as new:
        report = _rebuilt(path, new, progress, renewal)
        _put_in_place(new, path).unlink()
    return report.left_out


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place for a new file; what is left there in the end goes."""
    new = path.with_name(f"{path.name}.fsck")
    _remove(new)
    try:
        yield new
    finally:
        _remove(new)


def _rebuilt(path: Path, new: Path, progress: Progress, renewal: PutProject | None = None) -> Report:
    """Make the database at `path` anew, at `new`; with `renewal`, under that version of the project."""
    with _store_errors(path), reading(path) as old:
        connection = connect_writer(new)
        try:
            rebuilding = Rebuilding(old, connection, progress, renewal)
            rebuilding.run()
            with old.lend() as found:
                differing = list(differences(found, connection))
        finally:
            connection.close()
    return Report(rebuilding.left_out, differing, rebuilding.notes)


def _put_in_place(new: Path, path: Path) -> Path:
    """Let `new` take the place of `path`; returns where the old file is now."""
    connect_writer(path).close()  # its log belongs into it: the new file must not find one
    kept = path.with_name(f"{path.name}.before-repair-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        with new.open("rb") as file:
            os.fsync(file.fileno())
        _link(path, kept)
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path} could not be repaired: {error.strerror}. It is as it was.") from error
    return kept


def _link(path: Path, kept: Path) -> None:
    """A second name for the file, or a copy where the file system has no second names."""
    try:
        os.link(path, kept)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(path, kept)


def _remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}.wal")):
        name.unlink(missing_ok=True)


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise StoreError(unusable(path, str(error))) from error
