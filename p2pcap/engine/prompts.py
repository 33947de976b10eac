"""The task's prompts as the model's chat template puts them. Runs in the engine's process only.

Always holds: whatever a dataset says of an image, a prompt has one image, and the turns that the template made.
"""

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from p2pcap.engine.base import NO_FIELDS
from p2pcap.engine.control_tokens import ControlTokens
from p2pcap.errors import ImageError, ModelError
from p2pcap.project.prompts import asked, fields_in, fill
from p2pcap.project.task import Prompt, Task

REASON_CHARACTERS = 200

_EXAMPLE = Image.new("RGB", (64, 64), "grey")

Render = Callable[[list[Any]], Mapping[str, Any]]
"""Puts messages into the model's chat template: "prompt", the text, or "prompt_token_ids", or both."""


class Prompts:
    """The task's prompts, rendered by `render`. Raises ModelError when the model has no chat template, or none for an
    image."""

    def __init__(self, render: Render, control: ControlTokens, task: Task) -> None:
        self._render = render
        self._control = control
        self._task = task
        self._names: tuple[str, ...] = task.fields or ()
        self._asked = asked(task)
        self._heads = [self._head(prompt, NO_FIELDS) for prompt in task.prompts]

    def heads(self, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        """Each prompt about an image with these fields, as tokens or text, with one image token where the image goes.

        Prompts that ask for no field are as they were made at the start. Raises ImageError when the model's template
        does not take the fields.
        """
        values = {name: self._control.without(fields[name]) for name in self._asked if fields.get(name)}
        return [self._filled(number, values) for number in range(len(self._heads))] if values else self._heads

    def _filled(self, number: int, values: Mapping[str, str]) -> dict[str, Any]:
        """One prompt with the fields put in; without them when they would change the prompt's own tokens all the same,
        as a tokenizer may bring about that reads other letters as these."""
        prompt, plain = self._task.prompts[number], self._heads[number]
        if not fields_in(self._task.system + prompt.text, self._names):
            return plain
        try:
            head = self._head(prompt, values)
        except ModelError as error:
            raise ImageError("rejected", "The model's chat template does not take the image's fields.") from error
        return head if self._control.in_prompt(head) == self._control.in_prompt(plain) else plain

    def _head(self, prompt: Prompt, values: Mapping[str, str]) -> dict[str, Any]:
        text = fill(prompt.text, self._names, values)
        messages: list[Any] = [
            {"role": "user", "content": [{"type": "image_pil", "image_pil": _EXAMPLE}, {"type": "text", "text": text}]}
        ]
        if self._task.system:
            messages.insert(0, {"role": "system", "content": fill(self._task.system, self._names, values)})
        try:
            rendered = self._render(messages)
        except Exception as error:  # a chat template is a program of the model's, and may raise anything
            raise ModelError(f"The model takes no image in a chat: {complaint(error)} Use another model.") from error
        return {name: rendered[name] for name in ("prompt", "prompt_token_ids") if name in rendered}


def complaint(error: Exception) -> str:
    """What an error says, on one line; of a validation error only the part that says what is wrong."""
    text = str(error).partition("Value error, ")[2] or str(error) or type(error).__name__
    return one_line(text.partition(" [type=")[0])


def one_line(text: str) -> str:
    """The beginning of a text, on one line."""
    return " ".join(text.split())[:REASON_CHARACTERS]
