"""Roots that several people sign: the first one, and each that follows another.

The signatures come together in one file, `signed/root-N.partial`: the whole chain up to the root that is to be, so that
each holder of a root key can check what it is asked to sign. With the last signature the root is in force in this
folder; volunteers learn of it from the next manifest.

Always holds: a root is put in force only after its chain was checked as a volunteer checks it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec import UNSET, UnsetType

from p2pcap.codec import decode, encode
from p2pcap.envelope import MAX_ROOT, Envelope, seal
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.identity import Identity, peer_id_of
from p2pcap.project.records import MAX_ROOTS, Role, Roles, Root
from p2pcap.project.roots import check_root, keys_of, last_of, missing, open_first, open_next, read_chain, write_chain
from p2pcap.whole_file import replace_whole
from p2pcap_bootstrap.folder import read_whole, refusals
from p2pcap_bootstrap.workspace import Workspace

ROOT_DAYS = 365
DAY = 86_400

MAX_NAME = 255
"""Bytes of a project's name: a ticket says its length in one. Sixty-four characters may have a byte more."""


@dataclass(frozen=True)
class Rotation:
    """A root that follows `before`, or is the first. `partial`: where it waits for signatures; None when it is in
    force. `missing`: by version, how many more it asks for. `keys`: files of the keys that this folder got for it."""

    before: Root | None
    root: Root
    partial: Path | None
    missing: dict[int, int]
    keys: tuple[Path, ...] = ()


def first_root(name: str, root_keys: Sequence[bytes], threshold: int, coordinator: bytes, now: int) -> Root:
    """The first root of a project, over public keys. Raises ConfigError for a threshold that cannot be met, and for a
    name that no ticket can carry."""
    if len(name.encode()) > MAX_NAME:
        raise ConfigError(f"The project's name has over {MAX_NAME} bytes, more than a ticket carries. Shorten it.")
    roles = Roles(Role(tuple(range(len(root_keys))), threshold), Role((len(root_keys),)))
    return checked(Root(name, 1, now, now + ROOT_DAYS * DAY, (*root_keys, coordinator), roles))


def checked(root: Root) -> Root:
    """The root, if everybody would take it. Raises ConfigError."""
    try:
        made = decode(encode(root), Root, MAX_ROOT)
        check_root(made)
    except CodecError as error:
        raise ConfigError(f"The root goes beyond the protocol's limits: {error} Name fewer keys.") from error
    except UntrustedError as error:
        raise ConfigError(f"{error.args[0].split('. ')[0]}. Choose other keys, or another threshold.") from error
    return made


def begin(
    workspace: Workspace,
    name: str,
    own: Identity,
    others: Sequence[bytes],
    threshold: int,
    coordinator: bytes,
    now: int,
) -> Rotation:
    """Make the first root of a project whose root keys are `own` and those of `others`; in force when `own` is enough
    to sign it. Raises ConfigError."""
    root = first_root(name, (own.public, *others), threshold, coordinator, now)
    return keep(workspace, None, [], [seal(own, "root", root)])


def waiting(workspace: Workspace) -> Rotation | None:
    """The root that waits for signatures in this folder. Raises ConfigError, UntrustedError."""
    path = workspace.partial(len(workspace.chain()) + 1)
    if not path.exists():
        return None
    before, root, chain = read_partial(path)
    return Rotation(before, root, path, _missing(before, root, chain[-1]))


def check_signed(workspace: Workspace) -> None:
    """Raises ConfigError while the project's first root waits for signatures: nothing can be signed under it."""
    if workspace.root() is None and (found := waiting(workspace)) is not None:
        raise ConfigError(
            f"{found.partial} {lacking(found.missing)}: nothing is signed before the holders of the root keys have. "
            f"Send it to them, and add what they send back: p2pcap key sign-root {workspace.directory} --add FILE"
        )


def read_partial(path: Path) -> tuple[Root | None, Root, list[list[Envelope]]]:
    """A root that waits for signatures: the one before it, if any, itself, and the whole chain. Raises ConfigError,
    UntrustedError."""
    data = read_whole(path, MAX_ROOTS)
    if data is None:
        raise ConfigError(f"There is no root at {path} that waits for signatures. Make one with: p2pcap key rotate")
    chain = read_chain(data)
    before = last_of(chain[:-1], chain[0][0].payload_hash) if len(chain) > 1 else None
    return before, _opened(before, chain[-1]), chain


