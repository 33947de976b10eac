"""From one root to the next: new keys, another threshold, a longer life; signed by as many root keys as both ask for.

The signatures of several people come together in one file, `signed/root-N.partial`: the whole chain with the root that
is to follow, so that each holder of a root key can check what it is asked to sign. With the last signature the root is
in force in this folder; volunteers learn of it from the next manifest.

Always holds: a root is put in force only after its chain was checked as a volunteer checks it. A key that leaves a role
stays known, with the last checkpoint up to which its signatures count.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msgspec import UNSET

from p2pcap.codec import decode, encode
from p2pcap.envelope import MAX_ROOT, Envelope, seal
from p2pcap.errors import CodecError, ConfigError, KeyFileError, UntrustedError
from p2pcap.identity import Identity, is_encrypted, peer_id_of, public_half
from p2pcap.project.records import MAX_ROOTS, FormerKey, Role, Roles, Root
from p2pcap.project.roots import (
    MAX_VERSIONS,
    check_root,
    keys_of,
    last_of,
    missing,
    open_next,
    read_chain,
    root_hash,
    write_chain,
)
from p2pcap_bootstrap.whole_files import read_whole, refusals, replace_whole
from p2pcap_bootstrap.workspace import Workspace

ROOT_DAYS = 365
DAY = 86_400


Last = tuple[int, bytes]
"""The last checkpoint up to which signatures of a key that leaves count: number and payload hash."""

NOTHING: Last = (0, bytes(32))
"""Nothing that the key signed counts."""


@dataclass(frozen=True)
class Changes:
    """What the next root has other than the one before; without any it only lives longer.

    `coordinator` and `root`: this folder gets a new key of the kind. `threshold`: root keys that must sign. `add` and
    `remove`: public root keys. `verifiers`: their public keys, none for the coordinator, None to leave them as they
    are; `needed`: how many of them must find a result bad.
    """

    coordinator: bool = False
    root: bool = False
    threshold: int | None = None
    add: tuple[bytes, ...] = ()
    remove: tuple[bytes, ...] = ()
    verifiers: tuple[bytes, ...] | None = None
    needed: int = 1


@dataclass(frozen=True)
class Rotation:
    """A root that follows `before`. `partial`: where it waits for signatures; None when it is in force. `missing`: by
    version, how many more it asks for."""

    before: Root
    root: Root
    partial: Path | None
    missing: dict[int, int]


def first_root(name: str, root_keys: Sequence[bytes], threshold: int, coordinator: bytes, now: int) -> Root:
    """The first root of a project, over public keys. Raises ConfigError for a threshold that cannot be met."""
    roles = Roles(Role(tuple(range(len(root_keys))), threshold), Role((len(root_keys),)))
    return _checked(Root(name, 1, now, now + ROOT_DAYS * DAY, (*root_keys, coordinator), roles))


def next_root(root: Root, top: Sequence[bytes], helm: Sequence[bytes], changes: Changes, last: Last, now: int) -> Root:
    """The root after `root`, with the root keys `top` and the coordinators `helm`; `last` is for keys that leave.
    Raises ConfigError."""
    roles = root.roles
    checkpoint = [] if roles.checkpoint is UNSET else [root.keys[index] for index in roles.checkpoint.keys]
    verifiers, needed = _verifiers(root, changes)
    keys = tuple(dict.fromkeys((*top, *helm, *checkpoint, *verifiers)))
    made = Roles(
        _role(keys, top, changes.threshold or roles.root.threshold),
        _role(keys, helm),
        _role(keys, checkpoint) if checkpoint else UNSET,
        _role(keys, verifiers, needed) if verifiers else UNSET,
    )
    gone = _speakers(root) - {*helm, *checkpoint, *verifiers}
    former = (*([] if root.former is UNSET else root.former), *(FormerKey(key, *last) for key in sorted(gone)))
    expires = now + ROOT_DAYS * DAY
    return _checked(Root(root.name, root.version + 1, now, expires, keys, made, former or UNSET, root_hash(root)))


def _verifiers(root: Root, changes: Changes) -> tuple[Sequence[bytes], int]:
    """The next root's verifiers, and how many of them must agree."""
    if changes.verifiers is not None:
        return changes.verifiers, changes.needed
    role = root.roles.verifier
    return ([], 1) if role is UNSET else ([root.keys[index] for index in role.keys], role.threshold)


def _role(keys: Sequence[bytes], named: Sequence[bytes], threshold: int = 1) -> Role:
    return Role(tuple(keys.index(key) for key in named), threshold)


