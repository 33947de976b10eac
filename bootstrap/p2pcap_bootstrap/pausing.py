"""Pausing a project, or one of its stages, and going on with it: a manifest that changes nothing else."""

import difflib

import msgspec
from msgspec import UNSET

from p2pcap.errors import ConfigError
from p2pcap.project.records import Plan
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.signing import sign_changed
from p2pcap_bootstrap.workspace import Workspace


def set_paused(workspace: Workspace, stage: str | None, paused: bool) -> int:
    """Sign that the project, or this stage of it, is paused, or is not; the version of the manifest. Raises as
    `signing.sign` does, and ConfigError when it is so already."""
    sign_changed(workspace, lambda plan: with_pause(plan, stage, paused))
    return workspace.project().manifest.version


def with_pause(plan: Plan, stage: str | None, paused: bool) -> Plan:
    """The plan with that changed. Raises ConfigError when there is no such stage, and when nothing would change."""
    if stage is None:
        changed = msgspec.structs.replace(plan, paused=paused or UNSET)
    else:
        _check_known(plan, stage)
        stages = [
            msgspec.structs.replace(each, paused=paused or UNSET) if each.name == stage else each
            for each in plan.stages
        ]
        changed = msgspec.structs.replace(plan, stages=tuple(stages))
    if changed == plan:
        what = f"Stage {stage}" if stage else "The project"
        raise ConfigError(f"{what} is {'paused already' if paused else 'not paused'}. Nothing was signed.")
    return changed


def unlike_file(file: ProjectFile, stage: str | None, paused: bool) -> bool:
    """Whether the project file says otherwise, so that the next signing undoes it."""
    said = file.paused
    if stage is not None:
        said = next((section.paused for section in file.sections if section.name == stage), UNSET)
    return said is not UNSET and said is not paused


def _check_known(plan: Plan, stage: str) -> None:
    names = [each.name for each in plan.stages]
    if stage not in names:
        near = difflib.get_close_matches(stage, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}."
        raise ConfigError(f"There is no stage {stage}; {hint}")
