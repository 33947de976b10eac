"""Encryption under a passphrase: Argon2id makes a key of it, XSalsa20-Poly1305 and XChaCha20-Poly1305 do the rest.

Small things (a key) are one box; large ones (a backup) a stream of frames, so that neither needs more memory than a
frame. What the key cost to make stands beside what is encrypted, so it can be raised later; a reader bounds it, because
the file may be a stranger's.

Always holds: what was changed, cut short, or put together from parts of other files is never given out.
"""

import io
from typing import IO, Annotated

import msgspec
from nacl import bindings, pwhash
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, KeyFileError

MAX_PASSES, MAX_MEMORY = 8, 256 * 1024 * 1024
"""Of Argon2id, that a file may ask of its reader: about two seconds and 256 MiB."""

SALT = pwhash.argon2id.SALTBYTES
MAX_BOX = 512
"""Bytes of a box: those of a key are 72."""

FRAME = 64 * 1024
"""Bytes of a stream's frame before encryption. The last one has fewer, so whatever follows it is read with it, and then
neither holds."""

WRONG = "The passphrase is wrong, or the file is damaged. Try again, or restore it from a copy."


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it takes to try one passphrase: passes over so many bytes of memory."""

    passes: Annotated[int, msgspec.Meta(ge=1, le=MAX_PASSES)] = pwhash.argon2id.OPSLIMIT_MODERATE
    memory: Annotated[int, msgspec.Meta(ge=8_192, le=MAX_MEMORY)] = pwhash.argon2id.MEMLIMIT_MODERATE


MODERATE = Cost()
"""libsodium's for a key that is used now and then: 3 passes over 256 MiB, 0.6 s."""

LEAST = Cost(1, 8_192)
"""For a secret that is random itself."""


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small secret: how its key is made, nonce and ciphertext. For a stream `box` is the stream's header."""

    cost: Cost
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT, max_length=SALT)]
    box: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_BOX)]


def encrypt(data: bytes, passphrase: bytes, cost: Cost = MODERATE) -> bytes:
    """`data`, at most some 400 bytes, as a box that `decrypt` opens."""
    salt = random(SALT)
    return encode(Box(cost, salt, SecretBox(_key(passphrase, salt, cost)).encrypt(data)))


def decrypt(data: bytes, passphrase: bytes) -> bytes:
    """What is in the box. Raises KeyFileError, CodecError."""
    box = decode(data, Box, 1_024)
    try:
        return SecretBox(_key(passphrase, box.salt, box.cost)).decrypt(box.box)
    except (CryptoError, ValueError) as error:
        raise KeyFileError(WRONG) from error


class EncryptedWriter(io.RawIOBase):
    """A file to write to; what is written goes to `file` encrypted. Only `finish` makes the stream whole."""

    def __init__(self, file: IO[bytes], passphrase: bytes, cost: Cost = MODERATE) -> None:
        self._file = file
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        salt = random(SALT)
        header = bindings.crypto_secretstream_xchacha20poly1305_init_push(self._state, _key(passphrase, salt, cost))
        head = encode(Box(cost, salt, header))
        file.write(len(head).to_bytes(2, "big") + head)
        self._held = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take all of `data`."""
        self._held += data
        while len(self._held) >= FRAME:
            self._push(bytes(self._held[:FRAME]), bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE)
            del self._held[:FRAME]
        return len(data)

    def finish(self) -> None:
        """Write the last frame. Without it a reader refuses the whole."""
        self._push(bytes(self._held), bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL)

    def _push(self, data: bytes, tag: int) -> None:
        self._file.write(bindings.crypto_secretstream_xchacha20poly1305_push(self._state, data, tag=tag))


class EncryptedReader(io.RawIOBase):
    """What an EncryptedWriter took, to be read once. Raises KeyFileError where the stream does not hold."""

    def __init__(self, file: IO[bytes], passphrase: bytes) -> None:
        self._file = file
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        try:
            head = decode(file.read(int.from_bytes(file.read(2), "big")), Box, 1_024)
            key = _key(passphrase, head.salt, head.cost)
            bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._state, head.box, key)
        except (CodecError, CryptoError) as error:
            raise KeyFileError(WRONG) from error
        self._part, self._ended = b"", False

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer at the end of a frame; none at the end of all."""
        while not self._part and not self._ended:
            self._part = self._pull()
        size = len(self._part) if size < 0 else size
        data, self._part = self._part[:size], self._part[size:]
        return data

    def _pull(self) -> bytes:
        frame = self._file.read(FRAME + bindings.crypto_secretstream_xchacha20poly1305_ABYTES)
        try:
            data, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(self._state, frame)
        except (CryptoError, ValueError) as error:
            raise KeyFileError(WRONG) from error
        self._ended = tag == bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
        return data


def _key(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    return pwhash.argon2id.kdf(SecretBox.KEY_SIZE, passphrase, salt, opslimit=cost.passes, memlimit=cost.memory)
