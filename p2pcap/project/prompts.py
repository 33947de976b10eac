"""A prompt with what the dataset says of an image put into it.

`{name}` stands for the image's field of that name, where the task lists the name among its `fields`; `{{name}}` then
stands for the letters "{name}". All other braces are text, so a prompt may hold JSON as it is.

Always holds: what a dataset says is put in once and never looked at again, so that it cannot name other fields; and it
adds MAX_FILLED characters to a prompt at most, because a model reads only so much.
"""

import re
from collections.abc import Mapping, Sequence

from msgspec import UNSET

from p2pcap.project.task import Task

MAX_VALUE = 2_048
"""Characters of a field's text in a prompt; what is longer is cut."""

MAX_FILLED = 8_192
"""Characters that all fields together add to a prompt; what comes after is cut."""


def fill(text: str, names: Sequence[str], values: Mapping[str, str]) -> str:
    """`text` with the fields `names` put in. A field that `values` lacks is empty."""
    room = MAX_FILLED

    def replace(found: re.Match[str]) -> str:
        nonlocal room
        if found["literal"] is not None:
            return "{" + found["literal"] + "}"
        value = values.get(found["field"], "")[: min(MAX_VALUE, room)]
        room -= len(value)
        return value

    return _places(names).sub(replace, text) if names else text


def fields_in(text: str, names: Sequence[str]) -> list[str]:
    """Which of `names` the text has a place for."""
    found = _places(names).finditer(text) if names else ()
    return list(dict.fromkeys(place["field"] for place in found if place["field"] is not None))


def asked(task: Task) -> tuple[str, ...]:
    """The fields that the task's prompts or its system text have a place for."""
    names = () if task.fields is UNSET else task.fields
    texts = (task.system, *(prompt.text for prompt in task.prompts))
    return tuple(dict.fromkeys(name for text in texts for name in fields_in(text, names)))


def _places(names: Sequence[str]) -> re.Pattern[str]:
    either = "|".join(map(re.escape, names))
    return re.compile(r"\{\{(?P<literal>" + either + r")\}\}|\{(?P<field>" + either + r")\}")
