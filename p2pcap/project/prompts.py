"""A prompt with what it has places for put into it: what the dataset says of an image, and answers to earlier prompts.

`{name}` stands for the image's field of that name, where the task lists the name among its `fields`, or for the answer
to the prompt of that name, where it comes before this one; `{{name}}` then stands for the letters "{name}". All other
braces are text, so a prompt may hold JSON as it is.

Always holds: a value is put in once and never looked at again, so that it cannot name other places; all values together
add MAX_FILLED characters to a text at most, because a model reads only so much; and no prompt uses its own answer or a
later one, so asking them in order always works.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from msgspec import UNSET

from p2pcap.project.task import Task

MAX_VALUE = 2_048
"""Characters of a field or an answer in a prompt; what is longer is cut."""

MAX_FILLED = 8_192
"""Characters that all of them together add to a text; what comes after is cut."""


def fill(text: str, names: Sequence[str], values: Mapping[str, str]) -> str:
    """`text` with the values of `names` put in. One that `values` lacks is empty."""
    room = MAX_FILLED

    def replace(found: re.Match[str]) -> str:
        nonlocal room
        if found["literal"] is not None:
            return "{" + found["literal"] + "}"
        value = values.get(found["field"], "")[: min(MAX_VALUE, room)]
        room -= len(value)
        return value

    return _pattern(tuple(names)).sub(replace, text) if names else text


def fields_in(text: str, names: Sequence[str]) -> list[str]:
    """Which of `names` the text has a place for."""
    found = _pattern(tuple(names)).finditer(text) if names else ()
    return list(dict.fromkeys(place["field"] for place in found if place["field"] is not None))


def asked(task: Task) -> tuple[str, ...]:
    """The fields of an image, and answers of other stages, that the task's prompts or their system texts have a place
    for."""
    names = (*(() if task.fields is UNSET else task.fields), *inputs(task))
    texts = dict.fromkeys(text for prompt in task.prompts for text in (task.system_of(prompt), prompt.text))
    return tuple(dict.fromkeys(name for text in texts for name in fields_in(text, names)))


def places(task: Task, number: int) -> tuple[str, ...]:
    """What braces may name in prompt `number` and its system text: the task's fields, answers of other stages, then the
    prompts before it. The answer to a prompt that has a field's name goes before the field."""
    fields = () if task.fields is UNSET else task.fields
    earlier = (prompt.name for prompt in task.prompts[:number])
    return tuple(dict.fromkeys((*fields, *inputs(task), *earlier)))


def inputs(task: Task) -> tuple[str, ...]:
    """What braces may name of other tasks' answers: "stage.prompt"."""
    return tuple(f"{needed.stage}.{name}" for needed in task.needs for name in needed.prompts)


def uses(task: Task, number: int) -> tuple[int, ...]:
    """The numbers of the prompts, all before it, whose answers prompt `number` needs in its text or its system text."""
    prompt = task.prompts[number]
    names = {name for text in (task.system_of(prompt), prompt.text) for name in fields_in(text, places(task, number))}
    return tuple(earlier for earlier in range(number) if task.prompts[earlier].name in names)


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    either = "|".join(map(re.escape, names))
    return re.compile(r"\{\{(?P<literal>" + either + r")\}\}|\{(?P<field>" + either + r")\}")
