"""The limits of a stage, from honest and false answers that an engine has scored. Pure.

An answer's margins are small where its author asked the same model about the same image, however his engine adds its
numbers up; elsewhere some are large. The limits go where the honest answers end, with room for engines that nobody
measured, and not where the false ones begin: a cheat that nobody thought of is caught too.

Always holds: limits are set by one half of the items, and every rate is measured on the other.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from msgspec import UNSET

from p2pcap.audit.bounds import bans_at, lower_bound
from p2pcap.audit.judging import LEAST_TOKENS, judge, measure
from p2pcap.engine.base import Score
from p2pcap.errors import ConfigError
from p2pcap.project.audit import NO_LIMIT, Audit, Bound, Cheat, Honest, Limits

Sample = Sequence[Score]
"""The scores of one item's answers, in the order of the prompts."""

CAPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Natural logarithms that a margin may count at most in the mean; the one that tells most cheats is taken."""

ROOM = 1.5
"""How much further than the furthest honest answer one may be before it is bad."""

TIE = 0.5
"""A margin that is never bad by itself: with 16-bit numbers two logits of 30 are the same up to 1/8, and engines of two
kinds each round in their own way."""

TIES = 2 * TIE / LEAST_TOKENS
"""The mean that two such margins make in a short answer."""

FREE = 0.25
"""The share of tokens that need not be the likeliest ones: sums in another order change near ties."""

LEAST_ITEMS = 100
"""Honest items; by fewer no limit can be set."""


@dataclass(frozen=True)
class Kind:
    """What was measured of one kind of items: how many, how many the limits call bad and unsure; `power`: the share
    called bad and, with 95 % confidence, at least so much; `area` under the ROC curve against the honest items (0.5: no
    better than a coin); `means` and `worsts`: 5 %, 50 % and 95 % quantiles of the items' mean and greatest margin."""

    name: str
    items: int
    bad: int
    unsure: int
    area: float
    means: tuple[float, ...]
    worsts: tuple[float, ...]
    roc: tuple[tuple[float, float], ...] = ()
    """Of some numbers that might stand in the place of 1 in `distance`: the shares of honest and of these items beyond
    it."""

    @property
    def power(self) -> tuple[float, float]:
        """The share that is called bad, and what it is at least."""
        return (self.bad / self.items if self.items else 0.0), lower_bound(self.bad, self.items) if self.items else 0.0


@dataclass(frozen=True)
class Calibration:
    """What goes into the plan, and what people should see of how it came about; `plain`: honest answers whose tokens
    were cut from the text."""

    audit: Audit
    honest: Kind
    plain: Kind | None
    cheats: tuple[Kind, ...]


def calibrate(
    honest: Sequence[Sample],
    plain: Sequence[Sample],
    cheats: Mapping[str, Sequence[Sample]],
    classes: Collection[bytes] = (),
) -> Calibration:
    """The limits and what they are worth. `plain` are honest answers with their tokens cut from the text; `classes` the
    engine classes that answered, none for all.

    Raises ConfigError for too few honest items, or when too many of them look wrong.
    """
    if len(honest) < 2 * LEAST_ITEMS:
        raise ConfigError(f"{len(honest)} honest items are too few; {2 * LEAST_ITEMS} are needed. Take more images.")
    setting, measured = halves(honest)
    plain_setting, plain_measured = halves(plain)
    parts = {name: halves(samples) for name, samples in cheats.items()}
    wrong = [sample for set_by, _ in parts.values() for sample in set_by]
    limits = tuple(
        _limits(
            [one[number] for one in setting], [one[number] for one in plain_setting], [one[number] for one in wrong]
        )
        for number in range(len(honest[0]))
    )
    draft = Audit("tokens", Honest(0, 0, 0), (), 1, limits, UNSET, tuple(sorted(classes)) or UNSET)
    return _measured(draft, measured, plain_measured, {name: part for name, (_, part) in parts.items()})


