"""A project whose chain of signatures and hashes has been checked.

Ticket → root (by hash) → coordinator's key → manifest (by signature) → plan (by hash) → item lists (by hash).
A `Project` exists only when every link held, so the code that is given one asks no more questions.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from msgspec import UNSET, UnsetType

from p2pcap.codec import MAX_BLOB, decode
from p2pcap.envelope import MAX_ROOT, Envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.project.items import Item, ItemList, decode_list
from p2pcap.project.records import Chunk, Manifest, Plan, Role, Root
from p2pcap.project.task import Task

T = TypeVar("T")


@dataclass(frozen=True)
class Project:
    """A verified project. `hash` is SHA-256 of the root's payload and `m` its first 8 bytes."""

    hash: bytes
    root: Root
    manifest: Manifest
    plan: Plan
    root_envelope: Envelope
    manifest_envelope: Envelope
    plan_data: bytes

    @property
    def m(self) -> bytes:
        """The prefix in every statement of this project."""
        return self.hash[:8]

    @property
    def title(self) -> str:
        """The maintainer's name for it."""
        return self.root.name

    @cached_property
    def tid(self) -> bytes:
        """The task's id."""
        return self.plan.task.tid

    @property
    def task(self) -> Task:
        """What is asked about each image."""
        return self.plan.task

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunk table."""
        return self.plan.chunks

    @property
    def images(self) -> int:
        """Number of images in all."""
        return sum(chunk.count for chunk in self.plan.chunks)

    @cached_property
    def coordinators(self) -> frozenset[bytes]:
        """Public keys that may sign manifests, invitations, stamps, bans, voids and redactions."""
        return coordinators(self.root)

    @cached_property
    def checkpointers(self) -> frozenset[bytes]:
        """Public keys that may sign checkpoints."""
        return _keys(self.root, self.root.roles.checkpoint)

    @cached_property
    def verifiers(self) -> frozenset[bytes]:
        """Public keys whose verdicts count."""
        return _keys(self.root, self.root.roles.verifier)

    @property
    def verifiers_needed(self) -> int:
        """Verifiers who must agree that a result is bad."""
        role = self.root.roles.verifier
        return 1 if role is UNSET else role.threshold


def coordinators(root: Root) -> frozenset[bytes]:
    """The coordinator keys that `root` names."""
    return _keys(root, root.roles.coordinator)


def _keys(root: Root, role: Role | UnsetType) -> frozenset[bytes]:
    named = root.roles.coordinator if role is UNSET else role
    return frozenset(root.keys[index] for index in named.keys)


def payload_hash(envelope: Envelope) -> bytes:
    """SHA-256 of a statement's payload: how roots and manifests are named and asked for."""
    return hashlib.sha256(envelope.payload).digest()


def open_root(envelope: Envelope, expected: bytes) -> Root:
    """The root in `envelope`, if it hashes to `expected` and its own root key signed it. Raises UntrustedError."""
    if envelope.kind != "root" or payload_hash(envelope) != expected:
        raise UntrustedError("The project's root is not the one the ticket names. Ask the maintainer for a new ticket.")
    root = _decode(envelope.payload, Root, MAX_ROOT, "root")
    roles = root.roles
    single = [role for role in (roles.root, roles.coordinator, roles.checkpoint) if role is not UNSET]
    named = single if roles.verifier is UNSET else [*single, roles.verifier]
    if max(index for role in named for index in role.keys) >= len(root.keys) or any(r.threshold != 1 for r in single):
        raise UntrustedError("The project's root names keys it does not hold, or thresholds this version cannot check.")
    if envelope.author not in {root.keys[index] for index in root.roles.root.keys} or not envelope.holds():
        raise UntrustedError("The project's root is not signed by its own key. Do not use this project.")
    return root


def open_manifest(envelope: Envelope, root: Root, root_hash: bytes) -> Manifest:
    """The manifest in `envelope`, which must be for this root and signed by its coordinator. Raises UntrustedError."""
    if envelope.kind != "manifest" or envelope.author not in coordinators(root) or not envelope.holds():
        raise UntrustedError(
            "The manifest is not signed by the project's coordinator: it was tampered with. Sign it again."
        )
    manifest = _decode(envelope.payload, Manifest, 1_024, "manifest")
    if manifest.m != root_hash[:8]:
        raise UntrustedError("The manifest belongs to another project.")
    return manifest


def open_plan(data: bytes, manifest: Manifest) -> Plan:
    """The plan in `data`, which must be the bytes the manifest names. Raises UntrustedError."""
    if len(data) != manifest.length or hashlib.sha256(data).digest() != manifest.plan:
        raise UntrustedError(
            "The plan is not the one the manifest names: it was tampered with. Sign the project again."
        )
    return _decode(data, Plan, MAX_BLOB, "plan")


def open_project(root_envelope: Envelope, manifest_envelope: Envelope, plan_data: bytes, expected: bytes) -> Project:
    """The whole chain, checked. `expected` is the root's hash from the ticket. Raises UntrustedError."""
    root = open_root(root_envelope, expected)
    manifest = open_manifest(manifest_envelope, root, expected)
    plan = open_plan(plan_data, manifest)
    return Project(expected, root, manifest, plan, root_envelope, manifest_envelope, plan_data)


def is_current(project: Project, now: float) -> bool:
    """Whether root and manifest still hold at `now` (unix seconds)."""
    return now <= project.root.expires and now <= project.manifest.expires


def check_current(project: Project, now: float) -> None:
    """Raises UntrustedError when root or manifest have expired at `now` (unix seconds)."""
    if not is_current(project, now):
        raise UntrustedError("The project's signatures have expired. The maintainer has to sign it again.")


def open_list(data: bytes, chunk: Chunk) -> ItemList:
    """The item list of `chunk`, checked against its hash and count. Raises UntrustedError."""
    if len(data) != chunk.length or hashlib.sha256(data).digest() != chunk.items:
        raise UntrustedError("An item list is not the one the plan names.")
    try:
        found = decode_list(data, MAX_BLOB)
    except CodecError as error:
        raise UntrustedError(f"The project's item list cannot be read: {error}") from error
    if len(found.items) != chunk.count:
        raise UntrustedError("An item list has another number of images than the plan says.")
    return found


def open_items(data: bytes, chunk: Chunk) -> tuple[Item, ...]:
    """The items of the list of `chunk`. Raises UntrustedError."""
    return open_list(data, chunk).items


def _decode(data: bytes, kind: type[T], limit: int, what: str) -> T:
    try:
        return decode(data, kind, limit)
    except CodecError as error:
        raise UntrustedError(f"The project's {what} cannot be read: {error}") from error
