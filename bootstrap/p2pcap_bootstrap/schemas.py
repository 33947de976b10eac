"""Which JSON Schemas an answer can be held to.

Always holds: a schema that passes here is of draft 2020-12, small, needs nothing but itself, and checking any value
against it comes to an end.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from p2pcap_bootstrap.patterns import FormatFault, check_pattern

MAX_FILE = 65_536
"""Bytes of a file with a JSON Schema; written without blanks the schema has 16,384 characters at most."""

MAX_DEPTH = 32
"""Nesting of a JSON Schema."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"

OTHER_REFERENCES = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor")

ABOUT_ONE_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
"""Keywords whose schemas are asked about the very value that theirs is asked about."""


def schema_text(given: dict[str, Any] | str, base: Path) -> str:
    """A schema, or that in the file with this path from `base`, as JSON without blanks. Its keys keep their order: an
    engine makes them in that order. Raises FormatFault."""
    schema = _read(base / os.path.expanduser(given)) if isinstance(given, str) else given
    if not isinstance(schema, dict):
        raise FormatFault("`schema` is no mapping. Write a JSON Schema.")
    if not schema:
        raise FormatFault("`schema` is empty, so whatever is JSON fits it. Say what it may hold, or use `json: true`.")
    _check_size(schema)
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise FormatFault(f"`schema` holds what JSON cannot say: {error}. Put texts in quotes.") from error
    _check(json.loads(text))
    return text


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise FormatFault(f"{path} cannot be read: {error}. Name a file, or write it here.") from error
    if len(data) > MAX_FILE:
        raise FormatFault(f"{path} has over {MAX_FILE} bytes. Shorten the schema.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatFault(f"{path} is not JSON: {error}. Correct it.") from error


def _check_size(schema: dict[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
        if len(level) > MAX_FILE:
            break
    raise FormatFault(f"`schema` is nested over {MAX_DEPTH} deep, or too large. Make it simpler.")


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _check(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise FormatFault(f"`schema` is no JSON Schema, at {where}: {error.message[:200]}. Correct it.") from error
    parts = list(_parts(schema))
    for part in parts:
        _check_keywords(part)
    _check_ends({id(part): {id(asked) for asked in _asked_next(schema, part)} for part in parts})


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a schema."""
    if isinstance(value, dict):
        yield value
    for inner in _inside(value):
        yield from _parts(inner)


def _check_keywords(part: Mapping[str, Any]) -> None:
    if part.get("$schema", DRAFT) != DRAFT:
        raise FormatFault("`schema` is of another draft than 2020-12. Leave `$schema` out, and write it for that one.")
    for key in OTHER_REFERENCES:
        if isinstance(part.get(key), str):
            raise FormatFault(f"`schema` uses {key}. Refer to parts of its own with `$ref: '#/$defs/NAME'`.")
    if isinstance(part.get("pattern"), str):
        check_pattern(part["pattern"], "pattern")
    if isinstance(part.get("patternProperties"), dict):
        for pattern in part["patternProperties"]:
            check_pattern(pattern, "patternProperties")


def _asked_next(schema: dict[str, Any], part: Mapping[str, Any]) -> Iterator[Any]:
    """The parts of the schema that are asked about a value which `part` is asked about."""
    if isinstance(part.get("$ref"), str):
        yield _referred(schema, part["$ref"])
    for key in ABOUT_ONE_VALUE:
        yield part.get(key)
        yield from _inside(part.get(key))


def _referred(schema: Any, reference: str) -> Any:
    """The part of the schema that a reference leads to."""
    at, pointer = schema, reference[1:]
    if not reference.startswith("#") or (pointer and not pointer.startswith("/")):
        raise FormatFault(f"`schema` refers to {reference}, outside of itself. Put that into `$defs`.")
    try:
        for step in unquote(pointer).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            at = at[int(name)] if isinstance(at, list) else at[name]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FormatFault(f"`schema` refers to {reference}, which it does not have. Put that into `$defs`.") from error
    return at


def _check_ends(asked_next: dict[int, set[int]]) -> None:
    """Raises FormatFault when checking a value would go round in a circle."""
    while ended := [part for part, following in asked_next.items() if not following & asked_next.keys()]:
        for part in ended:
            del asked_next[part]
    if asked_next:
        raise FormatFault("`schema` has a `$ref` that leads back to itself. Put a property or an item between.")
