"""A maintainer's folder: changed by one process at a time, and its files read with a limit.

Always holds: what the disk refuses is an error that names the folder or the file.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pcap.errors import ConfigError, UntrustedError


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file for as long as the block lasts. A process that is killed leaves the file, but no lock. Raises
    ConfigError when another holds it, or the disk refuses."""
    descriptor = None
    while descriptor is None:
        descriptor = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int | None:
    """The lock file, locked; None when the one before us removed it just now."""
    with refusals(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise ConfigError(
                f"{path} cannot be locked: {error.strerror}. Move the project to another disk."
            ) from error
        raise ConfigError(
            f"A signing is under way in {path.parent}. Wait for it to end, or stop it, and sign again."
        ) from error
    os.close(descriptor)
    return None


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Within the block, what the disk refuses is a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}.") from error


def read_whole(path: Path, limit: int) -> bytes | None:
    """The file's bytes, None when there is none; one byte more than `limit` when it is longer. Raises UntrustedError
    when it is closed."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UntrustedError(f"{path} cannot be read: {error.strerror}. Check its owner and mode.") from error
