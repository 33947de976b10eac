"""Which regular expressions an answer can be held to.

Always holds: what passes here means the same to Python, which checks answers, and to the grammars of vLLM's engines,
which make them.
"""

import re
import warnings

NO_GRAMMAR = re.compile(r"\(\?(?!:)|[*+?}]\+|\\[1-9AZbB]")
"""What Python reads in a regular expression and the grammars do not, or read as something else: groups other than
(?:...), possessive repeats, references to groups, anchors and word bounds (tried with xgrammar 0.2)."""

PLAIN = re.compile(r"\\[^1-9AZbB]|\[\^?\]?(?:\\.|[^\]\\])*\]")
"""Escaped characters and sets, in which those mean nothing."""


class FormatFault(Exception):
    """What is wrong with a format, in two sentences."""


def check_pattern(text: str, key: str) -> None:
    """Raises FormatFault, which names `key`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise FormatFault(f"`{key}` is no regular expression: {error}. Correct it.") from error
    if found := NO_GRAMMAR.search(PLAIN.sub("_", text)):
        raise FormatFault(f"`{key}` uses {found[0]}, which an engine's grammar does not know. Write it without.")