def _speakers(root: Root) -> set[bytes]:
    """Every key but those of roots: whatever else a root names signs statements."""
    others = (root.roles.coordinator, root.roles.checkpoint, root.roles.verifier)
    return {root.keys[index] for role in others if role is not UNSET for index in role.keys}


def _checked(root: Root) -> Root:
    """The root, if everybody would take it. Raises ConfigError."""
    try:
        made = decode(encode(root), Root, MAX_ROOT)
        check_root(made)
    except CodecError as error:
        raise ConfigError(f"The root goes beyond the protocol's limits: {error} Name fewer keys.") from error
    except UntrustedError as error:
        raise ConfigError(f"{error.args[0].split('. ')[0]}. Choose other keys, or another threshold.") from error
    return made


def rotate(workspace: Workspace, changes: Changes, last: Last, now: int) -> Rotation:
    """Make the next root, signed by the root keys at hand; in force when they are enough. Raises ConfigError,
    KeyFileError, UntrustedError."""
    with workspace.rotating():
        root, chain = workspace.root_in_force(), workspace.chain()
        partial = workspace.partial(root.version + 1)
        if len(chain) == MAX_VERSIONS:
            raise ConfigError(f"A project has at most {MAX_VERSIONS} roots. Begin a new project.")
        if partial.exists():
            raise ConfigError(
                f"{partial} waits for signatures. Sign it with: p2pcap key sign-root {workspace.directory} --key FILE; "
                "or remove it to begin anew."
            )
        signers = workspace.root_keys(root)
        if not signers:
            raise KeyFileError(f"None of the project's root keys is in {workspace.keys}. Put one back, and try again.")
        kinds = [kind for kind, wanted in (("root", changes.root), ("coordinator", changes.coordinator)) if wanted]
        fresh = {kind: NewKey.of(workspace, kind, root) for kind in kinds}
        top = _top(root, changes, {signer.public for signer in signers}, fresh.get("root"))
        new = next_root(root, top, _helm(workspace, root, fresh.get("coordinator")), changes, last, now)
        if "root" in fresh:
            signers.append(fresh["root"].identity)
        for key in fresh.values():
            key.save()
        return _keep(workspace, root, chain, [seal(signer, "root", new) for signer in signers])


@dataclass(frozen=True)
class NewKey:
    """A key that this folder is to get. It stays unused until its root is in force, so one that was made for a root
    that nobody signed is taken again."""

    path: Path
    identity: Identity
    passphrase: bytes = field(repr=False)

    @classmethod
    def of(cls, workspace: Workspace, kind: str, root: Root) -> "NewKey":
        """With the passphrase of the key it comes after, if that has one. Raises KeyFileError."""
        role = root.roles.root if kind == "root" else root.roles.coordinator
        protected = [path for path in workspace.held(keys_of(root, role)) if is_encrypted(path)]
        passphrase = workspace.passphrase(protected[0]) if protected and workspace.passphrase is not None else b""
        path = workspace.keys / f"{kind}-{root.version + 1}.key"
        made = Identity.load(path, workspace.passphrase) if os.path.lexists(path) else Identity.generate()
        return cls(path, made, passphrase)

    def save(self) -> None:
        """Write the key file, unless it is there. Raises KeyFileError."""
        if not os.path.lexists(self.path):
            self.identity.save(self.path, self.passphrase)


def _top(root: Root, changes: Changes, own: Collection[bytes], fresh: NewKey | None) -> list[bytes]:
    """The next root keys: a new one in place of this folder's `own`, if so asked; then the others."""
    top = [root.keys[index] for index in root.roles.root.keys]
    if unknown := [key for key in changes.remove if key not in top]:
        raise ConfigError(f"{unknown[0].hex()} is no root key of this project. p2pcap inspect shows them.")
    if fresh is not None:
        top = [fresh.identity.public, *(key for key in top if key not in own)]
    return list(dict.fromkeys(key for key in (*top, *changes.add) if key not in changes.remove))


def _helm(workspace: Workspace, root: Root, fresh: NewKey | None) -> list[bytes]:
    """The next coordinators: a new one in place of this folder's, or of all where its key is lost."""
    helm = [root.keys[index] for index in root.roles.coordinator.keys]
    if fresh is None:
        return helm
    gone = {public_half(path) for path in workspace.held(helm)} or set(helm)
    return [fresh.identity.public, *(key for key in helm if key not in gone)]


