"""From one root to the next: new keys, another threshold, a longer life; signed by as many root keys as both ask for.

Where the keys at hand are not enough, the root waits for other people's signatures (p2pcap_bootstrap.cosigning).

Always holds: a key that leaves a role stays known, with the last checkpoint up to which its signatures count.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import UNSET

from p2pcap.envelope import seal
from p2pcap.errors import ConfigError, KeyFileError
from p2pcap.identity import Identity, is_encrypted, public_half
from p2pcap.project.records import FormerKey, Role, Roles, Root
from p2pcap.project.roots import MAX_VERSIONS, keys_of, root_hash
from p2pcap_bootstrap.cosigning import DAY, ROOT_DAYS, Rotation, checked, keep
from p2pcap_bootstrap.workspace import Workspace

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
    return checked(Root(root.name, root.version + 1, now, expires, keys, made, former or UNSET, root_hash(root)))


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
        kept = keep(workspace, root, chain, [seal(signer, "root", new) for signer in signers])
        return replace(kept, keys=tuple(key.path for key in fresh.values()))


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
