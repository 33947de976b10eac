"""How alike two answers are, where the tokens of one cannot be read by a model: a server's, or one that was sampled
without a seed. Pure.

Two honest answers of one model to one question share most words and most pairs of words, in whatever order they come;
answers to different images share the words of the language. Both counts together tell them apart at a cost that grows
with the length and no faster: the texts are strangers'.
"""

import re
import unicodedata
from collections import Counter
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

MAX_CHARACTERS = 16_384
"""Of each text; what is behind it is not compared."""

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
"""In Chinese and Japanese, which put no blanks between words, each character."""


def likeness(one: str, other: str) -> float:
    """From 0 (no word in common) to 1 (the same words in nearly the same order). Neither case, punctuation, nor the
    form in which letters are encoded play a part; two texts without any word are alike when they are equal."""
    ours, theirs = _words(one), _words(other)
    if not ours and not theirs:
        return float(one.strip() == other.strip())
    singles = _dice(Counter(ours), Counter(theirs))
    pairs = _dice(Counter(pairwise(ours)), Counter(pairwise(theirs)))
    return (singles + pairs) / 2 if len(ours) > 1 or len(theirs) > 1 else singles


def _words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold())


def _dice(one: Counter[T], other: Counter[T]) -> float:
    """Twice what both have in common, of what they have in all (Dice)."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0
