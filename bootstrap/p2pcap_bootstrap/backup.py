"""One file from which a project can go on when the coordinator's machine is lost: its keys, and all that is signed.

The file is a tar archive behind a line that says what it is; under a passphrase the archive is one encrypted stream.
What volunteers have done is not in it: the swarm has that. Images and model files stay where project.yaml says.

Always holds: a backup is whole or is not there, with mode 0600, and never replaces a file. Nothing in a backup is
written outside the folder it is put into, which exists only once all of it has been checked.
"""

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from p2pcap.codec import MAX_BLOB
from p2pcap.encryption import MODERATE, Cost, EncryptedReader, EncryptedWriter
from p2pcap.errors import ConfigError, KeyFileError
from p2pcap.identity import Passphrase
from p2pcap_bootstrap.workspace import Workspace

PLAIN, ENCRYPTED = b"p2pcap-backup-1 plain\n", b"p2pcap-backup-1 encrypted\n"
END = "end"
"""The last entry; an archive without it was cut short."""

PARTS = (
    "project.yaml",
    "keys/*.key",
    "tickets/*",
    "signed/root.cbor",
    "signed/roots.cbor",
    "signed/*.partial",
    "signed/manifest.cbor",
    "signed/blobs/*",
    "outbox/*.cbor",
    "node/node.key",
)
"""What is backed up, as patterns in the project's folder. A link there stands for the file that it leads to."""

NAMES = re.compile(
    r"project\.yaml|keys/[\w.-]+\.key|tickets/[\w.-]*\w|signed/(root|roots|manifest)\.cbor|signed/root-\d+\.partial"
    r"|signed/blobs/[0-9a-f]{64}|outbox/[\w-]+\.cbor|node/node\.key"
)
"""The same for names in an archive; none of them can lead out of the folder."""

SECRET = ("keys/", "tickets/", "node/")
"""Where what nobody else may read lies."""

OVERHEAD = 1_024


def export(workspace: Workspace, file: Path, passphrase: bytes, cost: Cost = MODERATE) -> int:
    """Write a backup of the project to `file`, encrypted when there is a passphrase. Returns how many files are in it.

    Raises ConfigError, and UntrustedError when what is signed does not hold: such a backup would be no use.
    """
    with workspace.rotating():
        paths = [path for part in PARTS for path in sorted(workspace.directory.glob(part)) if path.is_file()]
        if not any(path.parent == workspace.keys for path in paths):
            raise ConfigError(f"{workspace.directory} holds no keys. Name a folder that p2pcap project init has made.")
        _check(workspace)
        with _new_file(file) as out:
            out.write(ENCRYPTED if passphrase else PLAIN)
            sink = EncryptedWriter(out, passphrase, cost) if passphrase else out
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, dereference=True) as archive:
                for path in paths:
                    archive.add(path, path.relative_to(workspace.directory).as_posix(), filter=_bare)
                archive.addfile(tarfile.TarInfo(END))
            if isinstance(sink, EncryptedWriter):
                sink.finish()
    return len(paths)


def restore(file: Path, directory: Path, passphrase: Passphrase | None) -> Workspace:
    """Make the project's folder anew from a backup. Raises ConfigError when there is one already, or the file is no
    backup; KeyFileError for a wrong passphrase; UntrustedError when what is signed does not hold."""
    if os.path.lexists(directory) and not _is_empty(directory):
        raise ConfigError(f"{directory} is not empty. Name a folder that is not there yet; nothing is overwritten.")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as made:
            inner = Path(made) / "project"
            inner.mkdir(mode=0o700)
            with file.open("rb") as source:
                _unpack(_opened(source, file, passphrase), inner, file)
            _check(Workspace(inner))
            os.rename(inner, directory)
    except OSError as error:
        raise ConfigError(f"{file} cannot be put into {directory}: {error.strerror or error}.") from error
    return Workspace(directory, passphrase)


def _opened(source: IO[bytes], file: Path, passphrase: Passphrase | None) -> IO[bytes] | EncryptedReader:
    """The archive in a backup."""
    head = source.readline(64)
    if head == PLAIN:
        return source
    if head != ENCRYPTED:
        raise ConfigError(f"{file} is no backup of a project. Name a file that p2pcap key export has made.")
    if passphrase is None:
        raise KeyFileError(f"{file} has a passphrase. Name the file it stands in: --passphrase-file FILE.")
    return EncryptedReader(source, passphrase(file))


def _unpack(source: IO[bytes] | EncryptedReader, directory: Path, file: Path) -> None:
    """Write the files of an archive into an empty folder."""
    ended = False
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for entry in archive:
                ended = entry.name == END
                if not ended:
                    _write(archive, entry, directory, file)
        while source.read(io.DEFAULT_BUFFER_SIZE):
            continue  # an encrypted stream says at its end whether it was whole
    except tarfile.TarError as error:
        raise ConfigError(f"{file} is damaged: {error}. Take another copy of the backup.") from error
    if not ended:
        raise ConfigError(f"{file} is damaged: it was cut short. Take another copy of the backup.")


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, directory: Path, file: Path) -> None:
    data = archive.extractfile(entry) if entry.isreg() and entry.size <= MAX_BLOB + OVERHEAD else None
    if data is None or not NAMES.fullmatch(entry.name):
        raise ConfigError(f"{file} holds {entry.name[:80]!r}, which is no part of a backup. Do not use it.")
    path = directory / entry.name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = 0o600 if entry.name.startswith(SECRET) else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        shutil.copyfileobj(data, out)
        out.flush()
        os.fsync(out.fileno())


def _check(workspace: Workspace) -> None:
    """Raises UntrustedError, ConfigError when something signed does not hold or is missing."""
    if workspace.manifest() is None:
        return
    for data in workspace.lists(workspace.project()).values():
        del data  # reading it compared its hash


def _bare(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry without the names and numbers of this machine's users."""
    bare = tarfile.TarInfo(entry.name)
    bare.size, bare.mtime = entry.size, entry.mtime
    return bare


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir())


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only this user can read, there once the block is through. Raises ConfigError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already. Name another file; nothing is overwritten.") from error
    except OSError as error:
        raise ConfigError(f"The backup {path} cannot be written: {error.strerror or error}.") from error
