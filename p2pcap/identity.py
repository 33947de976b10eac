"""Who somebody is: an Ed25519 key in a file only its owner can read.

The same key signs statements and is the node's libp2p host key, so a statement's author and a peer on the network are
one name: the libp2p peer id. Signing and verifying go through PyNaCl alone: libraries disagree about edge cases of
Ed25519, and two libraries would mean two ledgers. Each signature names what it is for (the domain), so a signature made
for one kind of record can never be used for another.

A key file may be encrypted under a passphrase (p2pcap.encryption); its public half can be read without.

Always holds: a key file is created whole, with mode 0600, and is never overwritten; only `set_passphrase` replaces one,
by the same key.
"""

import base64
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import base58
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from p2pcap.encryption import MODERATE, Cost, decrypt, encrypt
from p2pcap.errors import CodecError, KeyFileError

Passphrase = Callable[[Path], bytes]
"""Gives the passphrase of an encrypted key file. Raises KeyFileError."""

KEY_FILE_MARK = "p2pcap-secret-key-1"
ENCRYPTED_MARK = "p2pcap-encrypted-key-1"
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
    def create(cls, path: Path, passphrase: bytes = b"", cost: Cost = MODERATE) -> "Identity":
        """A new identity, stored at `path`, encrypted when there is a passphrase. Raises KeyFileError when the file
        exists or cannot be written."""
        identity = cls.generate()
        identity.save(path, passphrase, cost)
        return identity

    def save(self, path: Path, passphrase: bytes = b"", cost: Cost = MODERATE) -> None:
        """Store the identity in a new file. Raises KeyFileError when it exists or cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new(path, self._text(passphrase, cost))
        except OSError as error:
            if os.path.lexists(path):
                raise KeyFileError(
                    f"A key file exists already at {path}. Move it away first; it cannot be made again."
                ) from error
            raise KeyFileError(f"The key file {path} cannot be written: {error.strerror}.") from error

    def set_passphrase(self, path: Path, passphrase: bytes, cost: Cost = MODERATE) -> None:
        """Replace the file at `path` by one with the same key and another passphrase, or none. Raises KeyFileError when
        it holds another key or cannot be written."""
        if public_half(path) != self.public:
            raise KeyFileError(f"{path} holds another key. Nothing was changed.")
        try:
            _write_new(path, self._text(passphrase, cost), replace=True)
        except OSError as error:
            raise KeyFileError(f"The key file {path} cannot be written: {error.strerror}.") from error

    def _text(self, passphrase: bytes, cost: Cost) -> str:
        """What stands in a key file."""
        if not passphrase:
            return f"{KEY_FILE_MARK} {_base32(self.seed)}\n"
        return f"{ENCRYPTED_MARK} {_base32(self.public)} {_base32(encrypt(self.seed, passphrase, cost))}\n"

    @classmethod
    def load(cls, path: Path, passphrase: Passphrase | None = None) -> "Identity":
        """The identity stored at `path`; `passphrase` is asked if it is encrypted. Raises KeyFileError, also when
        others may read the file."""
        stored = _Stored.read(path)
        if not stored.public:
            return cls.from_seed(stored.secret)
        if passphrase is None:
            raise KeyFileError(
                f"The key file {path} has a passphrase. Name the file it stands in: --passphrase-file FILE, or "
                "P2PCAP_PASSPHRASE_FILE."
            )
        try:
            identity = cls.from_seed(decrypt(stored.secret, passphrase(path)))
        except (CodecError, ValueError) as error:
            raise _damaged(path) from error
        if identity.public != stored.public:
            raise _damaged(path)
        return identity

    @classmethod
    def load_or_create(cls, path: Path, passphrase: Passphrase | None = None) -> "Identity":
        """The identity at `path`, made on first use, without a passphrase."""
        return cls.load(path, passphrase) if os.path.exists(path) else cls.create(path)

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


def public_half(path: Path) -> bytes:
    """The public key of a key file, which needs no passphrase. Raises KeyFileError."""
    stored = _Stored.read(path)
    return stored.public or Identity.from_seed(stored.secret).public


def is_encrypted(path: Path) -> bool:
    """Whether the key file at `path` has a passphrase. Raises KeyFileError."""
    return bool(_Stored.read(path).public)


@dataclass(frozen=True)
class _Stored:
    """What stands in a key file: the seed; or the public key, and the seed in a box."""

    secret: bytes = field(repr=False)
    public: bytes = b""

    @classmethod
    def read(cls, path: Path) -> "_Stored":
        """Raises KeyFileError, also when others may read the file."""
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
        return cls._parse(data, path)

    @classmethod
    def _parse(cls, data: bytes, path: Path) -> "_Stored":
        mark, *texts = data.decode("ascii", errors="replace").strip().split(" ")
        try:
            parts = [base64.b32decode(text.upper() + "=" * (-len(text) % 8)) for text in texts]
        except ValueError:
            parts = []
        match mark, parts:
            case (str(found), [seed]) if found == KEY_FILE_MARK and len(seed) == 32:
                return cls(seed)
            case (str(found), [public, box]) if found == ENCRYPTED_MARK and len(public) == 32:
                return cls(box, public)
        raise _damaged(path)


def _damaged(path: Path) -> KeyFileError:
    return KeyFileError(f"{path} is not a p2pcap key file, or is damaged. Restore it from a copy.")


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _write_new(path: Path, text: str, replace: bool = False) -> None:
    """Create a file whole, with mode 0600. Unless it may replace another it is linked, not renamed, into place."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        (os.replace if replace else os.link)(temporary, path)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
