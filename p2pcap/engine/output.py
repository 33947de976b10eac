"""What is made of a model's text, and which texts are no answer. Pure, and the same for every engine.

The rules are the task's (p2pcap.project.sampling, OutputPolicy), in the order in which they stand there; the format
comes last, so that what is checked is what is kept.

Always holds: a text that comes out is one that the task takes; any other raises ImageError with one of the codes of
p2pcap.project.failures.
"""

from p2pcap.engine.form import Form
from p2pcap.engine.repetition import loops
from p2pcap.errors import ImageError
from p2pcap.project.sampling import OutputPolicy

FILTERED = "content_filter"
"""The word of a server that ended an answer because of what it says."""

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})
"""Models write "I'm" with any of these."""


class Policy:
    """What one prompt's texts are measured by."""

    def __init__(self, policy: OutputPolicy, form: Form) -> None:
        self._policy = policy
        self._form = form
        self._refusals = tuple(_folded(marker.strip()) for marker in policy.refusals if marker.strip())

    def answer(self, raw: str, finish: str) -> str:
        """The answer in what the model made; `finish` is why it ended. Raises ImageError when there is none."""
        if finish == FILTERED:
            raise ImageError("refusal", "The server withholds the answer because of what it says.")
        if finish not in ("stop", "length"):
            raise ImageError("rejected", f"The engine gave the image up ({finish}).")
        text = self._cut(raw)
        self._must_be_answer(text, whole=finish == "stop" or len(text) < len(raw.strip()))
        if fault := self._form.fault(text):
            raise ImageError("bad-format", f"The answer is {fault}.")
        return text

    def _cut(self, raw: str) -> str:
        """The text before the first of the task's marks, without blanks around it."""
        places = (raw.find(marker) for marker in self._policy.cut)
        return raw[: min((place for place in places if place >= 0), default=len(raw))].strip()

    def _must_be_answer(self, text: str, whole: bool) -> None:
        if self._refusals and _folded(text).startswith(self._refusals):
            raise ImageError("refusal", "The model refuses to answer.")
        if self._policy.loops and loops(text):
            raise ImageError("repetition", "The answer repeats itself to its end.")
        if len(text) < self._policy.least:
            raise ImageError("empty-output", _short(len(text), self._policy.least))
        if self._policy.whole and not whole:
            raise ImageError("unfinished", "The answer was cut at max_tokens.")


def _folded(text: str) -> str:
    return text.translate(_APOSTROPHES).casefold()


def _short(length: int, least: int) -> str:
    if not length:
        return "The model gave an empty answer."
    return f"The answer has {length} characters; the project wants {least}."
