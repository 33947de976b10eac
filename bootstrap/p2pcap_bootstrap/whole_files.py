"""Files of a maintainer's folder: replaced in one step, read with a limit, by one process at a time.

Always holds: a file that is replaced is the old one or the new one at every moment, whole and on disk; nobody else can
read what was not open to others before.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def replace_whole(path: Path, data: bytes) -> None:
    """Give the file these bytes, on disk when this returns; its mode stays. Raises OSError; the file is as it was
    then, and nothing lies beside it."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
