"""Files that are there whole or not at all.

Always holds: nothing is written where something is, unless that was asked for; what fails leaves nothing behind, and
what was killed leaves a file that the next one to write there removes.
"""

import filecmp
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from p2pcap.errors import ConfigError


def check_file(destination: Path, *, force: bool) -> None:
    """Raises ConfigError unless a file may be written there."""
    with write_errors(destination):
        if destination.is_dir():
            raise ConfigError(f"{destination} is a folder. Name a file in it.")
        if destination.exists() and not force:
            raise ConfigError(f"{destination} exists already. Name another file, or add --force to replace it.")
        if not destination.parent.is_dir():
            raise ConfigError(f"There is no folder {destination.parent}. Make it first, or name another one.")


@contextmanager
def write_errors(destination: Path) -> Iterator[None]:
    """The system's errors as ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{destination} cannot be written: {error.strerror or error}. Choose another place."
        ) from error


@contextmanager
def whole_path(destination: Path, *, force: bool) -> Iterator[Path]:
    """A path to write a file at, which takes the place of `destination` once the block has ended well, and is on disk
    then; left unfinished it is removed. Raises ConfigError."""
    check_file(destination, force=force)
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    with write_errors(destination):
        _remove_abandoned(destination)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(destination)
        finally:
            temporary.unlink(missing_ok=True)


def _remove_abandoned(destination: Path) -> None:
    """Remove what processes that were killed left of this file."""
    named = re.compile(re.escape(f".{destination.name}.") + r"([1-9]\d{0,8})\.part")
    for entry in destination.parent.iterdir():
        if (found := named.fullmatch(entry.name)) and not _runs(int(found[1])):
            entry.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


@contextmanager
def whole_file(destination: Path, *, force: bool) -> Iterator[BinaryIO]:
    """The same as a file open for writing."""
    with whole_path(destination, force=force) as path, path.open("xb") as file:
        yield file


def folder(destination: Path) -> None:
    """Make the folder unless it is there. Raises ConfigError."""
    with write_errors(destination):
        destination.mkdir(parents=True, exist_ok=True)


@contextmanager
def same_or_whole(destination: Path, *, force: bool) -> Iterator[Path]:
    """As `whole_path`, for one of many files: where the same is there already, it stays as it is."""
    temporary = destination.with_name(f".{destination.name}.part")
    with write_errors(destination):
        try:
            yield temporary
            if destination.exists() and filecmp.cmp(temporary, destination, shallow=False):
                return
            check_file(destination, force=force)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(destination)
        finally:
            temporary.unlink(missing_ok=True)
