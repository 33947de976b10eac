"""What braces in a project's prompts stand for, settled when it is signed.

In project.yaml `{word}` is a place: for a field of the images, or for the answer to a prompt before this one;
`{column:name}` is a field of any name; `{stage.prompt}` is the answer of another stage. One that stands for nothing is
an error, since it would reach the model as it is. Doubled braces stand for the letters themselves.

Always holds: in a signed task every `{word}` that is filled is meant to be, and names one thing.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2pcap.project.prompts import fields_in

COLUMN = "column:"

FORM = r"column:[^{}]+|\w+(?:\.\w+)?"
WORD = re.compile(r"\{\{(?P<letters>" + FORM + r")\}\}|\{(?P<place>" + FORM + r")\}")
"""What looks like a place, or like letters in braces. Braces around anything else are text."""


class Misplaced(Exception):
    """A place that stands for nothing, or for two things, told in two sentences; `at` is where the text stands in
    project.yaml."""

    def __init__(self, says: str, at: str) -> None:
        super().__init__(says)
        self.at = at


@dataclass(frozen=True)
class Asking:
    """A text that is put to the model: for people (`what`), where it stands in project.yaml (`at`), the prompts of its
    stage that come before it and those that do not, and the answers of other stages ("stage.prompt")."""

    what: str
    text: str
    before: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    at: str = "$"


def fields_asked(askings: Sequence[Asking], fields: Sequence[str]) -> tuple[str, ...]:
    """Which of the images' `fields` the texts have a place for. Raises Misplaced for a place that stands for nothing,
    or for two things."""
    for asking in askings:
        for word in places_in(asking.text):
            _check(word, asking, fields)
    texts = [asking.text.replace("{" + COLUMN, "{") for asking in askings]
    return tuple(dict.fromkeys(name for text in texts for name in fields_in(text, fields)))


def places_in(text: str) -> list[str]:
    """The words that the text has places for."""
    return [found["place"] for found in WORD.finditer(text) if found["place"] is not None]


def stages_in(text: str) -> list[tuple[str, str]]:
    """The (stage, prompt) whose answers the text may have places for; a field may have such a name too."""
    words = [word.partition(".") for word in places_in(text) if not word.startswith(COLUMN)]
    return [(stage, prompt) for stage, mark, prompt in words if mark]


def signed_text(text: str, names: Sequence[str]) -> str:
    """`text` as the record holds it, where `names` are what is filled in: a column is its bare name there, and only of
    `names` are double braces undone later, so those around other words are undone here."""

    def undo(found: re.Match[str]) -> str:
        letters = found["letters"]
        if letters is None:
            return "{" + found["place"].removeprefix(COLUMN) + "}"
        return found[0] if letters in names else "{" + letters + "}"

    return WORD.sub(undo, text)


def _check(word: str, asking: Asking, fields: Sequence[str]) -> None:
    name, answers = word.removeprefix(COLUMN), (*asking.before, *asking.answers)
    if name in fields and name in answers:
        raise Misplaced(
            f"{asking.what} has a place for {{{name}}}, which is a field of the images and a prompt before it. Give "
            "the prompt another name.",
            asking.at,
        )
    if name in fields or word in answers:
        return
    if word in asking.later:
        raise Misplaced(
            f"{asking.what} has a place for {{{word}}}, whose answer is not there by then. Put that prompt before it.",
            asking.at,
        )
    raise Misplaced(_unknown(word, asking, fields), asking.at)


def _unknown(word: str, asking: Asking, fields: Sequence[str]) -> str:
    columns = [COLUMN + name for name in fields] if word.startswith(COLUMN) else []
    near = difflib.get_close_matches(word, columns or (*fields, *asking.before, *asking.answers), n=1)
    asked = f"; did you mean {{{near[0]}}}? For" if near else ". Correct it; for"
    known = "not in images.fields" if word.startswith(COLUMN) else "not in images.fields and no prompt before it"
    return (
        f"{asking.what} has a place for {{{word}}}, which is {known}{asked} the letters themselves write "
        f"{{{{{word}}}}}."
    )
