"""The maintainer's folder: project.yaml, keys, and what was signed.

    project.yaml            what the maintainer edits
    keys/root.key           names the project; needed for signing only
    keys/coordinator.key    signs manifests and invitations
    keys/ticket.key         the key that tickets carry
    signed/root.cbor        signed/manifest.cbor        signed/blobs/<sha256>
    node/                   the coordinator's own node: database, logs

Always holds: signed/manifest.cbor is replaced in one step, after every blob it needs is in place.
"""

import os
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
        """A signed blob. Raises UntrustedError when it is gone."""
        data = _read(self._signed / "blobs" / hash_.hex(), MAX_BLOB)
        if data is None:
            raise UntrustedError(f"{self._signed} misses a file. Run: p2pcap project sign {self.directory}")
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

    def write(self, root: Envelope, manifest: Envelope, blobs: dict[bytes, bytes]) -> None:
        """Keep a signed project: blobs first, the manifest last. Raises ConfigError when the disk refuses."""
        try:
            (self._signed / "blobs").mkdir(parents=True, exist_ok=True)
            for hash_, data in blobs.items():
                _replace(self._signed / "blobs" / hash_.hex(), data)
            _replace(self._signed / "root.cbor", root.data)
            _replace(self._signed / "manifest.cbor", manifest.data)
            needed = {hash_.hex() for hash_ in blobs}
            for path in (self._signed / "blobs").iterdir():
                if path.name not in needed:
                    path.unlink()
        except OSError as error:
            raise ConfigError(f"{self._signed} cannot be written: {error.strerror}.") from error


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
