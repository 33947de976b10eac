"""The maintainer's folder: project.yaml, keys, and what was signed.

    project.yaml            what the maintainer edits
    keys/root.key           names the project; needed for signing only
    keys/coordinator.key    signs manifests and invitations
    keys/ticket.key         the key that tickets carry
    signed/root.cbor        signed/manifest.cbor        signed/blobs/<sha256>
    signed/new/             blobs of a signing that is under way
    signing.lock            there while a signing is under way; locked by its process
    node/                   the coordinator's own node: database, logs

Always holds: signed/manifest.cbor is replaced in one step, after every blob it needs is in place. A signing that fails
leaves what was signed before, and nothing of its own. One signing at a time is under way in a folder.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pcap.codec import MAX_BLOB
from p2pcap.envelope import MAX_ENVELOPE, Envelope, open_envelope
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.project.opened import Project, open_manifest, open_project, open_root, payload_hash


@dataclass(frozen=True)
class Workspace:
    """Paths in a maintainer's folder, and reading and writing of what is signed."""

    directory: Path

    @property
    def root_key(self) -> Path:
        """The root key file."""
        return self.directory / "keys" / "root.key"

    @property
    def coordinator_key(self) -> Path:
        """The coordinator key file."""
        return self.directory / "keys" / "coordinator.key"

    @property
    def ticket_key(self) -> Path:
        """The ticket key file."""
        return self.directory / "keys" / "ticket.key"

    @property
    def node(self) -> Path:
        """The folder of the coordinator's node."""
        return self.directory / "node"

    @property
    def _signed(self) -> Path:
        return self.directory / "signed"

    def blob(self, hash_: bytes) -> bytes:
        """A signed blob. Raises UntrustedError when it is gone, or is another."""
        data = _read(self._signed / "blobs" / hash_.hex(), MAX_BLOB)
        if data is None or hashlib.sha256(data).digest() != hash_:
            what = "misses a file" if data is None else "was tampered with"
            raise UntrustedError(f"{self._signed} {what}. Run: p2pcap project sign {self.directory}")
        return data

    def root(self) -> Envelope | None:
        """The signed root, or None before the first signing."""
        return self._envelope("root.cbor")

    def manifest(self) -> Envelope | None:
        """The signed manifest, or None before the first signing."""
        return self._envelope("manifest.cbor")

    def _envelope(self, name: str) -> Envelope | None:
        path = self._signed / name
        data = _read(path, MAX_ENVELOPE)
        try:
            return open_envelope(data) if data is not None else None
        except CodecError as error:
            raise UntrustedError(f"{path} is damaged: {error} Restore it from a copy.") from error

    def project(self) -> Project:
        """The signed project, every signature and hash checked. Raises ConfigError, UntrustedError."""
        root, manifest = self.root(), self.manifest()
        if root is None or manifest is None:
            raise ConfigError(f"{self.directory} holds no signed project. Run: p2pcap project sign {self.directory}")
        expected = payload_hash(root)
        opened = open_manifest(manifest, open_root(root, expected), expected)
        return open_project(root, manifest, self.blob(opened.plan), expected)

    def lists(self, project: Project) -> "SignedLists":
        """The item lists of the signed project."""
        return SignedLists(self, [chunk.items for chunk in project.chunks])

    @contextmanager
    def signing(self) -> Iterator["Signing"]:
        """A place for the blobs of a new signing; what is not kept at the end of the block is removed.

        Raises ConfigError when the disk refuses, and while another process signs here.
        """
        with _alone(self.directory / "signing.lock"):
            with self._new() as signing:
                yield signing

    @contextmanager
    def _new(self) -> Iterator["Signing"]:
        new = self._signed / "new"
        there = self._signed.exists()
        try:
            with _refusals(self._signed):
                shutil.rmtree(new, ignore_errors=True)  # of a signing that was killed
                new.mkdir(parents=True)
            yield Signing(self._signed)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if not there and not any(self._signed.glob("*")):
                shutil.rmtree(self._signed, ignore_errors=True)


class Signing:
    """The blobs of a signing that is under way."""

    def __init__(self, signed: Path) -> None:
        self._signed = signed
        self._put: set[bytes] = set()

    def put(self, data: bytes) -> bytes:
        """Write a blob to disk. Returns its hash. Raises ConfigError when the disk refuses."""
        hash_ = hashlib.sha256(data).digest()
        with _refusals(self._signed):
            _replace(self._signed / "new" / hash_.hex(), data)
        self._put.add(hash_)
        return hash_

    def keep(self, root: Envelope, manifest: Envelope) -> None:
        """Make this what is signed: blobs first, the manifest last; then all other blobs go.

        Raises ConfigError when the disk refuses.
        """
        blobs, needed = self._signed / "blobs", {hash_.hex() for hash_ in self._put}
        with _refusals(self._signed):
            blobs.mkdir(exist_ok=True)
            for path in (self._signed / "new").iterdir():
                os.replace(path, blobs / path.name)
            _replace(self._signed / "root.cbor", root.data)
            _replace(self._signed / "manifest.cbor", manifest.data)
            for path in blobs.iterdir():
                if path.name not in needed:
                    path.unlink()


class SignedLists(Mapping[bytes, bytes]):
    """The item lists of a signed project by hash, read from disk when they are asked for.

    Raises UntrustedError for one that is gone, or is not what was signed.
    """

    def __init__(self, workspace: Workspace, hashes: list[bytes]) -> None:
        self._workspace = workspace
        self._hashes = dict.fromkeys(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._hashes)

    def __getitem__(self, hash_: bytes) -> bytes:
        if hash_ not in self._hashes:
            raise KeyError(hash_)
        return self._workspace.blob(hash_)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
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
    with _refusals(path.parent):
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
def _refusals(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}.") from error


def _read(path: Path, limit: int) -> bytes | None:
    """The file's bytes, None when there is none; one byte more than `limit` when it is longer."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UntrustedError(f"{path} cannot be read: {error.strerror}. Check its owner and mode.") from error


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
