"""From a project file and the images that it names to a signed project, and from one that is signed to the next.

The root is signed once and names the project; every later signature is the coordinator's.

Always holds: what is signed has been read back as a volunteer would read it, and follows what was signed before
(p2pcap.project.opened.check_follows), unless nobody can have seen that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from p2pcap.codec import MAX_BLOB, decode, encode
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger.drafting import key_of
from p2pcap.project.opened import (
    Project,
    check_follows,
    check_manifest,
    coordinators,
    open_project,
    payload_hash,
    read_manifest,
    version_of,
)
from p2pcap.project.records import Manifest, Plan
from p2pcap_bootstrap.audit_file import audited
from p2pcap_bootstrap.checking import check_texts
from p2pcap_bootstrap.cosigning import DAY, check_signed, first_root
from p2pcap_bootstrap.earlier import check_fields, follow_stages, former_tasks, still_paused
from p2pcap_bootstrap.planning import Lists, Progress, fetch_rules, page_between, plan_lists
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.stages import make_stages
from p2pcap_bootstrap.workspace import Signing, Workspace


@dataclass(frozen=True)
class Signed:
    """What a signing did: images that are new, and images of signed chunks that are not there any more."""

    manifest: Envelope
    added: int = 0
    gone: int = 0


def sign(workspace: Workspace, file: ProjectFile, progress: Progress, images: bool = True) -> Signed:
    """Plan and sign the project in `workspace`.

    `progress` is called with the number of images planned so far. Without `images` nobody looks for new ones. Raises
    ConfigError, ModelError, KeyFileError, UntrustedError, SourceError; nothing is written then.
    """
    check_signed(workspace)
    coordinator = workspace.coordinator()
    with workspace.signing() as signing:
        before, first = in_force(workspace), workspace.manifest() is None
        lists = Lists(signing, before)
        plan = make_plan(workspace, file, before, lists, progress, images)
        root = workspace.root() or _sign_root(workspace, file.name, coordinator)
        expires = int(time.time()) + file.expires_days * DAY
        manifest = _put(workspace, root, coordinator, before, plan, signing, expires)
        signing.keep(root, manifest)
        if first:
            workspace.draft.touch()
    return Signed(manifest, lists.added, lists.gone)


def sign_changed(workspace: Workspace, change: Callable[[Plan], Plan]) -> Envelope:
    """Sign what is signed with this change of its plan, and as long as it holds. Raises as `sign` does."""
    coordinator = workspace.coordinator()
    with workspace.signing() as signing:
        before, root = workspace.project(), workspace.root()
        assert root is not None  # there is a project
        signing.hold(before)
        manifest = _put(workspace, root, coordinator, before, change(before.plan), signing, before.manifest.expires)
        signing.keep(root, manifest)
    return manifest


def in_force(workspace: Workspace) -> Project | None:
    """What is signed and may be in others' hands, so that the next signing has to follow it; None while nobody can have
    seen anything. Raises UntrustedError."""
    return None if workspace.manifest() is None or workspace.draft.exists() else workspace.project()


def make_plan(
    workspace: Workspace,
    file: ProjectFile,
    before: Project | None,
    lists: Lists,
    progress: Progress,
    images: bool = True,
) -> Plan:
    """The plan that `file` and what is in force (`before`) add up to; its chunks go through `lists`. Raises as `sign`
    does."""
    check_texts({"name": file.name, "description": file.description, "license": file.license})
    rules, deadline = fetch_rules(file), _deadline(file)
    stages = audited(follow_stages(make_stages(file, workspace.directory), file, before), workspace.directory)
    former = former_tasks(stages, before)
    if before is not None:
        check_fields(workspace, before, stages)
    if images or before is None:
        plan_lists(workspace, file, before, lists, progress)
    return Plan(
        file.name,
        stages,
        lists.table.table(),
        file.policy,
        file.description,
        file.license,
        rules if lists.elsewhere else UNSET,
        former or UNSET,
        still_paused(file.paused, UNSET if before is None else before.plan.paused),
        deadline,
        _verifiers(file) or UNSET,
    )


def _verifiers(file: ProjectFile) -> tuple[bytes, ...]:
    """The keys whose verdicts count. Raises ConfigError for what is none."""
    keys = {text: key_of(text) for text in file.verifiers}
    for text, key in keys.items():
        if key is None:
            raise ConfigError(f"project.yaml: verifiers names {text[:16]!r}, which is no peer id and no key of 64 hex.")
    return tuple(dict.fromkeys(filter(None, keys.values())))


def _deadline(file: ProjectFile) -> int | UnsetType:
    """In unix seconds. Raises ConfigError for one that has passed."""
    if file.deadline is UNSET:
        return UNSET
    if file.deadline.timestamp() <= time.time():
        raise ConfigError(f"The deadline in project.yaml, {file.deadline:%Y-%m-%d %H:%M} UTC, has passed. Move it.")
    return int(file.deadline.timestamp())


def _sign_root(workspace: Workspace, name: str, coordinator: Identity) -> Envelope:
    root_key = Identity.load(workspace.root_key, workspace.passphrase)
    return seal(root_key, "root", first_root(name, (root_key.public,), 1, coordinator.public, int(time.time())))


def _put(
    workspace: Workspace,
    root: Envelope,
    coordinator: Identity,
    before: Project | None,
    plan: Plan,
    signing: Signing,
    expires: int,
) -> Envelope:
    """The manifest of `plan`, which is put among the signing's blobs."""
    data, project = encode(plan), payload_hash(root)
    try:
        decode(data, Plan, MAX_BLOB)
    except CodecError as error:
        raise ConfigError(f"The project goes beyond the protocol's limits: {error} Change project.yaml.") from error
    in_force = None if workspace.root() is None else workspace.root_in_force()
    if in_force is not None and coordinator.public not in coordinators(in_force):
        raise UntrustedError(
            f"{workspace.coordinator_key} is not the key that the project's root names. Restore the right one."
        )
    named = workspace.roots()
    manifest = Manifest(
        project[:8],
        _version(workspace, project),
        int(time.time()),
        expires,
        signing.put(data),
        len(data),
        UNSET if named is None else named[0],
    )
    envelope = seal(coordinator, "manifest", manifest)
    opened = open_project(root, envelope, data, project, b"" if named is None else named[1])
    if before is not None:
        check_follows(opened, before, page_between(before.plan, plan, signing))
    return envelope


def _version(workspace: Workspace, project: bytes) -> int:
    """The version of the next manifest. Raises UntrustedError for one that somebody else signed: nobody knows what it
    stands for."""
    held = workspace.manifest()
    if held is None:
        return 1
    root, manifest = workspace.root_in_force(), read_manifest(held, project)
    if version_of(manifest)[0] == root.version:
        check_manifest(held, root)
    return manifest.version + 1
