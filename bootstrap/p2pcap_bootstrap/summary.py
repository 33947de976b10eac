"""A project in words: what is signed, how long it holds, and what volunteers do with it.

Pure. Always holds: one fact a line; strangers' text is on one line.
"""

import datetime
from collections.abc import Iterator

from msgspec import UNSET

from p2pcap.project.opened import Project
from p2pcap.project.records import Stage


def summary(project: Project, now: float) -> Iterator[str]:
    """Lines about the project at `now` (unix seconds)."""
    plan, manifest = project.plan, project.manifest
    yield f"name:      {project.title}" + (f" (called {plan.title} now)" if plan.title != project.title else "")
    yield f"project:   {project.hash.hex()}"
    yield f"root:      version {project.root.version}, holds until {_day(project.root.expires)}"
    holds = f"holds until {_day(manifest.expires)}" + (" — EXPIRED" if manifest.expires < now else "")
    yield f"manifest:  version {manifest.version} of {_day(manifest.created)}, {holds}"
    yield f"images:    {project.images} in {len(project.counts)} chunks"
    if plan.description or plan.license:
        yield f"about:     {plan.description or 'no description'}; license: {plan.license or 'none given'}"
    if plan.deadline is not UNSET:
        yield f"deadline:  {datetime.datetime.fromtimestamp(plan.deadline, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    if plan.paused is True:
        yield "paused:    all of it"
    policy = plan.policy
    yield (
        f"policy:    admission {policy.admits}, waits for {policy.wait_for_engines} engines, {policy.attempts} "
        f"attempts, {policy.authors_for_error} authors for an error"
    )
    for stage in project.stages:
        yield from _stage(stage)
    if plan.former:
        yield f"former:    {len(plan.former)} tasks, whose captions stay"


def plain(project: Project) -> dict[str, object]:
    """The same for programs; times in unix seconds, hashes in hex."""
    plan, manifest, policy = project.plan, project.manifest, project.plan.policy
    return {
        "name": project.title,
        "project": project.hash.hex(),
        "root": {"version": project.root.version, "expires": project.root.expires},
        "manifest": {"version": manifest.version, "created": manifest.created, "expires": manifest.expires},
        "images": project.images,
        "chunks": len(project.counts),
        "description": plan.description,
        "license": plan.license,
        "deadline": None if plan.deadline is UNSET else plan.deadline,
        "paused": plan.paused is True,
        "admission": policy.admits,
        "stages": [_plain(stage) for stage in project.stages],
    }


def _plain(stage: Stage) -> dict[str, object]:
    task = stage.task
    return {
        "name": stage.name,
        "task": task.tid.hex(),
        "model": task.model.name,
        "revision": task.model.revision,
        "prompts": {prompt.name: prompt.text for prompt in task.prompts},
        "needs": [needed.stage for needed in task.needs],
        "paused": stage.paused is True,
        "audited": stage.audit is not UNSET,
    }


def _stage(stage: Stage) -> Iterator[str]:
    task = stage.task
    revision = f"@{task.model.revision[:12]}" if task.model.revision else f" ({len(task.model.files)} files)"
    needs = f", after {', '.join(needed.stage for needed in task.needs)}" if task.needs else ""
    keeps = f", keeps the answers of {len(stage.keeps)} earlier tasks" if stage.keeps else ""
    paused = ", PAUSED" if stage.paused is True else ""
    yield f"stage:     {stage.name}: task {task.tid.hex()}, {task.model.name}{revision}{needs}{keeps}{paused}"
    yield f"           {_audit(stage)}"
    for prompt in task.prompts:
        text = " ".join(prompt.text.split())
        yield f"           {prompt.name}: {text[:100]}{text[100:] and '…'}"


def _audit(stage: Stage) -> str:
    """How its captions are checked."""
    audit = stage.audit
    if audit is UNSET:
        return "audited by nobody: it is not calibrated (p2pcap project calibrate)"
    caught = ", ".join(f"{cheat.name} {cheat.caught} of {cheat.items}" for cheat in audit.cheats)
    honest = f"{audit.honest.bad} of {audit.honest.items} honest items called bad"
    return f"audited by {audit.method}: {honest}; caught {caught or 'nothing yet'}; a ban takes {audit.bans_at}"


def _day(seconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d}"
