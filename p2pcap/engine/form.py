"""Whether an answer has the form that its prompt asks for. Pure.

An engine that takes formats makes no other text, unless max_tokens cuts it; but a server may say that it takes them and
not do so, and what an engine takes a regular expression for need not be what Python does. So every answer is checked.

Always holds: the check ends. The expressions and schemas are the maintainer's own, the texts are the model's, and a
pair of them may take for ever (p2pcap.engine.time_limit). Nothing is fetched, whatever a schema refers to.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema
import referencing
from msgspec import UNSET, UnsetType

from p2pcap.engine.time_limit import limited
from p2pcap.errors import ModelError
from p2pcap.project.sampling import Format

CHECK_SECONDS = 1.0
"""Processor time for one answer; a schema of eight texts takes 0.07 ms, a line of text 0.02 ms."""

Check = Callable[[str], bool]
"""Whether a text, without blanks around it, has the form. Raises ValueError with what is wrong as well as it says no.
May run for ever."""

_EXAMPLES: tuple[Any, ...] = ({}, [], "", 1)
"""Values that every schema has an opinion on."""

_ABOUT = {
    "json": "no JSON object",
    "schema": "no JSON that fits the schema",
    "regex": "not what the regular expression matches",
    "choice": "none of the choices",
}


class Form:
    """What one prompt's answers must look like. Raises ModelError when the format makes no sense."""

    def __init__(self, form: Format | UnsetType) -> None:
        self._kind = "" if form is UNSET else form.kind
        self._check = _any if form is UNSET else _CHECKS[form.kind](form)

    def fault(self, text: str) -> str:
        """Why a text does not have the form, the end of a sentence; empty when it has."""
        if self._check is _any:
            return ""
        try:
            fits = limited(CHECK_SECONDS, lambda: self._check(text))
        except TimeoutError:
            return "not checked within a second against the format"
        except Exception:  # noqa: BLE001 - parts of a schema are unchecked, numbers overflow: jsonschema raises anything
            fits = False
        return "" if fits else _ABOUT[self._kind]


def _any(_text: str) -> bool:
    return True


def _json(_form: Format) -> Check:
    return lambda text: isinstance(_strict(text), dict)


def _schema(form: Format) -> Check:
    try:
        schema = _strict(form.text)
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema, registry=referencing.Registry())  # which fetches nothing
        for example in _EXAMPLES:
            limited(CHECK_SECONDS, lambda: validator.is_valid(example))  # noqa: B023 - called at once
    except Exception as error:  # what a reference leads to is unchecked, and jsonschema raises anything about it
        raise ModelError("A prompt's JSON schema is not valid. Ask the project's maintainer.") from error
    return lambda text: bool(validator.is_valid(_strict(text)))


def _regex(form: Format) -> Check:
    try:
        pattern = re.compile(form.text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ModelError("A prompt's regular expression is not valid. Ask the project's maintainer.") from error
    return lambda text: pattern.fullmatch(text) is not None


def _choice(form: Format) -> Check:
    choices = frozenset(choice.strip() for choice in form.choices)
    return choices.__contains__


_CHECKS: Mapping[str, Callable[[Format], Check]] = {
    "json": _json,
    "schema": _schema,
    "regex": _regex,
    "choice": _choice,
}


def _strict(text: str) -> Any:
    """JSON as RFC 8259 and I-JSON (RFC 7493) have it: no name twice in an object, only finite numbers. Raises
    ValueError."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name comes twice")
    return made


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