def sign_partial(path: Path, keys: Sequence[Identity], others: Sequence[Path] = ()) -> dict[int, int]:
    """Add signatures to the root in the file at `path`: by `keys`, and those that copies of it at `others` have.
    Returns what is still missing. Raises ConfigError, UntrustedError."""
    before, new, chain = read_partial(path)
    wanted = frozenset[bytes]().union(*(keys_of(root, root.roles.root) for root in (before, new) if root is not None))
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
    return _missing(before, new, envelopes)


def finish(workspace: Workspace) -> Rotation:
    """Put the root that waits in this folder in force if it has its signatures. Raises ConfigError, UntrustedError."""
    with workspace.rotating():
        chain = workspace.chain()
        root = workspace.root_in_force() if chain else None
        before, _, partial = read_partial(workspace.partial(len(chain) + 1))
        if before != root:
            raise UntrustedError("The root that waits for signatures follows another one. Remove it, and begin anew.")
        return keep(workspace, root, chain, partial[-1])


def keep(
    workspace: Workspace, before: Root | None, chain: Sequence[Sequence[Envelope]], envelopes: Sequence[Envelope]
) -> Rotation:
    """Put a root in force, or aside until it has its signatures. Raises ConfigError, UntrustedError."""
    new = _opened(before, envelopes)
    longer, wanted = [*chain, envelopes], _missing(before, new, envelopes)
    if not wanted:
        last_of(longer, longer[0][0].payload_hash)
        workspace.put_chain(longer)
        return Rotation(before, new, None, wanted)
    partial = workspace.partial(new.version)
    with refusals(partial.parent):
        partial.parent.mkdir(exist_ok=True)
        replace_whole(partial, write_chain(longer))
    return Rotation(before, new, partial, wanted)


def lacking(missing: dict[int, int]) -> str:
    """What a root still needs, in words."""
    return "lacks " + " and ".join(f"{count} of the signatures of root {at}" for at, count in missing.items())


def _opened(before: Root | None, envelopes: Sequence[Envelope]) -> Root:
    if before is None:
        return open_first(envelopes[0], envelopes[0].payload_hash)
    return open_next(before, envelopes)


def _missing(before: Root | None, new: Root, envelopes: Sequence[Envelope]) -> dict[int, int]:
    return missing(envelopes, *([] if before is None else [before]), new)


# what people are shown of it


def differences(before: Root | None, after: Root) -> list[str]:
    """What changes from one root to the next, or what the first one says; a line each, for people."""
    lines = []
    for kind in ("root", "coordinator", "checkpoint", "verifier"):
        had, has = (_named(root, kind) for root in (before, after))
        called = kind if kind in ("coordinator", "verifier") else f"{kind} key"
        lines += [f"{called} {peer_id_of(each)} leaves" for each in sorted(had - has)]
        lines += [f"{called} {peer_id_of(each)} comes" for each in sorted(has - had)]
    return [*lines, *_threshold(before, after), *_new_former(before, after), _expiry(before, after)]


def _named(root: Root | None, kind: str) -> frozenset[bytes]:
    """The keys that a root names for a role."""
    role: Role | UnsetType = UNSET if root is None else getattr(root.roles, kind)
    return frozenset() if root is None or role is UNSET else keys_of(root, role)


def _threshold(before: Root | None, after: Root) -> list[str]:
    threshold = after.roles.root.threshold
    if before is None:
        return [f"{threshold} root keys must sign this root and the next"] if threshold > 1 else []
    old = before.roles.root.threshold
    return [f"{threshold} root keys must sign the next root, not {old}"] if threshold != old else []


def _new_former(before: Root | None, after: Root) -> list[str]:
    known = () if before is None or before.former is UNSET else before.former
    return [
        f"what {peer_id_of(each.key)} signed counts as far as checkpoint {each.checkpoint} seals it"
        for each in (() if after.former is UNSET else after.former)
        if each not in known
    ]


def _expiry(before: Root | None, after: Root) -> str:
    earlier = "" if before is None else f", root {before.version} {_day(before.expires)}"
    return f"root {after.version} expires {_day(after.expires)}{earlier}"


def _day(seconds: int) -> str:
    """A time for people; one that no calendar holds is said in seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s after 1970"
