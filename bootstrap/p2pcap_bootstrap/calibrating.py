"""A calibration from beginning to end: images, engines, honest answers and false ones, limits.

Engines run one after the other: first the models that cheats might use, then the project's own, which scores.

Always holds: nothing is written unless all of it was measured.
"""

import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from msgspec.structs import replace

from p2pcap.audit import honest_file
from p2pcap.audit.calibrating import Calibration, Sample, calibrate
from p2pcap.audit.calibrating_alike import calibrate_alike
from p2pcap.audit.cheats import half_away
from p2pcap.audit.measuring import Captioned, Measuring, Say, Shown
from p2pcap.engine.pool import EnginePool
from p2pcap.errors import ConfigError, ModelError
from p2pcap.node.engines import Engines
from p2pcap.node.logs import log_to
from p2pcap.node.models import check_copy, model_directory
from p2pcap.node.options import EngineOptions
from p2pcap.node.run import first_error
from p2pcap.project.opened import Project
from p2pcap.project.records import Stage
from p2pcap.project.task import Task
from p2pcap_bootstrap import audit_file, config
from p2pcap_bootstrap.project_file import ProjectFile
from p2pcap_bootstrap.sampled_images import sample
from p2pcap_bootstrap.workspace import Workspace

LOG, ENGINE_LOG = "calibration.log", "calibration-engine.log"


@dataclass(frozen=True)
class Wanted:
    """What is measured. `against`: directories of models that somebody might use in place of the right one; `others`:
    files with honest captions from other machines; `export`: write such a file, and measure nothing. `all_classes`:
    take engines of all classes for alike; `agreement`: compare texts."""

    stage: str | None
    images: int
    engine: EngineOptions = field(default_factory=EngineOptions)
    against: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    export: Path | None = None
    all_classes: bool = False
    agreement: bool = False


def run(workspace: Workspace, wanted: Wanted, say: Say) -> Calibration | None:
    """Measure, and write the limits into audit.yaml; None when only captions were exported.

    Raises ConfigError, ModelError, EngineStartError, SourceError, UntrustedError, and KeyboardInterrupt when a signal
    ended it.
    """
    file, project = config.read(workspace.directory), workspace.project()
    stage = _stage(project, wanted.stage)
    log_to(workspace.directory / LOG)
    given = [honest_file.read(path, stage.task.tid) for path in wanted.others]
    try:
        found = trio.run(_until_signal, _Run(workspace, file, project, stage.task, wanted, say), given)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    if found is not None:
        audit_file.write(workspace.directory, stage.name, stage.task.tid, found.audit)
    return found


async def _until_signal(measure: "_Run", given: Sequence[honest_file.HonestFile]) -> Calibration | None:
    """Ends the engines whatever ends the measure."""
    found, ended = None, False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey_signals, nursery.cancel_scope)
        found = await measure.run(given)
        ended = True
        nursery.cancel_scope.cancel()
    if not ended:
        raise KeyboardInterrupt
    return found


