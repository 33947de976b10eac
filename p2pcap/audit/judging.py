"""The verdict on one item, from what the engine says of its answers and from the stage's calibration. Pure.

Always holds: what cannot be told is "unsure" and never "bad": an engine that is broken makes no cheats of others.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from p2pcap.engine.base import Score
from p2pcap.project.audit import Audit, Bound, Likeness, Limits

Call = Literal["ok", "unsure", "bad"]
ORDER: tuple[Call, ...] = ("ok", "unsure", "bad")

LEAST_TOKENS = 16
"""A shorter answer counts as one of so many tokens: a near tie in an answer of one word says little."""

FAR = 4.0
"""So many times beyond the limits an answer is bad whatever engines the two have: those of kinds that nobody measured
round in another way, and no rounding gets so far. Else whoever names a strange engine would never be found."""

MOST = 2**16 - 1
NUMBERS = struct.Struct(">HHHH")
"""Of one answer: mean capped margin, greatest margin and share of likeliest tokens, in thousandths, and the number of
tokens; each MOST at most."""


@dataclass(frozen=True)
class Judged:
    """What an item is, and the numbers that say why (`Finding.scores`): NUMBERS of each answer, in order; at most 256
    bytes."""

    verdict: Call
    numbers: bytes


@dataclass(frozen=True)
class Measured:
    """An answer's margins in sum, in natural logarithms: their mean, each capped; the greatest; the share of tokens
    that are the likeliest ones; how many there are."""

    mean: float
    worst: float
    likeliest: float
    tokens: int


def judge(audit: Audit, scores: Sequence[Score], told: bool = True, slack: float = 1.0) -> Judged:
    """The verdict on an item with these answers' scores, in the order of the prompts: that of its worst answer.

    `told`: the tokens are those that its author told; otherwise they were cut from the text by the verifier. What is
    not so many times beyond the limits as `slack` says is unsure at worst.
    """
    if audit.limits is UNSET or len(audit.limits) != len(scores):
        return Judged("unsure", b"")
    pairs = list(zip(audit.limits, scores, strict=True))
    measured = [measure(score, limits.cap / 1_000) for limits, score in pairs]
    calls = (_call(limits, found, told, slack) for (limits, _), found in zip(pairs, measured, strict=True))
    return Judged(worst(calls), b"".join(map(_numbers, measured)))


def judge_alike(audit: Audit, likeness: Sequence[float], slack: float = 1.0) -> Judged:
    """The verdict on an item whose answers are so much like the verifier's own (0 to 1), in the order of the prompts.
    In the numbers the likeness stands where the share of likeliest tokens would. `slack` as for `judge`."""
    if audit.likeness is UNSET or len(audit.likeness) != len(likeness):
        return Judged("unsure", b"")
    calls = (_call_alike(limits, alike, slack) for limits, alike in zip(audit.likeness, likeness, strict=True))
    return Judged(worst(calls), b"".join(NUMBERS.pack(0, 0, _thousandths(alike), 0) for alike in likeness))


def measure(score: Score, cap: float) -> Measured:
    """What a score comes to, with margins capped at `cap` in the mean. Shares are of LEAST_TOKENS tokens at least."""
    margins, count = score.margins, len(score.margins)
    if not count or not all(map(math.isfinite, margins)):
        return Measured(math.nan, math.nan, math.nan, count)
    of = max(count, LEAST_TOKENS)
    mean = sum(min(margin, cap) for margin in margins) / of
    return Measured(mean, max(margins), 1 - sum(margin > 0 for margin in margins) / of, count)


def is_beyond(bound: Bound, found: Measured, times: float = 1.0) -> bool:
    """Whether an answer is so many times beyond `bound`; what is no number is not."""
    return (
        found.mean * 1_000 > times * bound.mean
        or found.worst * 1_000 > times * bound.worst
        or 1_000 - found.likeliest * 1_000 > times * (1_000 - bound.likeliest)
    )


def worst(calls: Iterable[Call]) -> Call:
    """The worst of them."""
    return max(calls, key=ORDER.index, default="unsure")


def _call(limits: Limits, found: Measured, told: bool, slack: float) -> Call:
    if math.isnan(found.mean):
        return "unsure"
    if is_beyond(limits.bad if told else limits.plain, found, slack):
        return "bad"
    return "unsure" if is_beyond(limits.unsure, found) else "ok"


def _call_alike(limits: Likeness, alike: float, slack: float) -> Call:
    if math.isnan(alike):
        return "unsure"
    if alike * 1_000 * slack < limits.bad:
        return "bad"
    return "unsure" if alike * 1_000 < limits.unsure else "ok"


def _numbers(found: Measured) -> bytes:
    return NUMBERS.pack(
        _thousandths(found.mean), _thousandths(found.worst), _thousandths(found.likeliest), min(found.tokens, MOST)
    )


def _thousandths(value: float) -> int:
    return MOST if math.isnan(value) else max(0, min(round(value * 1_000), MOST))
