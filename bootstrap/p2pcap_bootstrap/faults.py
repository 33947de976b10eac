"""What is wrong with a project file, told so that people find it: its line, and what may have been meant.

The library that reads the file says what is wrong and at which key ("… - at `$.prompts[0].name`"); YAML knows the lines
of keys, and of what is no value at all.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from p2pcap.yaml_file import line_at, nearest

PATTERNS = {
    "^([0-9a-f]{40})?": "a revision is 40 digits 0-9 and a-f, the whole commit; leave it out for the newest",
    "^(auto|float32|float16|bfloat16)": "it may be auto, float32, float16, bfloat16",
    "^[a-z][a-z0-9_]{0,31}": "a name is 1 to 32 small letters, digits and _, the first a letter",
    "^[a-z0-9_-]{0,32}": "it is up to 32 small letters, digits, _ and -",
}
"""What a value has to look like, by the expression that refuses it (without its end)."""

STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
"""A key, or the number of an element, in the path to a fault."""


def told(message: str, sections: Mapping[str, type[msgspec.Struct]]) -> str:
    """A fault with what may have been meant; `sections` says what each section may hold, by its key."""
    keys = [key for key, _ in _steps(message) if key]
    if unknown := _unknown(message):
        section = sections.get(keys[-1] if keys else "", sections[""])
        others = [key for kind in sections.values() for key in kind.__struct_fields__]
        return message + _meant(unknown, section.__struct_fields__, others)
    if refused := re.search(r"Invalid enum value '(.*)' - at", message):
        section = sections[keys[-2] if len(keys) > 1 else ""]
        allowed = _choices(get_type_hints(section)[keys[-1]])
        near = nearest(refused[1], allowed)
        return f"{message}; it may be {', '.join(allowed)}" + (f"; did you mean {near}?" if near else "")
    return _in_words(message)


def _in_words(message: str) -> str:
    """A fault that the library tells in its own terms."""
    what, _, at_key = message.partition(" - at ")
    at = at_key.replace("$.", "", 1)
    if refused := re.fullmatch(r"Expected `str` matching regex '(.*)'", what):
        says = PATTERNS.get(refused[1].removesuffix(r"\\Z").removesuffix(r"\Z"))
        return f"{at} is not written as it must be" + (f": {says}" if says else "")
    if not at_key and what.startswith("Expected `object`"):
        return "it holds no keys; write name, images, model and prompts into it, each with a colon"
    if what.startswith("Invalid RFC3339"):
        return f"{at} is no date or time; write 2027-01-31, or 2027-01-31 18:00"
    return message


def line_of(message: str, root: yaml.Node | None) -> str:
    """The number of the line in the file that a fault is at, or of the section it is in; empty for the whole file."""
    node, line = root, ""
    steps = _steps(message)
    if unknown := _unknown(message):
        steps.append((unknown, ""))
    for key, number in steps:
        found = _below(node, key, number)
        if found is None:
            break
        line, node = str(line_at(found[0])), found[1]
    return line


def _below(node: yaml.Node | None, key: str, number: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Where an entry of a mapping or a sequence begins, and its value."""
    if isinstance(node, yaml.MappingNode) and key:
        # Of a key that is given twice YAML takes the last one.
        return next(((name, value) for name, value in reversed(node.value) if name.value == key), None)
    if isinstance(node, yaml.SequenceNode) and number and int(number) < len(node.value):
        return node.value[int(number)], node.value[int(number)]
    return None


def _steps(message: str) -> list[tuple[str, str]]:
    path = re.search(r"`\$([^`]*)`$", message)
    return STEP.findall(path[1]) if path else []


def _unknown(message: str) -> str:
    found = re.search(r"unknown field `([^`]*)`", message)
    return found[1] if found else ""


def _meant(word: str, here: tuple[str, ...], elsewhere: list[str]) -> str:
    near = nearest(word, here, elsewhere)
    return f"; did you mean `{near}`?" if near else ""


def _choices(kind: Any) -> list[str]:
    """The texts that a key with this type may have."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for inner in get_args(kind) for choice in _choices(inner)]
