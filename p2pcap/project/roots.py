"""The chain of roots, from the version that the ticket pins to the one in force. Pure.

The rules are TUF's (theupdateframework.github.io/specification, 5.3): versions go up by one; each is signed by as many
root keys of the version before it as that one asks, and by as many of its own as it asks itself; only the last one has
to be of this day (p2pcap.project.opened.check_current). Beyond TUF, each version names the payload of the one before,
so a maintainer who signs two projects with one root key cannot be made to lend one project's roots to the other. A
version's signatures are envelopes over the same payload by different authors.

Always holds: a `Root` that comes from here is reached from the pinned hash without a gap, and names only keys that it
holds; none of them is a former key.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET

from p2pcap.codec import decode, encode
from p2pcap.envelope import MAX_ROOT, OVERHEAD, Envelope, open_envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.project.records import MAX_ROOTS, FormerKey, Role, Root, RootChain

MAX_VERSIONS, MAX_SIGNATURES = 256, 32
"""Of a chain, and of one version: 16 root keys before and 16 after. A root lives a year, so 256 are enough."""

Signed = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ROOT + OVERHEAD)]
Version = Annotated[tuple[Signed, ...], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)]
Versions = Annotated[tuple[Version, ...], msgspec.Meta(min_length=1, max_length=MAX_VERSIONS)]

Chain = Sequence[Sequence[Envelope]]
"""The envelopes of each version, from 1 on."""


def open_first(envelope: Envelope, expected: bytes) -> Root:
    """The root in `envelope`, if it hashes to `expected` and one of its own root keys has signed it; whether as many
    have as it asks for, `last_of` tells. Raises UntrustedError."""
    if envelope.kind != "root" or envelope.payload_hash != expected:
        raise UntrustedError("The project's root is not the one the ticket names. Ask the maintainer for a new ticket.")
    root = _open(envelope)
    if root.version != 1:
        raise UntrustedError("The ticket names a root that is not the project's first. Ask for a new ticket.")
    if not _signers([envelope], root):
        raise UntrustedError("The project's root is not signed by its own key. Do not use this project.")
    return root


def open_chain(data: bytes, named: RootChain, expected: bytes) -> Root:
    """The root in force, from the blob that a manifest names. Raises UntrustedError."""
    if len(data) != named.length or hashlib.sha256(data).digest() != named.hash:
        raise UntrustedError("The project's roots are not those that the manifest names.")
    chain = read_chain(data)
    if len(chain) != named.version:
        raise UntrustedError(f"The manifest names root {named.version}, and comes with {len(chain)} versions.")
    return last_of(chain, expected)


def read_chain(data: bytes) -> list[list[Envelope]]:
    """The envelopes in a blob, not checked. Raises UntrustedError."""
    try:
        versions = decode(data, Versions, MAX_ROOTS)
        return [[open_envelope(signed) for signed in version] for version in versions]
    except CodecError as error:
        raise UntrustedError(f"The project's roots cannot be read: {error}") from error


def write_chain(chain: Chain) -> bytes:
    """The blob that holds these versions."""
    return encode([[envelope.data for envelope in version] for version in chain])


def last_of(chain: Chain, expected: bytes) -> Root:
    """The last root of a chain whose every link holds. Raises UntrustedError."""
    root = open_first(chain[0][0], expected)
    _check_alike(chain[0], 1)
    _check_signed(chain[0], root, root)
    for envelopes in chain[1:]:
        root = follow(root, envelopes)
    return root


def follow(root: Root, envelopes: Sequence[Envelope]) -> Root:
    """The version after `root` that these envelopes sign. Raises UntrustedError."""
    after = open_next(root, envelopes)
    _check_signed(envelopes, after, root, after)
    return after


def open_next(root: Root, envelopes: Sequence[Envelope]) -> Root:
    """The version after `root` in these envelopes, whoever signed it so far. Raises UntrustedError."""
    _check_alike(envelopes, root.version + 1)
    after = _open(envelopes[0])
    if after.version != root.version + 1:
        raise UntrustedError(f"Root {after.version} stands where {root.version + 1} should: a version was left out.")
    if after.before != root_hash(root):
        raise UntrustedError(f"Root {after.version} was made to follow another root {root.version}.")
    return after


def root_hash(root: Root) -> bytes:
    """SHA-256 of the root's payload: the first one's names the project."""
    return hashlib.sha256(encode(root)).digest()


def missing(envelopes: Sequence[Envelope], *asked: Root) -> dict[int, int]:
    """By version, how many more signatures than these envelopes the roots in `asked` ask for; without those that ask
    for none."""
    lacking = {each.version: each.roles.root.threshold - _signers(envelopes, each) for each in asked}
    return {version: count for version, count in lacking.items() if count > 0}


def keys_of(root: Root, role: Role) -> frozenset[bytes]:
    """The public keys of a role."""
    return frozenset(root.keys[index] for index in role.keys)


def _check_signed(envelopes: Sequence[Envelope], root: Root, *asked: Root) -> None:
    """Raises UntrustedError unless `root` has as many signatures as each root in `asked` wants."""
    for each in asked:
        got, wanted = _signers(envelopes, each), each.roles.root.threshold
        if got < wanted:
            raise UntrustedError(
                f"Root {root.version} has {got} of the {wanted} signatures that root {each.version} asks for. "
                "Let more of its keys sign."
            )


def _check_alike(envelopes: Sequence[Envelope], version: int) -> None:
    """Raises UntrustedError unless these are signatures of one root by different keys. As in TUF, no key signs twice:
    else a signature that is worth nothing costs everybody a verification."""
    first = envelopes[0]
    if any(envelope.kind != "root" or envelope.payload != first.payload for envelope in envelopes):
        raise UntrustedError(f"The signatures of root {version} are over different roots.")
    if len({envelope.author for envelope in envelopes}) < len(envelopes):
        raise UntrustedError(f"One key has signed root {version} twice.")


def _open(envelope: Envelope) -> Root:
    try:
        root = decode(envelope.payload, Root, MAX_ROOT)
    except CodecError as error:
        raise UntrustedError(f"The project's root cannot be read: {error}") from error
    check_root(root)
    return root


def check_root(root: Root) -> None:
    """Raises UntrustedError for a root that contradicts itself."""
    roles, former = root.roles, () if root.former is UNSET else root.former
    single = [role for role in (roles.coordinator, roles.checkpoint) if role is not UNSET]
    named = [roles.root, *single, *([] if roles.verifier is UNSET else [roles.verifier])]
    gone = {each.key for each in former}
    faults = {
        "names keys that it does not hold": max(index for role in named for index in role.keys) >= len(root.keys),
        "holds a key twice": len(set(root.keys)) < len(root.keys),
        "names a key twice in one role": any(len(set(role.keys)) < len(role.keys) for role in named),
        "asks for more signatures than it names keys": any(role.threshold > len(role.keys) for role in named),
        "asks several coordinators to sign together, which nobody can": any(role.threshold != 1 for role in single),
        "names a former key twice": len(gone) < len(former),
        "has a former key in force": not gone.isdisjoint(root.keys),
        "names a former key's last checkpoint by half": any(_is_half(each) for each in former),
        "says nothing of the root before it, or is the first and does": (root.version == 1) != (root.before is UNSET),
    }
    for fault, found in faults.items():
        if found:
            raise UntrustedError(f"The project's root {fault}. The maintainer has to sign it anew.")


def _is_half(former: FormerKey) -> bool:
    """Whether it has a checkpoint's number without its hash, or the other way round."""
    return (former.checkpoint == 0) != (former.hash == bytes(32))


def _signers(envelopes: Sequence[Envelope], root: Root) -> int:
    """How many of the root keys of `root` really signed."""
    keys = keys_of(root, root.roles.root)
    return len({envelope.author for envelope in envelopes if envelope.author in keys and envelope.holds()})