async def _obey_signals(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        await anext(signals)
        scope.cancel()


def _stage(project: Project, name: str | None) -> Stage:
    named = [stage for stage in project.stages if name in (None, stage.name)]
    if len(named) != 1:
        known = ", ".join(stage.name for stage in project.stages)
        raise ConfigError(f"The project has the stages {known}. Name one of them with --stage.")
    if named[0].task.needs:
        raise ConfigError(f"Stage {named[0].name} uses answers of other stages; only what uses none is calibrated.")
    return named[0]


class _Run:
    """One calibration."""

    def __init__(
        self, workspace: Workspace, file: ProjectFile, project: Project, task: Task, wanted: Wanted, say: Say
    ) -> None:
        self._workspace = workspace
        self._file = file
        self._project = project
        self._task = task
        self._wanted = wanted
        self._say = say

    async def run(self, given: Sequence[honest_file.HonestFile]) -> Calibration | None:
        """See `run`; `given` are the files of other machines."""
        self._say(f"reading {self._wanted.images} of the project's images")
        images = await sample(self._workspace, self._file, self._project, self._task.tid, self._wanted.images)
        wrong = {f"model-{number}": await self._against(path, images) for number, path in enumerate(self._models, 1)}
        async with self._engine(await self._directory(), self._task) as pool:
            measuring = Measuring(pool, self._task, self._say)
            self._say(f"captioning {len(images)} images")
            own = await measuring.captions(images)
            engine_class = pool.state.engine_class
            if self._wanted.export is not None:
                honest_file.write(self._wanted.export, self._task.tid, engine_class, pool.state.device, own)
                return None
            by_hash, prompts = {shown.sha256: shown for shown in images}, len(self._task.prompts)
            others = [item for file in given for item in honest_file.join(file, by_hash, prompts)]
            self._tell_others(given, others)
            classes = {engine_class, *(bytes.fromhex(file.engine_class) for file in given)}
            return await self._measure(measuring, own, others, wrong, () if self._wanted.all_classes else classes)

    @property
    def _models(self) -> tuple[Path, ...]:
        return () if self._wanted.export is not None else self._wanted.against

    def _tell_others(self, given: Sequence[honest_file.HonestFile], others: Sequence[Captioned]) -> None:
        for file in given:
            self._say(f"{len(file.answers)} captions of {file.device}")
        if given and not others:
            raise ConfigError("The other machines captioned none of these images. Export with as many --images.")

    async def _measure(
        self,
        measuring: Measuring,
        own: Sequence[Captioned],
        others: Sequence[Captioned],
        wrong: Mapping[str, Sequence[Captioned]],
        classes: Sequence[bytes] | set[bytes],
    ) -> Calibration:
        if self._wanted.agreement:
            return await self._compare(measuring, own, others, wrong, classes)
        self._say("scoring honest captions")
        honest = [*await measuring.told(own), *await measuring.told(others)]
        plain = await measuring.plain([*own, *others])
        cheats: dict[str, list[Sample]] = await measuring.cheats(own)
        if any(prompt.shows_image for prompt in self._task.prompts):
            self._say("scoring guesses without the image")
            cheats["no-image"] = await measuring.told(_false(await measuring.guesses(_shown(own)), own))
        for name, items in wrong.items():
            self._say(f"scoring {name}")
            cheats[name] = await measuring.plain(_false(items, own))
        return calibrate(honest, plain, cheats, classes)

    async def _compare(
        self,
        measuring: Measuring,
        own: Sequence[Captioned],
        others: Sequence[Captioned],
        wrong: Mapping[str, Sequence[Captioned]],
        classes: Sequence[bytes] | set[bytes],
    ) -> Calibration:
        self._say("captioning again, and comparing")
        honest = await measuring.alike([*own, *others])
        answers = [*(item.answers for item in own[1:]), own[0].answers]
        false = {
            "other-image": [Captioned(item.shown, other) for item, other in zip(own, answers, strict=True)],
            "copied": [Captioned(item.shown, far.answers) for item, far in zip(own, half_away(own), strict=True)],
            **wrong,
        }
        cheats = {name: await measuring.alike(_false(items, own)) for name, items in false.items()}
        return calibrate_alike(honest, cheats, classes)

    async def _against(self, directory: Path, images: Sequence[Shown]) -> list[Captioned]:
        self._say(f"captioning with {directory}")
        async with self._engine(directory, replace(self._task, model=replace(self._task.model, files=()))) as pool:
            return await Measuring(pool, self._task, self._say).captions(images)

    async def _directory(self) -> Path:
        model = self._task.model
        if self._wanted.engine.kind == "openai":
            return self._workspace.directory  # servers have a model of their own
        code = model.name in self._wanted.engine.remote_code

        async def nobody(hash_: bytes, length: int) -> bytes:
            raise ModelError(f"The directory of the model {model.name} is not here. Check `model` in project.yaml.")

        given = _local(self._workspace, self._file, self._task) if model.files else None
        keep = self._workspace.node / "models"
        return await model_directory(model, given, keep, nobody, code=code, say=self._say)

    @asynccontextmanager
    async def _engine(self, directory: Path, task: Task) -> AsyncIterator[EnginePool]:
        """The engines for that model, ready, as long as the block lasts."""
        engines = Engines(self._wanted.engine, self._workspace.directory / ENGINE_LOG, self._say, lambda: None)
        pool = await engines.open(directory, task)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engines.run)
            await pool.wait_ready()
            yield pool
            nursery.cancel_scope.cancel()


def _local(workspace: Workspace, file: ProjectFile, task: Task) -> Path | None:
    """The directory of the task's model as the project file names it. Raises ModelError when it is another by now."""
    for section in file.sections:
        directory = workspace.directory / Path(section.file.model or "").expanduser()
        if directory.is_dir() and directory.resolve().name == task.model.name:
            check_copy(task.model, directory)
            return directory
    return None


def _shown(items: Sequence[Captioned]) -> list[Shown]:
    return [item.shown for item in items]


def _false(items: Sequence[Captioned], honest: Sequence[Captioned]) -> list[Captioned]:
    """Those items that say something else than the honest ones: a guess that is right is no cheat."""
    right = {item.shown.sha256: [answer.text for answer in item.answers] for item in honest}
    return [item for item in items if [answer.text for answer in item.answers] != right.get(item.shown.sha256)]
