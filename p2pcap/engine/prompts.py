"""The task's prompts as the model's chat template puts them. Runs in the engine's process only.

Always holds: whatever a dataset says of an image, or the model itself in an earlier answer, a prompt has one image (or
none, where the task shows none), and the turns that the template made.
"""

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from p2pcap.engine.base import NO_FIELDS
from p2pcap.engine.control_tokens import ControlTokens
from p2pcap.engine.time_limit import limited
from p2pcap.errors import ImageError, ModelError
from p2pcap.project.prompts import fields_in, fill, places
from p2pcap.project.task import Task

REASON_CHARACTERS = 200

RENDER_SECONDS = 2.0
"""Processor time for one prompt: a chat template is a program, and takes milliseconds."""

EXAMPLE = Image.new("RGB", (64, 64), "grey")
"""A picture that stands for any."""

Render = Callable[[list[Any]], Mapping[str, Any]]
"""Puts messages into the model's chat template: "prompt", the text, or "prompt_token_ids", or both."""


class Prompts:
    """The task's prompts, rendered by `render`. Raises ModelError when the model has no chat template, or none for an
    image."""

    def __init__(self, render: Render, control: ControlTokens, task: Task) -> None:
        self._render = render
        self._control = control
        self._task = task
        numbers = range(len(task.prompts))
        self._names = [places(task, number) for number in numbers]
        self._named = [self._asked(number) for number in numbers]
        self._heads = [self._head(number, NO_FIELDS) for number in numbers]

    def head(self, number: int, values: Mapping[str, str]) -> dict[str, Any]:
        """That prompt with the image's fields and the earlier answers in `values` put in, as tokens or text, with one
        image token where the image goes.

        A prompt that names none of them is as it was made at the start; so is one whose own tokens would change with
        them, as a tokenizer may bring about that reads other letters as these. Raises ImageError when the model's
        template does not take the values.
        """
        plain = self._heads[number]
        used = {name: self._control.without(values[name]) for name in self._named[number] if values.get(name)}
        if not used:
            return plain
        try:
            head = self._head(number, used)
        except ModelError as error:
            raise ImageError("rejected", "The model's chat template does not take the image's fields.") from error
        return head if self._control.in_prompt(head) == self._control.in_prompt(plain) else plain

    def _asked(self, number: int) -> list[str]:
        """The names that the prompt or its system text has a place for."""
        prompt = self._task.prompts[number]
        return fields_in(self._task.system_of(prompt) + "\n" + prompt.text, self._names[number])

    def _head(self, number: int, values: Mapping[str, str]) -> dict[str, Any]:
        prompt, names = self._task.prompts[number], self._names[number]
        content: list[Any] = [{"type": "text", "text": fill(prompt.text, names, values)}]
        if prompt.shows_image:
            content.insert(0, {"type": "image_pil", "image_pil": EXAMPLE})
        messages: list[Any] = [{"role": "user", "content": content}]
        if system := self._task.system_of(prompt):
            messages.insert(0, {"role": "system", "content": fill(system, names, values)})
        try:
            rendered = limited(RENDER_SECONDS, lambda: self._render(messages))
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
