"""Who somebody is: an Ed25519 key in a file only its owner can read.

The same key signs statements and is the node's libp2p host key, so a statement's author and a peer on the network are
one name: the libp2p peer id. Signing and verifying go through PyNaCl alone: libraries disagree about edge cases of
Ed25519, and two libraries would mean two ledgers. Each signature names what it is for (the domain), so a signature made
for one kind of record can never be used for another.

Always holds: a key file is created whole, with mode 0600, and is never overwritten.
"""

import base64
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import base58
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from p2pcap.errors import KeyFileError

KEY_FILE_MARK = "p2pcap-secret-key-1"
_PEER_ID_PREFIX = bytes.fromhex("0024080112 20".replace(" ", ""))
"""Identity multihash (0x00, 36 bytes) over libp2p's protobuf of an Ed25519 public key (spec: libp2p peer-ids)."""


@dataclass(frozen=True)
class Identity:
    """A secret key and the names that follow from it. Its repr shows the public half only."""

    seed: bytes = field(repr=False)
    public: bytes
    peer_id: str

    @classmethod
    def from_seed(cls, seed: bytes) -> "Identity":
        """The identity of a 32-byte Ed25519 seed."""
        public = bytes(SigningKey(seed).verify_key)
        return cls(seed, public, peer_id_of(public))

    @classmethod
    def generate(cls) -> "Identity":
        """A new identity, from the operating system's randomness."""
        return cls.from_seed(bytes(SigningKey.generate()))

    @classmethod
    def create(cls, path: Path) -> "Identity":
        """A new identity, stored at `path`. Raises KeyFileError when the file exists or cannot be written."""
        identity = cls.generate()
        text = f"{KEY_FILE_MARK} {base64.b32encode(identity.seed).decode().rstrip('=').lower()}\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new(path, text)
        except OSError as error:
            if os.path.lexists(path):
                raise KeyFileError(
                    f"A key file exists already at {path}. Move it away first; it cannot be made again."
                ) from error
            raise KeyFileError(f"The key file {path} cannot be written: {error.strerror}.") from error
        return identity

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """The identity stored at `path`. Raises KeyFileError, also when others may read the file."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                data = file.read(1_024)
        except OSError as error:
            raise KeyFileError(
                f"The key file {path} cannot be read: {error.strerror}. Check the path and its owner."
            ) from error
        if mode & 0o077:
            raise KeyFileError(f"The key file {path} may be read by others (mode {mode:04o}). Run: chmod 600 {path}")
        return cls.from_seed(_parse(data, path))

    @classmethod
    def load_or_create(cls, path: Path) -> "Identity":
        """The identity at `path`, made on first use."""
        return cls.load(path) if os.path.exists(path) else cls.create(path)

    def sign(self, domain: str, message: bytes) -> bytes:
        """The 64-byte signature of `message` for `domain`."""
        return SigningKey(self.seed).sign(signed_bytes(domain, message)).signature


def signed_bytes(domain: str, message: bytes) -> bytes:
    """What is really signed: "p2pcap/" domain "/1" NUL, the message's length (4 bytes, big-endian), the message."""
    return f"p2pcap/{domain}/1\0".encode() + len(message).to_bytes(4, "big") + message


def verify(public: bytes, domain: str, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) by the key `public` (32 bytes) over `message` for `domain` holds."""
    try:
        VerifyKey(public).verify(signed_bytes(domain, message), signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def peer_id_of(public: bytes) -> str:
    """The libp2p peer id ("12D3KooW…") of a 32-byte Ed25519 public key."""
    return str(base58.b58encode(_PEER_ID_PREFIX + public), "ascii")


def public_of(peer_id: str) -> bytes:
    """The 32-byte public key inside an Ed25519 peer id. Raises ValueError for any other text."""
    raw = bytes(base58.b58decode(peer_id))
    if len(raw) != 38 or not raw.startswith(_PEER_ID_PREFIX):
        raise ValueError(f"{peer_id!r} is not the peer id of an Ed25519 key")
    return raw[6:]


def _write_new(path: Path, text: str) -> None:
    """Create a file whole, with mode 0600. It is linked, not renamed, into place: that never replaces another."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _parse(data: bytes, path: Path) -> bytes:
    mark, _, text = data.decode("ascii", errors="replace").strip().partition(" ")
    try:
        seed = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        seed = b""
    if mark != KEY_FILE_MARK or len(seed) != 32:
        raise KeyFileError(f"{path} is not a p2pcap key file, or is damaged. Restore it from a copy.")
    return seed
