"""From what project.yaml says to the task that is signed.

Always holds: a task that was made here has passed p2pcap_bootstrap.checking, and a setting that has its default is left
out of it.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType

from p2pcap.errors import ConfigError
from p2pcap.project.sampling import OutputPolicy, Sampling
from p2pcap.project.task import ENGINE_KINDS, MAX_TEMPLATE, EngineKind, Input, Prompt, Task
from p2pcap_bootstrap.checking import check
from p2pcap_bootstrap.formats import format_of
from p2pcap_bootstrap.models import find_model
from p2pcap_bootstrap.places import Asking, fields_asked, signed_text
from p2pcap_bootstrap.project_file import Section
from p2pcap_bootstrap.sections import DEFAULTS, PromptFile


def make_task(section: Section, asked: Sequence[Asking], inputs: Sequence[Input], base: Path) -> Task:
    """The task of a stage; `asked` are its texts, `inputs` what it needs of others; relative paths are taken from
    `base`. Raises ModelError, ConfigError."""
    file, fields = section.file, fields_asked(asked, section.file.fields)
    answers = tuple(f"{needed.stage}.{name}" for needed in inputs for name in needed.prompts)
    sampling = file.sampling.over(DEFAULTS).record()
    task = Task(
        find_model(file.model or "", file.revision, base),
        tuple(_prompt(section, number, (*fields, *answers), sampling, base) for number in range(len(section.prompts))),
        sampling,
        file.dtype,
        file.quantization,
        signed_text(file.system, (*fields, *answers)),
        file.image_edge,
        file.max_model_len,
        fields or UNSET,
        UNSET if file.output == OutputPolicy() else file.output,
        _chat_template(file.chat_template, base),
        _image_processor(file.image_processor),
        file.remote_code or UNSET,
        _engines(file.engines),
        tuple(inputs) or UNSET,
    )
    check(task)
    return task


def _prompt(section: Section, number: int, names: tuple[str, ...], task: Sampling, base: Path) -> Prompt:
    """The record of a prompt. `names` are filled in everywhere; `task` is how the task samples."""
    prompt: PromptFile = section.prompts[number]
    filled = (*names, *(earlier.name for earlier in section.prompts[:number]))
    own = prompt.sampling.over(section.file.sampling.over(DEFAULTS)).record()
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
