"""A project whose chain of signatures and hashes has been checked.

Ticket → first root (by hash) → root in force (by signatures) → coordinator's key → manifest (by signature) → plan (by
hash) → pages of the chunk table (by hash) → item lists (by hash).
A `Project` exists only when every link held, so the code that is given one asks no more questions.
"""

import hashlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from msgspec import UNSET, UnsetType

from p2pcap.codec import MAX_BLOB, decode
from p2pcap.envelope import Envelope
from p2pcap.errors import CodecError, UntrustedError
from p2pcap.project.audit import Audit
from p2pcap.project.chunks import Chunk, Chunks, Pages, goes_on, open_counts
from p2pcap.project.items import Item, ItemList, decode_list
from p2pcap.project.records import FormerKey, Manifest, Plan, Role, Root, Stage
from p2pcap.project.roots import keys_of, last_of, open_chain, read_chain, root_hash
from p2pcap.project.task import Task

GRACE = 30 * 86_400
"""Seconds for which work goes on after the expiry: a maintainer who is away for a month stops nobody, and one who is
gone for good binds nobody's machine."""

T = TypeVar("T")


@dataclass(frozen=True)
class Project:
    """A verified project. `hash` is SHA-256 of the first root's payload and `m` its first 8 bytes; `root` is the root
    in force. `roots_data` is the blob of all its versions, empty while a first one with one signature is in force."""

    hash: bytes
    root: Root
    manifest: Manifest
    plan: Plan
    root_envelope: Envelope
    manifest_envelope: Envelope
    plan_data: bytes
    roots_data: bytes = b""

    @property
    def m(self) -> bytes:
        """The prefix in every statement of this project."""
        return self.hash[:8]

    @property
    def title(self) -> str:
        """The maintainer's name for it."""
        return self.root.name

    @property
    def version(self) -> tuple[int, int]:
        """Versions of root and manifest: the project with the higher one is in force. The root comes first, so that a
        thief who used up a coordinator key's numbers is overtaken by a root that replaces the key (TUF 5.3.11)."""
        return self.root.version, self.manifest.version

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What is asked about the images."""
        return self.plan.stages

    @cached_property
    def tasks(self) -> Mapping[bytes, Task]:
        """Every task that results may be of, by its id: the stages' in order, then those of earlier plans."""
        return {task.tid: task for task in _tasks(self.plan)}

    @cached_property
    def links(self) -> Mapping[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
        """Of each task the tasks whose answers it needs, and those whose answers stand in for its own; none comes
        before one that it depends on."""
        return links_of(self.plan)

    @cached_property
    def counts(self) -> "array[int]":
        """The number of images of each chunk."""
        return open_counts(self.plan.chunks)

    def chunks(self, pages: Pages) -> Chunks:
        """The chunk table, whose pages come from `pages`."""
        return Chunks(self.plan.chunks, self.counts, pages)

    @property
    def images(self) -> int:
        """Number of images in all."""
        return sum(self.counts)

    @cached_property
    def coordinators(self) -> frozenset[bytes]:
        """Public keys that may sign manifests, invitations, stamps, bans, voids and redactions."""
        return coordinators(self.root)

    @cached_property
    def checkpointers(self) -> frozenset[bytes]:
        """Public keys that may sign checkpoints."""
        return _keys(self.root, self.root.roles.checkpoint)

    @cached_property
    def former(self) -> Mapping[bytes, FormerKey]:
        """Keys that signed as coordinator or for checkpoints and do no more."""
        return {} if self.root.former is UNSET else {former.key: former for former in self.root.former}

    @cached_property
    def verifiers(self) -> frozenset[bytes]:
        """Public keys whose verdicts count: the root's, by default the coordinators, and those that the plan names."""
        return _keys(self.root, self.root.roles.verifier) | self._planned

    @property
    def _planned(self) -> frozenset[bytes]:
        return frozenset() if self.plan.verifiers is UNSET else frozenset(self.plan.verifiers)

    @cached_property
    def named_verifiers(self) -> frozenset[bytes]:
        """The verifiers that somebody chose: those of a role `verifier` and those in the plan. A coordinator who is one
        for want of another may have no engine."""
        return self.verifiers if self.root.roles.verifier is not UNSET else self._planned

    @cached_property
    def audits(self) -> Mapping[bytes, Audit]:
        """How the answers of the tasks are checked that are checked at all, by the task's id."""
        return {stage.task.tid: stage.audit for stage in self.plan.stages if stage.audit is not UNSET}

    @property
    def verifiers_needed(self) -> int:
        """Verifiers who must agree that a result is bad."""
        role = self.root.roles.verifier
        return 1 if role is UNSET else role.threshold


def coordinators(root: Root) -> frozenset[bytes]:
    """The coordinator keys that `root` names."""
    return _keys(root, root.roles.coordinator)


def _keys(root: Root, role: Role | UnsetType) -> frozenset[bytes]:
    return keys_of(root, root.roles.coordinator if role is UNSET else role)


def payload_hash(envelope: Envelope) -> bytes:
    """SHA-256 of a statement's payload: how roots and manifests are named and asked for."""
    return envelope.payload_hash


def read_manifest(envelope: Envelope, project: bytes) -> Manifest:
    """What a manifest of the project with this hash says, before anybody asked who signed it. Raises UntrustedError."""
    if envelope.kind != "manifest":
        raise UntrustedError("This is no manifest. Ask the maintainer for the project's.")
    manifest = _decode(envelope.payload, Manifest, 1_024, "manifest")
    if manifest.m != project[:8]:
        raise UntrustedError("The manifest belongs to another project.")
    return manifest


def version_of(manifest: Manifest) -> tuple[int, int]:
    """Versions of root and manifest, as Project.version."""
    return (1 if manifest.roots is UNSET else manifest.roots.version), manifest.version


def root_in_force(first: Envelope, manifest: Manifest, roots_data: bytes, expected: bytes) -> Root:
    """The root that the manifest names. Raises UntrustedError."""
    if manifest.roots is UNSET:
        return last_of([[first]], expected)
    return open_chain(roots_data, manifest.roots, expected)


def check_manifest(envelope: Envelope, root: Root) -> None:
    """Raises UntrustedError when no coordinator of `root` signed the manifest."""
    if envelope.author not in coordinators(root) or not envelope.holds():
        raise UntrustedError(
            "The manifest is not signed by the project's coordinator: it was tampered with. Sign it again."
        )


def open_plan(data: bytes, manifest: Manifest) -> Plan:
    """The plan in `data`, which must be the bytes the manifest names. Raises UntrustedError."""
    if len(data) != manifest.length or hashlib.sha256(data).digest() != manifest.plan:
        raise UntrustedError(
            "The plan is not the one the manifest names: it was tampered with. Sign the project again."
        )
    plan = _decode(data, Plan, MAX_BLOB, "plan")
    open_counts(plan.chunks)
    _check_stages(plan)
    return plan


def _tasks(plan: Plan) -> list[Task]:
    former = () if plan.former is UNSET else plan.former
    return [*(stage.task for stage in plan.stages), *former]


def _check_stages(plan: Plan) -> None:
    tasks, names = _tasks(plan), {stage.name for stage in plan.stages}
    if len(names) < len(plan.stages) or len({task.tid for task in tasks}) < len(tasks):
        raise UntrustedError("Two stages of the plan are the same. The maintainer has to sign the project again.")
    for stage in plan.stages:
        if stage.audit is not UNSET and stage.audit.prompts != len(stage.task.prompts):
            raise UntrustedError(f"Stage {stage.name} was calibrated for other prompts. Calibrate it and sign again.")
    links_of(plan)


def links_of(plan: Plan) -> dict[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
    """See Project.links. Raises UntrustedError when a task depends on itself, or on one that the plan lacks."""
    kept = {stage.task.tid: () if stage.keeps is UNSET else stage.keeps for stage in plan.stages}
    links = {task.tid: (tuple(one.tid for one in task.needs), kept.get(task.tid, ())) for task in _tasks(plan)}
    depends = {tid: {*needs, *keeps} for tid, (needs, keeps) in links.items()}
    if not set().union(*depends.values()) <= links.keys():
        raise UntrustedError("A stage of the plan needs a task that the plan lacks. It has to be signed again.")
    try:
        return {tid: links[tid] for tid in TopologicalSorter(depends).static_order()}
    except CycleError as error:
        raise UntrustedError("Stages of the plan keep each other's answers in a circle. Sign it again.") from error


def open_project(
    root_envelope: Envelope, manifest_envelope: Envelope, plan_data: bytes, expected: bytes, roots_data: bytes = b""
) -> Project:
    """The whole chain, checked. `expected` is the first root's hash from the ticket. Raises UntrustedError."""
    manifest = read_manifest(manifest_envelope, expected)
    root = root_in_force(root_envelope, manifest, roots_data, expected)
    check_manifest(manifest_envelope, root)
    plan = open_plan(plan_data, manifest)
    return Project(expected, root, manifest, plan, root_envelope, manifest_envelope, plan_data, roots_data)


def check_follows(new: Project, old: Project, page: bytes = b"") -> None:
    """Raises UntrustedError unless `new` leaves what was captioned under `old` in its place: images stay where they
    are, and tasks that had results stay known. `page` is the blob of the page that p2pcap.project.chunks.page_over
    names, where it names one."""
    if new.counts[: len(old.counts)] != old.counts or not goes_on(new.plan.chunks, old.plan.chunks, page):
        raise UntrustedError("A newer manifest renumbers images that were captioned. It is not followed.")
    if not old.tasks.keys() <= new.tasks.keys():
        raise UntrustedError("A newer manifest forgets a task that has captions. It is not followed.")


def check_roots(new: Project, old: Project) -> None:
    """Raises UntrustedError unless the root in force under `old` is among those that led to the root of `new`: a
    version N + 1 needs the keys of the very N that is trusted here (TUF 5.3.4). Else a root key that was stolen and
    replaced could go on from a root before that."""
    chain = read_chain(new.roots_data) if new.roots_data else [[new.root_envelope]]
    at = old.root.version - 1
    if at >= len(chain) or chain[at][0].payload_hash != root_hash(old.root):
        raise UntrustedError(
            f"It goes with another root than the {old.root.version} versions known here: two people have signed with "
            "the project's root keys. Ask the maintainer which ticket holds."
        )


def expires_at(project: Project) -> int:
    """When root or manifest expire, in unix seconds: nobody begins with the project after that."""
    return min(project.root.expires, project.manifest.expires)


def ends_at(project: Project) -> int:
    """When those who have the project stop to work on it, in unix seconds, unless it is signed again."""
    return expires_at(project) + GRACE


def check_current(project: Project, now: float) -> None:
    """Raises UntrustedError when root or manifest have expired at `now` (unix seconds)."""
    if now > expires_at(project):
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
