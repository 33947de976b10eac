"""What makes no sense in a task, and what its maintainer should know of it, said when it is signed.

Always holds: what each record checks of itself is not checked again here; here is what several settings together say.
"""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from msgspec import UNSET, to_builtins

from p2pcap.errors import ConfigError, ImageError
from p2pcap.project.prompts import fields_in, uses
from p2pcap.project.sampling import Sampling
from p2pcap.project.task import Prompt, Task

MAX_ANSWER_TOKENS = 65_536
"""All prompts' max_tokens together: what one image may generate, so that its row always fits a body."""

GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""A tag that transformers adds to Jinja; it says what to train on and puts nothing out."""

UNSCORABLE = ("min_tokens", "bad_words", "allowed_token_ids", "logit_bias", "presence_penalty", "frequency_penalty")
"""Settings that let the model choose another token than the likeliest of its own distribution, which is what scoring an
answer looks at (with temperature, repetition_penalty, and a format)."""


NEVER: dict[str, str] = {
    "refusal": "begins with one of output.refusals",
    "repetition": "repeats itself to its end (output.loops)",
    "empty-output": "is shorter than output.least",
}
"""Why a choice is no answer, by the code that such an answer gets."""


def check(task: Task) -> None:
    """Raises ConfigError for what does not go together."""
    check_texts(to_builtins(task, builtin_types=(bytes,)))
    _check_names(task)
    _check_images(task)
    _check_model(task)
    for prompt in task.prompts:
        _check_sampling(prompt.name, task.sampling_of(prompt))
        _check_choices(task, prompt)
    if sum(task.sampling_of(prompt).max_tokens for prompt in task.prompts) > MAX_ANSWER_TOKENS:
        raise ConfigError(
            f"The max_tokens of all prompts together are over {MAX_ANSWER_TOKENS}. Lower sampling.max_tokens."
        )
    if task.chat_template is not UNSET and (fault := _template_fault(task.chat_template)):
        raise ConfigError(f"chat_template is no Jinja template: {fault}. Correct it.")


def check_texts(value: Any, place: str = "") -> None:
    """Raises ConfigError for a text that has no UTF-8: YAML's "\\ud83d" is half of a character, also where the other
    half follows."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in inner:
        check_texts(part, f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}".lstrip("."))
    if isinstance(value, str) and value != value.encode(errors="replace").decode():
        raise ConfigError(
            f"{place} in project.yaml holds half of a character. Write the whole one, as itself or as \\U and 8 digits."
        )


def notes(task: Task) -> Iterator[str]:
    """What follows from the task's settings, one line each."""
    found = {prompt.name: list(_unscorable(task, prompt)) for prompt in task.prompts}
    if said := "; ".join(f"{name} ({', '.join(settings)})" for name, settings in found.items() if settings):
        yield f"captions made so cannot be checked by scoring: {said}"
    if task.chat_template is not UNSET and not _has_jinja():
        yield "chat_template was not checked: jinja2 is not installed here"
    if task.takes("openai") and (beyond := list(_beyond_servers(task))):
        yield (
            f"a server with OpenAI's interface need not follow {', '.join(beyond)}: with engines: [vllm] no results of "
            "such servers are taken"
        )


def _check_names(task: Task) -> None:
    names = [prompt.name for prompt in task.prompts]
    if len(set(names)) != len(names):
        raise ConfigError(
            "Two prompts in project.yaml have the same name. Give each its own: it is a column in exports."
        )


def _check_images(task: Task) -> None:
    answers = [f"{needed.stage}.{name}" for needed in task.needs for name in needed.prompts]
    if not answers and not any(prompt.shows_image for prompt in task.prompts):
        raise ConfigError("No prompt shows the model the image. Leave `image: false` out of one of them.")
    for number, prompt in enumerate(task.prompts):
        texts = task.system_of(prompt) + "\n" + prompt.text
        if not (prompt.shows_image or uses(task, number) or fields_in(texts, (*(task.fields or ()), *answers))):
            raise ConfigError(
                f"Prompt {prompt.name} is the same for every image: it shows none, and uses no field and no answer "
                "to a prompt before it. Leave its `image: false` out, or put {name} into it."
            )


def _check_model(task: Task) -> None:
    if task.remote_code is True and task.model.files:
        raise ConfigError(
            "remote_code needs a model on the Hub: of a model directory only data files are handed round. Put the "
            "model there, or leave remote_code out."
        )


def _check_sampling(name: str, sampling: Sampling) -> None:
    if sampling.min_tokens is not UNSET and sampling.min_tokens > sampling.max_tokens:
        raise ConfigError(
            f"Prompt {name} has min_tokens {sampling.min_tokens} above its max_tokens {sampling.max_tokens}. Lower it."
        )
    allowed = sampling.allowed_token_ids or ()
    missing = set(sampling.stop_token_ids or ()).difference(allowed)
    if allowed and missing:
        raise ConfigError(
            f"Prompt {name} ends at token {min(missing)}, which its allowed_token_ids leave out. Add it there."
        )


def _check_choices(task: Task, prompt: Prompt) -> None:
    """Raises ConfigError for a choice that can never be an answer."""
    for choice in () if prompt.format is UNSET else prompt.format.choices:
        if why := _never(choice, task, task.sampling_of(prompt)):
            raise ConfigError(
                f"Prompt {prompt.name} has the choice {choice!r}, which is never an answer: it {why}. Change the one "
                "or the other."
            )


def _never(choice: str, task: Task, sampling: Sampling) -> str:
    """Why a choice is no answer, empty where it is one. The rules are the engine's own."""
    from p2pcap.engine.form import Form
    from p2pcap.engine.output import Policy

    ends = choice[:-1] if sampling.include_stop_str_in_output is True else choice
    if any(mark in ends for mark in sampling.stop):
        return "is cut by sampling.stop"
    try:
        return "" if Policy(task.policy, Form(UNSET)).answer(choice, "stop") == choice else "is cut by output.cut"
    except ImageError as error:
        return "is cut by output.cut" if any(mark in choice for mark in task.policy.cut) else NEVER[error.code]


def _unscorable(task: Task, prompt: Prompt) -> Iterator[str]:
    """The settings of a prompt that keep others from checking its answers by scoring."""
    sampling = task.sampling_of(prompt)
    if sampling.temperature:
        yield "temperature above 0"
    if sampling.repetition_penalty != Sampling().repetition_penalty:
        yield "repetition_penalty"
    yield from (name for name in UNSCORABLE if getattr(sampling, name) is not UNSET)
    if prompt.format is not UNSET:
        yield "format"


def _beyond_servers(task: Task) -> Iterator[str]:
    """The settings that servers have ways of their own about."""
    if task.chat_template is not UNSET:
        yield "chat_template"
    if task.image_processor is not UNSET:
        yield "image_processor"
    if task.quantization:
        yield "quantization"


def _has_jinja() -> bool:
    return find_spec("jinja2") is not None


def _template_fault(text: str) -> str | None:
    """Why Jinja cannot read a chat template; None where it can, or is not installed: it comes with vLLM."""
    if not _has_jinja():
        return None
    from jinja2 import Environment, TemplateSyntaxError

    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(GENERATION.sub("", text))
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    return None
