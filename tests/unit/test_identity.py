"""Keys on disk, names that follow from them, and signatures that are good for one purpose only."""

import base64
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.encryption import LEAST, encrypt
from p2pcap.envelope import LIMITS
from p2pcap.errors import KeyFileError
from p2pcap.identity import (
    ENCRYPTED_MARK,
    KEY_FILE_MARK,
    Identity,
    is_encrypted,
    peer_id_of,
    public_half,
    public_of,
    signed_bytes,
    verify,
)
from tests.makers import ADA, BOB

DOMAINS = sorted({*LIMITS, "invite"})
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's group."""

SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
"""Points under which R = A, S = 0 holds for any message, unless the verifier refuses such keys."""


def test_a_key_file_keeps_the_identity(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "deep" / "node.key")
    assert Identity.load(tmp_path / "deep" / "node.key") == made
    assert Identity.load_or_create(tmp_path / "deep" / "node.key") == made
    assert stat.S_IMODE((tmp_path / "deep" / "node.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["node.key"]


def test_each_identity_is_another(tmp_path: Path) -> None:
    assert Identity.load_or_create(tmp_path / "a").public != Identity.load_or_create(tmp_path / "b").public


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_mode_does_not_hang_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Identity.create(tmp_path / "node.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) & 0o077 == 0


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "node.key")
    with pytest.raises(KeyFileError, match="exists already"):
        Identity.create(tmp_path / "node.key")
    assert Identity.load(tmp_path / "node.key") == made


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "node.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="exists already"):
        Identity.load_or_create(tmp_path / "node.key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601, 0o777])
def test_a_key_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    Identity.create(tmp_path / "node.key")
    (tmp_path / "node.key").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Identity.load(tmp_path / "node.key")


SOUND = base64.b32encode(ADA.seed).decode().rstrip("=").lower()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="a blank line"),
        pytest.param(KEY_FILE_MARK.encode(), id="no key"),
        pytest.param(f"{KEY_FILE_MARK} {SOUND[:-1]}".encode(), id="cut short"),
        pytest.param(f"{KEY_FILE_MARK} {SOUND}aa".encode(), id="longer"),
        pytest.param(f"{KEY_FILE_MARK} {SOUND}aaaa".encode(), id="longer by a byte"),
        pytest.param(f"{KEY_FILE_MARK} {SOUND[:-2]}1!".encode(), id="other letters"),
        pytest.param(f"p2pcap-secret-key-2 {SOUND}".encode(), id="another version"),
        pytest.param(SOUND.encode(), id="no mark"),
        pytest.param(b"\xff\xfe" + SOUND.encode(), id="no text"),
        pytest.param(f"{KEY_FILE_MARK} {SOUND}é".encode(), id="beyond ASCII"),
        pytest.param(ADA.seed, id="the bare seed"),
        pytest.param(b"\0" * 100_000, id="long and empty"),
    ],
)
def test_a_damaged_key_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "node.key").write_bytes(data)
    (tmp_path / "node.key").chmod(0o600)
    with pytest.raises(KeyFileError, match="not a p2pcap key file"):
        Identity.load(tmp_path / "node.key")


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(KeyFileError, match="cannot be read"):
            Identity.load(path)


def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "node.key", tmp_path / ("n" * 300)):
        with pytest.raises(KeyFileError, match="cannot be written"):
            Identity.load_or_create(path)


@pytest.mark.parametrize("call", [Identity.load, Identity.create, Identity.load_or_create])
def test_a_closed_folder_is_one_clear_error(closed: Path, call: Callable[[Path], Identity]) -> None:
    with pytest.raises(KeyFileError, match="Permission denied"):
        call(closed / "node.key")


def test_a_full_disk_leaves_no_half_key(tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]) -> None:
    with full_disk(), pytest.raises(KeyFileError, match="cannot be written"):
        Identity.create(tmp_path / "node.key")
    assert list(tmp_path.iterdir()) == []
    Identity.create(tmp_path / "node.key")


def sesame(path: Path) -> bytes:
    return b"sesame"


def base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def test_an_encrypted_key_file_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    made = Identity.create(path, b"sesame", LEAST)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert base32(made.seed).encode() not in path.read_bytes()
    assert Identity.load(path, sesame) == Identity.load_or_create(path, sesame) == made
    with pytest.raises(KeyFileError, match="The passphrase is wrong"):
        Identity.load(path, lambda path: b"other")
    with pytest.raises(KeyFileError, match="--passphrase-file FILE, or P2PCAP_PASSPHRASE_FILE"):
        Identity.load(path)


def test_the_public_half_needs_no_passphrase(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "locked.key", b"sesame", LEAST)
    bare = Identity.create(tmp_path / "open.key")
    assert (public_half(tmp_path / "locked.key"), public_half(tmp_path / "open.key")) == (made.public, bare.public)
    assert (is_encrypted(tmp_path / "locked.key"), is_encrypted(tmp_path / "open.key")) == (True, False)


def test_a_key_file_without_a_passphrase_asks_for_none(tmp_path: Path) -> None:
    def asked(path: Path) -> bytes:
        raise AssertionError(path)

    made = Identity.create(tmp_path / "node.key")
    assert Identity.load(tmp_path / "node.key", asked) == made


def test_a_passphrase_is_set_changed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    made = Identity.create(path)
    plain = path.read_bytes()
    made.set_passphrase(path, b"other", LEAST)
    made.set_passphrase(path, b"sesame", LEAST)
    assert Identity.load(path, sesame) == made
    made.set_passphrase(path, b"")
    assert path.read_bytes() == plain
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["node.key"]