# signatures of other people


def read_partial(path: Path) -> tuple[Root, Root, list[list[Envelope]]]:
    """A root that waits for signatures: the one before it, itself, and the whole chain. Raises ConfigError,
    UntrustedError."""
    data = read_whole(path, MAX_ROOTS)
    if data is None:
        raise ConfigError(f"There is no root at {path} that waits for signatures. Make one with: p2pcap key rotate")
    chain = read_chain(data)
    if len(chain) < 2:
        raise UntrustedError(f"{path} holds no root that follows another. Ask for it again.")
    root = last_of(chain[:-1], chain[0][0].payload_hash)
    return root, open_next(root, chain[-1]), chain


def sign_partial(path: Path, keys: Sequence[Identity], others: Sequence[Path] = ()) -> dict[int, int]:
    """Add signatures to the root in the file at `path`: by `keys`, and those that copies of it at `others` have.
    Returns what is still missing. Raises ConfigError, UntrustedError."""
    root, new, chain = read_partial(path)
    wanted = keys_of(root, root.roles.root) | keys_of(new, new.roles.root)
    if strangers := [key for key in keys if key.public not in wanted]:
        raise ConfigError(f"{strangers[0].peer_id} is no root key of this project. Name the file of one that is.")
    found = {envelope.author: envelope for envelope in chain[-1]}
    for other in others:
        _, theirs, signed = read_partial(other)
        if theirs != new or signed[0][0].payload_hash != chain[0][0].payload_hash:
            raise UntrustedError(f"{other} is another root than {path}. Nothing was added.")
        found |= {each.author: each for each in signed[-1] if each.author in wanted and each.holds()}
    found |= {key.public: seal(key, "root", new) for key in keys}
    envelopes = list(found.values())
    with refusals(path.parent):
        replace_whole(path, write_chain([*chain[:-1], envelopes]))
    return missing(root, envelopes)


def finish(workspace: Workspace) -> Rotation:
    """Put the root that waits in this folder in force if it has its signatures. Raises ConfigError, UntrustedError."""
    with workspace.rotating():
        root, chain = workspace.root_in_force(), workspace.chain()
        before, _, partial = read_partial(workspace.partial(root.version + 1))
        if before != root:
            raise UntrustedError("The root that waits for signatures follows another one. Remove it, and begin anew.")
        return _keep(workspace, root, chain, partial[-1])


def _keep(
    workspace: Workspace, root: Root, chain: Sequence[Sequence[Envelope]], envelopes: Sequence[Envelope]
) -> Rotation:
    """Put a root in force, or aside until it has its signatures."""
    new, lacking = open_next(root, envelopes), missing(root, envelopes)
    longer = [*chain, envelopes]
    if not lacking:
        last_of(longer, chain[0][0].payload_hash)
        workspace.put_chain(longer)
        return Rotation(root, new, None, lacking)
    partial = workspace.partial(new.version)
    with refusals(partial.parent):
        replace_whole(partial, write_chain(longer))
    return Rotation(root, new, partial, lacking)


def differences(before: Root, after: Root) -> list[str]:
    """What changes from one root to the next, a line each, for people."""
    lines = []
    for kind, old, new in (
        ("root key", before.roles.root, after.roles.root),
        ("coordinator", before.roles.coordinator, after.roles.coordinator),
        ("checkpoint key", before.roles.checkpoint, after.roles.checkpoint),
        ("verifier", before.roles.verifier, after.roles.verifier),
    ):
        had, has = (
            frozenset() if role is UNSET else keys_of(root, role) for root, role in ((before, old), (after, new))
        )
        lines += [f"{kind} {peer_id_of(each)} leaves" for each in sorted(had - has)]
        lines += [f"{kind} {peer_id_of(each)} comes" for each in sorted(has - had)]
    old_threshold, threshold = before.roles.root.threshold, after.roles.root.threshold
    if threshold != old_threshold:
        lines.append(f"{threshold} root keys must sign the next root, not {old_threshold}")
    known = () if before.former is UNSET else before.former
    new_former = [] if after.former is UNSET else [each for each in after.former if each not in known]
    lines += [
        f"what {peer_id_of(each.key)} signed counts as far as checkpoint {each.checkpoint} seals it"
        for each in new_former
    ]
    return [*lines, f"root {after.version} expires {_day(after.expires)}, root {before.version} {_day(before.expires)}"]


def _day(seconds: int) -> str:
    """A time for people; one that no calendar holds is said in seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s after 1970"