def halves(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Every other one."""
    return samples[::2], samples[1::2]


def distance(audit: Audit, sample: Sample) -> float:
    """How far an item is from an answer without any margin, in such units that beyond 1 it is bad."""
    assert audit.limits is not UNSET
    return max(_distance(limits, score) for limits, score in zip(audit.limits, sample, strict=True))


def _measured(
    draft: Audit, honest: Sequence[Sample], plain: Sequence[Sample], cheats: Mapping[str, Sequence[Sample]]
) -> Calibration:
    line = sorted(distance(draft, sample) for sample in honest)
    good = _kind(draft, "honest", honest, line)
    found = tuple(_kind(draft, name, samples, line) for name, samples in cheats.items() if samples)
    audit = Audit(
        draft.method,
        Honest(good.items, good.bad, good.unsure),
        tuple(Cheat(kind.name, kind.items, kind.bad) for kind in found),
        bans_at(good.bad, good.items),
        draft.limits,
        draft.likeness,
        draft.classes,
    )
    cut = _kind(draft, "honest, tokens cut from the text", plain, line, told=False) if plain else None
    return Calibration(audit, good, cut, found)


def _limits(honest: Sequence[Score], plain: Sequence[Score], wrong: Sequence[Score]) -> Limits:
    """The limits of one prompt, with the cap that tells most of the wrong answers by their mean, and by most."""
    made = [_with_cap(cap, honest, plain) for cap in CAPS]

    def told(limits: Limits) -> tuple[int, float]:
        means = [measure(score, limits.cap / 1_000).mean * 1_000 / max(1, limits.bad.mean) for score in wrong]
        known = [one for one in means if not math.isnan(one)]
        return sum(one > 1 for one in known), fmean(map(math.log1p, known)) if known else 0.0

    return max(made, key=told)


def _with_cap(cap: float, honest: Sequence[Score], plain: Sequence[Score]) -> Limits:
    return Limits(round(cap * 1_000), _end(honest, cap), _beyond(honest, cap), _beyond(plain, cap) if plain else NEVER)


NEVER = Bound(NO_LIMIT, NO_LIMIT, 0)


def _end(honest: Sequence[Score], cap: float) -> Bound:
    """Where the honest answers end."""
    found = [measure(score, cap) for score in honest]
    worst = max((one.worst for one in found), default=0.0)
    least = min((one.likeliest for one in found), default=1.0)
    return _bound(max((one.mean for one in found), default=0.0) + TIES / 4, worst + TIE / 4, least - FREE / 4)


def _beyond(honest: Sequence[Score], cap: float) -> Bound:
    """And so far beyond that none gets there."""
    found = [measure(score, cap) for score in honest]
    worst = max((one.worst for one in found), default=0.0)
    off = 1 - min((one.likeliest for one in found), default=1.0)
    return _bound(ROOM * max((one.mean for one in found), default=0.0) + TIES, ROOM * worst + TIE, 1 - 2 * off - FREE)


def _bound(mean: float, worst: float, likeliest: float) -> Bound:
    least = max(0, math.floor(likeliest * 1_000))
    return Bound(min(NO_LIMIT, math.ceil(mean * 1_000)), min(NO_LIMIT, math.ceil(worst * 1_000)), least)


def _distance(limits: Limits, score: Score) -> float:
    found, bad = measure(score, limits.cap / 1_000), limits.bad
    if math.isnan(found.mean):
        return 0.0
    off, allowed = 1 - found.likeliest, 1 - bad.likeliest / 1_000
    return max(found.mean * 1_000 / bad.mean, found.worst * 1_000 / bad.worst, off / allowed)


def _kind(audit: Audit, name: str, samples: Sequence[Sample], line: Sequence[float], told: bool = True) -> Kind:
    """`line`: the distances of the honest items, ascending."""
    verdicts = [judge(audit, sample, told).verdict for sample in samples]
    far = sorted(distance(audit, sample) for sample in samples)
    return Kind(
        name,
        len(samples),
        verdicts.count("bad"),
        verdicts.count("unsure"),
        area(line, far),
        _spread(samples, lambda score, cap: measure(score, cap).mean, audit),
        _spread(samples, lambda score, cap: measure(score, cap).worst, audit),
        tuple((beyond(line, at), beyond(far, at)) for at in PLACES),
    )


PLACES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Distances at which the ROC curve is told."""


def area(honest: Sequence[float], wrong: Sequence[float]) -> float:
    """The area under the ROC curve: how often a wrong item is further off than an honest one, a tie counting half; of
    two ascending sequences."""
    if not honest or not wrong:
        return 0.5
    wins = sum(bisect_left(honest, one) for one in wrong)
    ties = sum(bisect_left(honest, math.nextafter(one, math.inf)) - bisect_left(honest, one) for one in wrong)
    return (wins + ties / 2) / (len(honest) * len(wrong))


def beyond(far: Sequence[float], at: float) -> float:
    """The share of an ascending sequence that is above `at`."""
    return 1 - bisect_left(far, math.nextafter(at, math.inf)) / len(far)


def _spread(samples: Sequence[Sample], number: Callable[[Score, float], float], audit: Audit) -> tuple[float, ...]:
    assert audit.limits is not UNSET
    found = [
        max(number(score, limits.cap / 1_000) for limits, score in zip(audit.limits, sample, strict=True))
        for sample in samples
    ]
    known = [one for one in found if not math.isnan(one)]
    if len(known) < 2:
        return tuple(known) * 3
    cuts = quantiles(known, n=20, method="inclusive")
    return cuts[0], cuts[9], cuts[18]
