"""What a project that is signed again takes over from what was signed before.

Always holds: every task that may have captions stays in the plan, among its stages or as a former one; so does what a
pause says, unless project.yaml says otherwise.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.errors import ConfigError
from p2pcap.project.opened import Project, open_list
from p2pcap.project.records import MAX_FORMER_TASKS, MAX_STAGES, Stage
from p2pcap.project.task import Task
from p2pcap_bootstrap.project_file import ProjectFile, Section
from p2pcap_bootstrap.workspace import Workspace


def follow_stages(stages: Sequence[Stage], file: ProjectFile, before: Project | None) -> tuple[Stage, ...]:
    """The stages with what each has from the stage of its name before: a pause, and the tasks whose answers it keeps.
    Raises ConfigError when those are too many."""
    earlier = {stage.name: stage for stage in before.stages} if before is not None else {}
    sections = {section.name: section for section in file.sections}
    return tuple(_follow(stage, sections[stage.name], earlier.get(stage.name)) for stage in stages)


def _follow(stage: Stage, section: Section, before: Stage | None) -> Stage:
    paused = still_paused(section.paused, UNSET if before is None else before.paused)
    keeps = _keeps(stage, before) if section.file.keep and before is not None else ()
    if len(keeps) > MAX_STAGES:
        raise ConfigError(
            f"Stage {stage.name} keeps the answers of {len(keeps)} earlier tasks; {MAX_STAGES} are the most. Leave "
            "`keep` out once, and it asks about all images anew."
        )
    return msgspec.structs.replace(stage, paused=paused, keeps=keeps or UNSET)


def _keeps(stage: Stage, before: Stage) -> tuple[bytes, ...]:
    """The tasks before, the oldest first."""
    tids = (*(before.keeps or ()), before.task.tid)
    return tuple(tid for tid in tids if tid != stage.task.tid)


def still_paused(said: bool | UnsetType, before: bool | UnsetType) -> bool | UnsetType:
    """Whether something is paused: as project.yaml says, and where it says nothing as before."""
    return (before if said is UNSET else said) or UNSET


def former_tasks(stages: Sequence[Stage], before: Project | None) -> tuple[Task, ...]:
    """The tasks of earlier plans that are in no stage, the oldest first. Raises ConfigError when there are too many."""
    now = {stage.task.tid for stage in stages}
    tasks = () if before is None else (*(before.plan.former or ()), *(stage.task for stage in before.stages))
    former = tuple({task.tid: task for task in tasks if task.tid not in now}.values())
    if len(former) > MAX_FORMER_TASKS:
        raise ConfigError(
            f"This project would have {len(former)} former tasks; {MAX_FORMER_TASKS} are the most. Go back to a task "
            "that it had, or make a new project with p2pcap project init."
        )
    return former


def check_fields(workspace: Workspace, before: Project, stages: Sequence[Stage]) -> None:
    """Raises ConfigError when a new task asks for a field that no image has which was signed before: its item lists
    cannot be changed any more."""
    known = {name for task in before.tasks.values() for name in task.fields or ()}
    new = {name: stage.name for stage in stages for name in stage.task.fields or () if name not in known}
    lists = workspace.lists(before)
    for chunk in before.chunks(lists.__getitem__):
        if not new:
            return
        for item in open_list(lists[chunk.items], chunk).items:
            for name in item.metadata:
                new.pop(name, None)
    if new:
        name, stage = next(iter(new.items()))
        raise ConfigError(
            f"Stage {stage} asks for the field {name!r}, which the signed images do not have: they were signed "
            "without it. Make a new project with p2pcap project init, or take the place out of the prompt."
        )
