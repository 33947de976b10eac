"""What project.yaml may say: every key of it with its default, and what each stage has of them.

Always holds: a `Section` is complete by itself: what a stage leaves out has been taken from the project's own keys.
"""

import datetime
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.records import DEFAULT_CHUNK, MAX_CHUNK, MAX_STAGES, MAX_VERIFIERS, MIN_CHUNK, Policy
from p2pcap.project.sampling import OutputPolicy
from p2pcap.project.task import EngineKind
from p2pcap.sources.spec import Images
from p2pcap_bootstrap.sections import (
    OF_MODEL,
    Context,
    Edge,
    FormatFile,
    NumberFormat,
    PromptFile,
    Prompts,
    Quantization,
    Revision,
    SamplingFile,
    StageFile,
    System,
    Title,
    said,
)

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""A public key: a peer id, or 64 hex digits."""

ONE_STAGE = "main"
"""The stage of a file without `stages`. Prompts are often called "caption", so it has another name."""


class ProjectFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every key of project.yaml with its default; docs/maintainer.md explains each."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    images: Annotated[str, msgspec.Meta(min_length=1)] | Images
    model: Title | UnsetType = UNSET
    prompts: Prompts | UnsetType = UNSET
    stages: Annotated[tuple[StageFile, ...], msgspec.Meta(min_length=1, max_length=MAX_STAGES)] | UnsetType = UNSET
    description: Annotated[str, msgspec.Meta(max_length=8_192)] = ""
    license: Annotated[str, msgspec.Meta(max_length=128)] = ""
    revision: Revision = ""
    remote_code: bool = False
    dtype: NumberFormat = "auto"
    quantization: Quantization = ""
    max_model_len: Context = 0
    chat_template: str = ""
    system: System = ""
    sampling: SamplingFile = SamplingFile()
    output: OutputPolicy = OutputPolicy()
    image_edge: Edge = 0
    image_processor: dict[str, Any] = {}
    engines: tuple[EngineKind, ...] = ()
    chunk: Annotated[int, msgspec.Meta(ge=MIN_CHUNK, le=MAX_CHUNK)] = DEFAULT_CHUNK
    policy: Policy = Policy()
    verifiers: Annotated[tuple[Key, ...], msgspec.Meta(max_length=MAX_VERIFIERS)] = ()
    keep: bool = False
    paused: bool | UnsetType = UNSET
    deadline: datetime.datetime | UnsetType = UNSET
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=3_650)] = 90

    @property
    def source(self) -> Images:
        """Where the images are; a plain text names the source and leaves the rest as it is."""
        return Images(source=self.images) if isinstance(self.images, str) else self.images

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an image that prompts may have a place for."""
        return tuple(dict.fromkeys((*self.source.fields, *filter(None, [self.source.caption_field]))))

    @property
    def sections(self) -> tuple["Section", ...]:
        """The stages, in the file's order; a file without any is one."""
        if self.stages is UNSET:
            return (Section(ONE_STAGE, self, "$"),)
        return tuple(_section(self, stage, number) for number, stage in enumerate(self.stages))


@dataclass(frozen=True)
class Section:
    """A stage with all that it takes from the project's own keys, which `file` holds. `at`: where it is in the file;
    `own`: the keys that stand there."""

    name: str
    file: ProjectFile
    at: str
    requires: tuple[str, ...] = ()
    paused: bool | UnsetType = UNSET
    own: frozenset[str] = frozenset()

    @property
    def prompts(self) -> tuple[PromptFile, ...]:
        """Its prompts."""
        return () if self.file.prompts is UNSET else self.file.prompts

    def place(self, key: str) -> str:
        """Where a key that it has, or has from the project, is in the file."""
        return f"{self.at if key.partition('[')[0] in self.own else '$'}.{key}"


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "": ProjectFile,
    "images": Images,
    "prompts": PromptFile,
    "stages": StageFile,
    "format": FormatFile,
    "sampling": SamplingFile,
    "output": OutputPolicy,
    "policy": Policy,
}
"""What each section of the file may hold, by its key; "" is the file itself."""


def _section(file: ProjectFile, stage: StageFile, number: int) -> Section:
    own = said(stage)
    task = {key: value for key, value in own.items() if key not in ("name", "requires", "paused", "format", "sampling")}
    if stage.model is not UNSET:
        task = OF_MODEL | task
    resolved = msgspec.structs.replace(
        file, **task, stages=UNSET, sampling=stage.sampling.over(file.sampling), paused=UNSET
    )
    if resolved.prompts is not UNSET and stage.format != FormatFile():
        formed = tuple(_with_format(prompt, stage.format) for prompt in resolved.prompts)
        resolved = msgspec.structs.replace(resolved, prompts=formed)
    return Section(stage.name, resolved, f"$.stages[{number}]", stage.requires, stage.paused, frozenset(own))


def _with_format(prompt: PromptFile, form: FormatFile) -> PromptFile:
    return msgspec.structs.replace(prompt, format=form) if prompt.format == FormatFile() else prompt
