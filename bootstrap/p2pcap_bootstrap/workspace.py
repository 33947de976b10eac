"""The maintainer's folder: project.yaml, keys, and what was signed.

    project.yaml            what the maintainer edits
    keys/root.key           names the project; needed for signing roots only
    keys/coordinator.key    signs manifests and invitations
    keys/ticket.key         the key that tickets carry
    keys/root-2.key ...     keys that came with root 2, and so on
    signed/root.cbor        the first root
    signed/roots.cbor       all versions of the root with all signatures, from the second version or signature on
    signed/root-2.partial   root 2 while signatures are missing; in the form of roots.cbor
    signed/manifest.cbor    signed/blobs/<sha256>
    signed/new/             blobs of a signing that is under way
    signed/draft            there until the project was served: images may still be renumbered
    signing.lock            there while a signing is under way; locked by its process
    node/                   the coordinator's own node: database, logs

Always holds: signed/manifest.cbor and signed/roots.cbor are replaced in one step, after every blob they need is in
place. A signing that fails leaves what was signed before, and nothing of its own. One signing at a time is under way in
a folder.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import UNSET

from p2pcap.codec import MAX_BLOB
from p2pcap.envelope import MAX_ENVELOPE, Envelope, open_envelope
from p2pcap.errors import CodecError, ConfigError, KeyFileError, UntrustedError
from p2pcap.identity import Identity, Passphrase, public_half
from p2pcap.project.opened import Project, coordinators, open_project, payload_hash, read_manifest
from p2pcap.project.records import MAX_ROOTS, Root, RootChain
from p2pcap.project.roots import keys_of, last_of, read_chain, write_chain
from p2pcap.whole_file import replace_whole, sync
from p2pcap_bootstrap.folder import alone, read_whole, refusals


@dataclass(frozen=True)
class Workspace:
    """Paths in a maintainer's folder, and reading and writing of what is signed. `passphrase` is asked for key files
    that have one."""

    directory: Path
    passphrase: Passphrase | None = field(default=None, repr=False, compare=False)

    @property
    def keys(self) -> Path:
        """The folder of the key files."""
        return self.directory / "keys"

    @property
    def root_key(self) -> Path:
        """The first root key file."""
        return self.keys / "root.key"

    @property
    def coordinator_key(self) -> Path:
        """The key file of a coordinator that the root in force names; before the first signing, and when there is none,
        that of `project init`. Raises UntrustedError."""
        held = self.held(coordinators(self.root_in_force())) if self.root() is not None else []
        return held[0] if held else self.keys / "coordinator.key"

    @property
    def ticket_key(self) -> Path:
        """The ticket key file."""
        return self.keys / "ticket.key"

    def coordinator(self) -> Identity:
        """The coordinator's key that is in force. Raises KeyFileError, UntrustedError."""
        return Identity.load(self.coordinator_key, self.passphrase)

    def root_keys(self, *roots: Root) -> list[Identity]:
        """Those root keys of these versions that are at hand. Raises KeyFileError."""
        wanted = frozenset[bytes]().union(*(keys_of(root, root.roles.root) for root in roots))
        return [Identity.load(path, self.passphrase) for path in self.held(wanted)]

    def held(self, keys: Collection[bytes]) -> list[Path]:
        """The key files of those of these public keys that are at hand. A file that cannot be read holds none."""
        return [path for path in sorted(self.keys.glob("*.key")) if _public_half(path) in keys]

    @property
    def node(self) -> Path:
        """The folder of the coordinator's node."""
        return self.directory / "node"

    @property
    def _signed(self) -> Path:
        return self.directory / "signed"

    def blob(self, hash_: bytes) -> bytes:
        """A signed blob. Raises UntrustedError when it is gone, or is another."""
        data = read_whole(self._signed / "blobs" / hash_.hex(), MAX_BLOB)
        if data is None or hashlib.sha256(data).digest() != hash_:
            what = "misses a file" if data is None else "was tampered with"
            raise UntrustedError(f"{self._signed} {what}. Run: p2pcap project sign {self.directory}")
        return data

    @property
    def draft(self) -> Path:
        """There from the first signing until the project was served or published: until then images may be renumbered
        and tasks forgotten."""
        return self._signed / "draft"

    def root(self) -> Envelope | None:
        """The signed first root, or None before the first signing."""
        return self._envelope("root.cbor")

    def chain(self) -> list[list[Envelope]]:
        """The envelopes of each version of the root; none before the first signing. Raises UntrustedError."""
        root, data = self.root(), read_whole(self._signed / "roots.cbor", MAX_ROOTS)
        if root is None:
            return []
        return [[root]] if data is None else read_chain(data)

    def roots(self) -> tuple[RootChain, bytes] | None:
        """What a manifest says of the root in force, and the blob of all its versions; None while it is the first, with
        one signature. Raises UntrustedError."""
        chain = self.chain()
        if sum(map(len, chain)) < 2:
            return None
        data = write_chain(chain)
        return RootChain(len(chain), hashlib.sha256(data).digest(), len(data)), data

    def root_in_force(self) -> Root:
        """The last root, each link of its chain checked. Raises ConfigError when none is signed, UntrustedError."""
        root = self.root()
        if root is None:
            raise ConfigError(f"{self.directory} holds no signed project. Run: p2pcap project sign {self.directory}")
        return last_of(self.chain(), payload_hash(root))

    def partial(self, version: int) -> Path:
        """The file with this version of the root while signatures are missing."""
        return self._signed / f"root-{version}.partial"

    @contextmanager
    def rotating(self) -> Iterator[None]:
        """A block in which nobody else signs here. Raises ConfigError."""
        with alone(self.directory / "signing.lock"):
            yield

    def put_chain(self, chain: Sequence[Sequence[Envelope]]) -> None:
        """Make the last version of this chain the root in force; within `rotating`. Raises ConfigError."""
        with refusals(self._signed):
            self._signed.mkdir(exist_ok=True)
            replace_whole(self._signed / "roots.cbor", write_chain(chain))
            if self.root() is None:
                replace_whole(self._signed / "root.cbor", chain[0][0].data)
            self.partial(len(chain)).unlink(missing_ok=True)

    def manifest(self) -> Envelope | None:
        """The signed manifest, or None before the first signing."""
        return self._envelope("manifest.cbor")

    def _envelope(self, name: str) -> Envelope | None:
        path = self._signed / name
        data = read_whole(path, MAX_ENVELOPE)
        try:
            return open_envelope(data) if data is not None else None
        except CodecError as error:
            raise UntrustedError(f"{path} is damaged: {error} Restore it from a copy.") from error

    def project(self) -> Project:
        """The signed project, every signature and hash checked; the root is the one in force when it was signed. Raises
        ConfigError, UntrustedError."""
        root, manifest = self.root(), self.manifest()
        if root is None or manifest is None:
            raise ConfigError(f"{self.directory} holds no signed project. Run: p2pcap project sign {self.directory}")
        expected = payload_hash(root)
        opened = read_manifest(manifest, expected)
        roots = b"" if opened.roots is UNSET else write_chain(self.chain()[: opened.roots.version])
        return open_project(root, manifest, self.blob(opened.plan), expected, roots)

    def lists(self, project: Project) -> "SignedLists":
        """The item lists of the signed project, and the pages that name them. Raises UntrustedError for a page that is
        gone."""
        return SignedLists(self, [*project.plan.chunks.pages, *(chunk.items for chunk in project.chunks(self.blob))])

    @contextmanager
    def signing(self) -> Iterator["Signing"]:
        """A place for the blobs of a new signing; what is not kept at the end of the block is removed.

        Raises ConfigError when the disk refuses, and while another process signs here.
        """
        with alone(self.directory / "signing.lock"):
            with self._new() as signing:
                yield signing

    @contextmanager
    def _new(self) -> Iterator["Signing"]:
        new = self._signed / "new"
        there = self._signed.exists()
        try:
            with refusals(self._signed):
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
        """Write a blob; `keep` waits for the disk. Returns its hash. Raises ConfigError when the disk refuses."""
        hash_ = hashlib.sha256(data).digest()
        with refusals(self._signed):
            (self._signed / "new" / hash_.hex()).write_bytes(data)
        self._put.add(hash_)
        return hash_

    def blob(self, hash_: bytes) -> bytes:
        """A blob that was put, or is signed already. Raises UntrustedError when it is gone."""
        for folder in ("new", "blobs"):
            if (data := read_whole(self._signed / folder / hash_.hex(), MAX_BLOB)) is not None:
                return data
        raise UntrustedError(f"{self._signed} misses a file. Restore it from a copy.")

    def has(self, hash_: bytes) -> bool:
        """Whether a blob was put, or is signed already and what it was; it stays then."""
        try:
            held = hashlib.sha256(self.blob(hash_)).digest() == hash_
        except UntrustedError:
            return False
        if held:
            self._put.add(hash_)
        return held

    def hold(self, project: Project) -> None:
        """Pages and item lists that are signed already stay. Raises UntrustedError when one is gone."""
        self._put.update(project.plan.chunks.pages)
        for chunk in project.chunks(self.blob):
            if not (self._signed / "blobs" / chunk.items.hex()).exists():
                raise UntrustedError(f"{self._signed} misses a file. Restore it from a copy.")
            self._put.add(chunk.items)

    def keep(self, root: Envelope, manifest: Envelope, roots: bytes = b"") -> None:
        """Make this what is signed: blobs first, the manifest last; then all other blobs go. `roots`: the blob of all
        versions of the root, where others are to be in force here.

        Raises ConfigError when the disk refuses.
        """
        blobs, needed = self._signed / "blobs", {hash_.hex() for hash_ in self._put}
        with refusals(self._signed):
            blobs.mkdir(exist_ok=True)
            for path in (self._signed / "new").iterdir():
                sync(path)
                os.replace(path, blobs / path.name)
            sync(blobs)
            replace_whole(self._signed / "root.cbor", root.data)
            if roots:
                replace_whole(self._signed / "roots.cbor", roots)
            replace_whole(self._signed / "manifest.cbor", manifest.data)
            for path in blobs.iterdir():
                if path.name not in needed:
                    path.unlink()


class SignedLists(Mapping[bytes, bytes]):
    """The item lists of a signed project by hash, and the pages that name them, read from disk when they are asked for.

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


def _public_half(path: Path) -> bytes:
    """The public key in a file; empty when it cannot be read: whoever needs the key is told when it is loaded."""
    try:
        return public_half(path)
    except KeyFileError:
        return b""