def test_a_passphrase_is_not_set_for_another_key(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    made = Identity.create(tmp_path / "node.key")
    before = (tmp_path / "node.key").read_bytes()
    with pytest.raises(KeyFileError, match="holds another key"):
        ADA.set_passphrase(tmp_path / "node.key", b"sesame", LEAST)
    with full_disk(), pytest.raises(KeyFileError, match="cannot be written"):
        made.set_passphrase(tmp_path / "node.key", b"sesame", LEAST)
    assert (tmp_path / "node.key").read_bytes() == before
    assert os.listdir(tmp_path) == ["node.key"]


BOXED = base32(encrypt(ADA.seed, b"sesame", LEAST))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{ENCRYPTED_MARK} {BOXED}", id="no public half"),
        pytest.param(f"{ENCRYPTED_MARK} {base32(ADA.public)}", id="no box"),
        pytest.param(f"{ENCRYPTED_MARK} {base32(BOB.public)} {BOXED}", id="another public half"),
        pytest.param(f"{ENCRYPTED_MARK} {base32(ADA.public[:31])} {BOXED}", id="half a public half"),
        pytest.param(f"{ENCRYPTED_MARK} {base32(ADA.public)} {BOXED[:-8]}", id="cut short"),
        pytest.param(f"{ENCRYPTED_MARK} {base32(ADA.public)} {BOXED} {BOXED}", id="two boxes"),
        pytest.param(f"{ENCRYPTED_MARK} {base32(ADA.public)} {base32(b'no box at all')}", id="no box at all"),
        pytest.param(f"{KEY_FILE_MARK} {base32(ADA.public)} {BOXED}", id="the other mark"),
        pytest.param(
            f"{ENCRYPTED_MARK} {base32(ADA.public)} {base32(encrypt(ADA.seed[:31], b'sesame', LEAST))}",
            id="a short key",
        ),
    ],
)
def test_a_damaged_encrypted_key_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.key").write_text(text + "\n")
    (tmp_path / "node.key").chmod(0o600)
    with pytest.raises(KeyFileError, match="not a p2pcap key file, or is damaged"):
        Identity.load(tmp_path / "node.key", sesame)


def test_the_secret_is_not_shown() -> None:
    assert ADA.seed.hex() not in repr(ADA)
    assert repr(ADA.seed) not in repr(ADA)
    assert ADA.peer_id in repr(ADA)


def test_the_peer_id_is_the_one_of_the_specification() -> None:
    """The example key of libp2p's peer-id specification."""
    public = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert peer_id_of(public) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_holds_the_key(public: bytes) -> None:
    assert public_of(peer_id_of(public)) == public
    assert peer_id_of(public).startswith("12D3KooW")


LONG, SHORT = (base58.b58encode(bytes.fromhex("002408011220") + bytes(size)).decode() for size in (33, 31))
RSA = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


@pytest.mark.parametrize("text", ["", "12D3KooW", RSA, ADA.peer_id[:-1], LONG, SHORT, "é", "0OIl"])
def test_another_text_is_no_peer_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"peer id|[Ii]nvalid|codec"):
        public_of(text)


@given(st.sampled_from(DOMAINS), st.binary(max_size=200))
def test_a_signature_holds_for_its_message_and_domain(domain: str, message: bytes) -> None:
    assert verify(ADA.public, domain, message, ADA.sign(domain, message))


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_signature_for_one_domain_holds_for_no_other(domain: str) -> None:
    signature = ADA.sign(domain, b"message")
    assert [other for other in DOMAINS if verify(ADA.public, other, b"message", signature)] == [domain]


@given(
    st.tuples(st.sampled_from(DOMAINS), st.binary(max_size=40)), st.tuples(st.text(max_size=12), st.binary(max_size=40))
)
def test_no_two_messages_are_signed_as_the_same_bytes(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    assert (signed_bytes(*one) == signed_bytes(*other)) == (one == other)


def test_what_is_signed_is_what_the_protocol_says() -> None:
    assert signed_bytes("claim", b"xyz") == b"p2pcap/claim/1\0\0\0\0\3xyz"


def test_a_signature_holds_for_nothing_else() -> None:
    signature = ADA.sign("claim", b"message")
    assert not verify(BOB.public, "claim", b"message", signature)
    assert not verify(ADA.public, "claim", b"messagf", signature)
    assert not verify(ADA.public, "claim", b"message\0", signature)
    for at in range(64):
        changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        assert not verify(ADA.public, "claim", b"message", changed)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_size_verifies_nothing(size: int) -> None:
    assert not verify(bytes(size), "claim", b"message", ADA.sign("claim", b"message"))


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_a_signature_of_another_size_never_holds(size: int) -> None:
    assert not verify(ADA.public, "claim", b"message", (ADA.sign("claim", b"message") * 2)[:size])


def test_a_second_signature_cannot_be_made_from_the_first() -> None:
    """S plus the group's order satisfies the equation as well."""
    signature = ADA.sign("claim", b"message")
    other = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify(ADA.public, "claim", b"message", signature[:32] + other)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_that_would_sign_anything_is_refused(point: str) -> None:
    for first in SMALL_ORDER:
        signature = bytes.fromhex(first) + bytes(32)
        assert not any(verify(bytes.fromhex(point), "claim", b"message %d" % n, signature) for n in range(8))
