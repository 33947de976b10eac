"""From what project.yaml says to the task that is signed.

Always holds: a task that was made here has passed p2pcap_bootstrap.checking, and a setting that has its default is left
out of it.
"""

import json
import os
from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType

from p2pcap.errors import ConfigError
from p2pcap.project.sampling import OutputPolicy, Sampling
from p2pcap.project.task import ENGINE_KINDS, MAX_TEMPLATE, EngineKind, Prompt, Task
from p2pcap_bootstrap.checking import check
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.formats import format_of
from p2pcap_bootstrap.models import find_model
from p2pcap_bootstrap.sections import DEFAULTS, PromptFile
from p2pcap_bootstrap.stages import Asking, fields_asked, signed_text


def make_task(file: ProjectFile, base: Path) -> Task:
    """The task that `file` describes; relative paths are taken from `base`. Raises ModelError, ConfigError."""
    fields = fields_asked(_askings(file), _fields(file))
    sampling = file.sampling.over(DEFAULTS).record()
    task = Task(
        find_model(file.model, file.revision, base),
        tuple(_prompt(file, number, fields, sampling, base) for number in range(len(file.prompts))),
        sampling,
        file.dtype,
        file.quantization,
        signed_text(file.system, fields),
        file.image_edge,
        file.max_model_len,
        fields or UNSET,
        UNSET if file.output == OutputPolicy() else file.output,
        _chat_template(file.chat_template, base),
        _image_processor(file.image_processor),
        file.remote_code or UNSET,
        _engines(file.engines),
    )
    check(task)
    return task


def _fields(file: ProjectFile) -> tuple[str, ...]:
    """The fields of an image that prompts may have a place for."""
    return tuple(dict.fromkeys((*file.source.fields, *filter(None, [file.source.caption_field]))))


def _askings(file: ProjectFile) -> list[Asking]:
    """Every text that is put to the model. The task's system text goes before all prompts, so it can use no answer."""
    names = [prompt.name for prompt in file.prompts]
    askings = [Asking("The project's system text", file.system, (), tuple(names))]
    for number, prompt in enumerate(file.prompts):
        around = tuple(names[:number]), tuple(names[number:])
        askings.append(Asking(f"Prompt {prompt.name}", prompt.text, *around))
        if prompt.system is not UNSET:
            askings.append(Asking(f"The system text of prompt {prompt.name}", prompt.system, *around))
    return askings


def _prompt(file: ProjectFile, number: int, fields: tuple[str, ...], task: Sampling, base: Path) -> Prompt:
    """The record of a prompt; `task` is how the task samples."""
    prompt: PromptFile = file.prompts[number]
    filled = (*fields, *(earlier.name for earlier in file.prompts[:number]))
    own = prompt.sampling.over(file.sampling.over(DEFAULTS)).record()
    return Prompt(
        prompt.name,
        signed_text(prompt.text, filled),
        UNSET if prompt.system is UNSET else signed_text(prompt.system, filled),
        UNSET if prompt.image else False,
        UNSET if own == task else own,
        format_of(prompt.format, prompt.name, base) or UNSET,
    )


def _chat_template(text: str, base: Path) -> str | UnsetType:
    """The template, or that in the file with this path."""
    path = base / os.path.expanduser(text)
    if text.endswith(".jinja") and "\n" not in text:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"chat_template names {path}, which cannot be read: {error}.") from error
    if len(text) > MAX_TEMPLATE:
        raise ConfigError(f"chat_template has over {MAX_TEMPLATE} characters. Shorten it.")
    return text or UNSET


def _image_processor(arguments: dict[str, Any]) -> str | UnsetType:
    try:
        text = json.dumps(arguments, allow_nan=False, separators=(",", ":"), sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"image_processor holds what JSON cannot say: {error}. Put texts in quotes.") from error
    return text if arguments else UNSET


def _engines(kinds: tuple[EngineKind, ...]) -> tuple[EngineKind, ...] | UnsetType:
    """In one order, each once."""
    return tuple(kind for kind in ENGINE_KINDS if kind in kinds) or UNSET
