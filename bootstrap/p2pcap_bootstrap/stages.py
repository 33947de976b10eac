"""From the stages of a project file to those that are signed.

Always holds: the plan has the stages in the file's order, which is that of the work; their tasks are made in order of
dependence, for a task's id hangs on those whose answers it uses.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from p2pcap.errors import ConfigError
from p2pcap.project.records import Stage
from p2pcap.project.task import Input, Task
from p2pcap_bootstrap.dependence import askings, in_order, needs
from p2pcap_bootstrap.project_file import ProjectFile, Section
from p2pcap_bootstrap.tasks import make_task


def make_stages(file: ProjectFile, base: Path) -> tuple[Stage, ...]:
    """The stages that `file` describes; relative paths are taken from `base`. Raises ModelError, ConfigError."""
    sections, tasks = file.sections, dict[str, Task]()
    for section in in_order(sections):
        try:
            tasks[section.name] = _task(section, sections, tasks, base)
        except ConfigError as error:
            if len(sections) == 1:
                raise
            raise ConfigError(f"Stage {section.name}: {error}") from error
    _check_differ(tasks)
    return tuple(Stage(section.name, tasks[section.name], section.paused) for section in sections)


def _task(section: Section, sections: Sequence[Section], tasks: dict[str, Task], base: Path) -> Task:
    needed = needs(section, sections)
    inputs = [Input(name, tasks[name].tid, needed[name]) for name in sorted(needed)]
    return make_task(section, askings(section, sections), inputs, base)


def _check_differ(tasks: dict[str, Task]) -> None:
    """Raises ConfigError for two stages with one task: their results would be the same ones."""
    names: dict[bytes, str] = {}
    for name, task in tasks.items():
        if (other := names.setdefault(task.tid, name)) != name:
            raise ConfigError(f"Stages {other} and {name} ask the same of the same model. Keep one of them.")


def stage_notes(stages: Sequence[Stage]) -> Iterator[str]:
    """What follows from how stages hang together, one line each."""
    named = {stage.name: stage for stage in stages}
    for stage in stages:
        for needed in stage.task.needs:
            other = named[needed.stage]
            if other.paused is True and stage.paused is not True:
                yield f"stage {stage.name} waits for {other.name}, which is paused"
            if other.keeps and not stage.keeps:
                yield (
                    f"stage {stage.name} gets no answers of {other.name} where that keeps those of earlier tasks; with "
                    "`keep: true` it keeps its own for those images"
                )
