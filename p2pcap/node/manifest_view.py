"""A verified project as the value that front ends show (p2pcap.node.manifest_info). Pure."""

from msgspec import UNSET

from p2pcap.identity import peer_id_of
from p2pcap.node.manifest_info import KeyDetail, ManifestInfo, PromptDetail, StageDetail
from p2pcap.project.opened import Project, ends_at, expires_at
from p2pcap.project.records import Role, Root, Stage
from p2pcap.project.task import Prompt, Task


def describe(project: Project) -> ManifestInfo:
    """The manifest in force, its root and its plan."""
    root, manifest, plan = project.root, project.manifest, project.plan
    policy, fetch = plan.policy, plan.fetch_rules
    return ManifestInfo(
        id=project.hash.hex(),
        name=project.title,
        title=plan.title,
        description=plan.description,
        license=plan.license,
        version=manifest.version,
        created=manifest.created,
        expires=expires_at(project),
        ends=ends_at(project),
        root_version=root.version,
        root_expires=root.expires,
        manifest_expires=manifest.expires,
        signed_by=peer_id_of(project.manifest_envelope.author),
        keys=_keys(root),
        verifiers=tuple(sorted(map(peer_id_of, project.verifiers))),
        former_keys=tuple(map(peer_id_of, project.former)),
        admission=policy.admits,
        wait_for_engines=policy.wait_for_engines,
        attempts=policy.attempts,
        error_authors=policy.authors_for_error,
        peer_audits=policy.checks_one_in,
        bans=policy.bans is not False,
        stages=tuple(map(_stage, plan.stages)),
        images=project.images,
        chunks=len(project.counts),
        former=0 if plan.former is UNSET else len(plan.former),
        deadline=None if plan.deadline is UNSET else plan.deadline,
        paused=plan.paused is True,
        hosts=fetch.hosts,
        robots=fetch.robots,
    )


def _keys(root: Root) -> tuple[KeyDetail, ...]:
    """The roles that root names; one that it leaves out is the coordinator's."""
    roles = root.roles
    named = {"root": roles.root, "coordinator": roles.coordinator, "checkpoint": roles.checkpoint}
    return tuple(_role(root, name, role) for name, role in named.items() if isinstance(role, Role))


def _role(root: Root, name: str, role: Role) -> KeyDetail:
    return KeyDetail(name, role.threshold, tuple(peer_id_of(root.keys[index]) for index in role.keys))


def _stage(stage: Stage) -> StageDetail:
    task = stage.task
    return StageDetail(
        name=stage.name,
        task=task.tid.hex(),
        model=task.model.name,
        revision=task.model.revision,
        files=len(task.model.files),
        bytes=sum(file.length for file in task.model.files),
        edge=task.image_edge,
        dtype=task.dtype,
        quantization=task.quantization,
        prompts=tuple(_prompt(task, prompt) for prompt in task.prompts),
        needs=tuple(needed.stage for needed in task.needs),
        keeps=0 if stage.keeps is UNSET else len(stage.keeps),
        paused=stage.paused is True,
        audit=_audit(stage),
    )


def _prompt(task: Task, prompt: Prompt) -> PromptDetail:
    sampling = task.sampling_of(prompt)
    return PromptDetail(
        name=prompt.name,
        text=prompt.text,
        system=task.system_of(prompt),
        tokens=sampling.max_tokens,
        temperature=sampling.temperature / 1_000,
        image=prompt.shows_image,
    )


def _audit(stage: Stage) -> str:
    audit = stage.audit
    if audit is UNSET:
        return ""
    honest = audit.honest
    return f"by {audit.method}: {honest.bad} of {honest.items} honest items called bad; a ban takes {audit.bans_at}"
