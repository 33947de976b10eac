"""project.yaml: one commented file that says what is to be captioned, and how.

Always holds: a `ProjectFile` that was read is complete and within the protocol's limits; what is wrong with one is said
with its line, and an unknown or misspelt key with the nearest known one.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from p2pcap.errors import ConfigError
from p2pcap.project.records import DEFAULT_CHUNK, MAX_CHUNK, MIN_CHUNK, Policy
from p2pcap.project.sampling import OutputPolicy
from p2pcap.project.task import MAX_PROMPTS, EngineKind
from p2pcap.sources.spec import Images
from p2pcap_bootstrap.faults import Loader, line_of, told
from p2pcap_bootstrap.sections import FormatFile, PromptFile, SamplingFile

FILE = "project.yaml"


class ProjectFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every key of project.yaml with its default; docs/maintainer.md explains each."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    images: Annotated[str, msgspec.Meta(min_length=1)] | Images
    model: Annotated[str, msgspec.Meta(min_length=1)]
    prompts: Annotated[tuple[PromptFile, ...], msgspec.Meta(min_length=1, max_length=MAX_PROMPTS)]
    description: Annotated[str, msgspec.Meta(max_length=8_192)] = ""
    license: Annotated[str, msgspec.Meta(max_length=128)] = ""
    revision: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40})?\Z")] = ""
    remote_code: bool = False
    dtype: Annotated[str, msgspec.Meta(pattern=r"^(auto|float32|float16|bfloat16)\Z")] = "auto"
    quantization: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{0,32}\Z")] = ""
    max_model_len: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 0
    chat_template: str = ""
    system: Annotated[str, msgspec.Meta(max_length=8_192)] = ""
    sampling: SamplingFile = SamplingFile()
    output: OutputPolicy = OutputPolicy()
    image_edge: Annotated[int, msgspec.Meta(ge=0, le=8_192)] = 0
    image_processor: dict[str, Any] = {}
    engines: tuple[EngineKind, ...] = ()
    chunk: Annotated[int, msgspec.Meta(ge=MIN_CHUNK, le=MAX_CHUNK)] = DEFAULT_CHUNK
    policy: Policy = Policy()
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=3_650)] = 90

    @property
    def source(self) -> Images:
        """Where the images are; a plain text names the source and leaves the rest as it is."""
        return Images(source=self.images) if isinstance(self.images, str) else self.images


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "": ProjectFile,
    "images": Images,
    "prompts": PromptFile,
    "format": FormatFile,
    "sampling": SamplingFile,
    "output": OutputPolicy,
    "policy": Policy,
}
"""What each section of the file may hold, by its key; "" is the file itself."""


def read(directory: Path) -> ProjectFile:
    """The project file in `directory`. Raises ConfigError."""
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {path}. Run: p2pcap project init {directory}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    return parse(text, path)


def parse(text: str, path: Path) -> ProjectFile:
    """The project file with this text; `path` is where people find it. Raises ConfigError."""
    try:
        file = msgspec.convert(yaml.load(text, Loader), ProjectFile, strict=True)
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deep. Make it simpler.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    except msgspec.ValidationError as error:
        line = line_of(str(error), yaml.compose(text, yaml.SafeLoader))
        fault = told(str(error), SECTIONS)
        raise ConfigError(f"{path}{line and f', line {line}'}: {fault}{'' if fault.endswith('?') else '.'}") from error
    if os.path.expanduser(file.source.source).startswith("~") or "\0" in file.source.source:
        raise ConfigError(f"{path}: images names {file.source.source!r}, which is no path here. Write the whole path.")
    return file
