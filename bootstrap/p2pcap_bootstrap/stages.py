"""What braces in a project's prompts stand for, settled when it is signed.

In project.yaml `{word}` is a place: for a field of the images, or for the answer to a prompt before this one; a word
that is neither is an error, since it would reach the model as it is. `{{word}}` stands for the letters "{word}".

Always holds: in a signed task every `{word}` that is filled is meant to be, and names one thing.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2pcap.errors import ConfigError
from p2pcap.project.prompts import fields_in

WORD = re.compile(r"\{\{(?P<letters>\w+)\}\}|\{(?P<place>\w+)\}")
"""What looks like a place, or like letters in braces. Braces around anything but one word are text."""


@dataclass(frozen=True)
class Asking:
    """A text that is part of the question of prompt `name`, for people (`what`), and the prompts before and from it
    on."""

    what: str
    text: str
    before: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


def fields_asked(askings: Sequence[Asking], fields: Sequence[str]) -> tuple[str, ...]:
    """Which of the images' `fields` the texts have a place for. Raises ConfigError for a place that stands for nothing,
    or for two things."""
    for asking in askings:
        for word in places_in(asking.text):
            _check(word, asking, fields)
    return tuple(dict.fromkeys(name for asking in askings for name in fields_in(asking.text, fields)))


def places_in(text: str) -> list[str]:
    """The words that the text has places for."""
    return [found["place"] for found in WORD.finditer(text) if found["place"] is not None]


def signed_text(text: str, names: Sequence[str]) -> str:
    """`text` as the record holds it, where `names` are what is filled in: only of those are double braces undone later,
    so those around other words are undone here."""

    def undo(found: re.Match[str]) -> str:
        letters = found["letters"]
        return found[0] if letters is None or letters in names else "{" + letters + "}"

    return WORD.sub(undo, text)


def _check(word: str, asking: Asking, fields: Sequence[str]) -> None:
    known = (*fields, *asking.before)
    if word in fields and word in asking.before:
        raise ConfigError(
            f"{asking.what} has a place for {{{word}}}, which is a field of the images and a prompt before it. Give "
            "the prompt another name."
        )
    if word in known:
        return
    if word in asking.later:
        raise ConfigError(
            f"{asking.what} has a place for {{{word}}}, whose answer is not there by then. Put that prompt before it."
        )
    near = difflib.get_close_matches(word, known, n=1)
    asked = f"did you mean {{{near[0]}}}? For" if near else "Correct it; for"
    raise ConfigError(
        f"{asking.what} has a place for {{{word}}}, which is not in images.fields and no prompt before it; "
        f"{asked} the letters themselves write {{{{{word}}}}}."
    )
