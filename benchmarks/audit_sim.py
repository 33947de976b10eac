"""How many wrong captions an identity gets into the table that nobody ever finds, by the rules as they are.

An author captions honestly until a tier is reached, and then hides one wrong caption in so many. Each item is looked at
with the rate of the tier, each wrong one that is looked at is found with POWER; from the first one found on only what
was found right counts, and as many items of each of his results are looked at anew as clear it. He stops when he likes.
What is counted are the wrong captions that count in the end, over RUNS runs, for the moment to stop that is best for
him. The rules are the ledger's own (p2pcap.ledger.checks).

The baseline is 1/(e q d), with q the rate and d POWER: what no rule can be better than that looks at q of all items.

Always holds: figures follow from the seed alone.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.report import Line, Lines, at_most
from p2pcap.audit.sampling import FORCED, TIERS
from p2pcap.ledger.checks import Doubt, Outcome, counted
from p2pcap.project.records import SLICE

POWER = 0.96
"""The probability with which a check finds a wrong item: what a calibration of the shipped model states at least, with
95 % confidence, of the cheat that it knows least of (benchmarks.audit_power: another model's captions, 0.963; of all
others 0.985)."""

UNSURE_POWER = 0.69
"""The same with a model that is unsure of its words (benchmarks.audit_power_unsure: captions of a model that knows
better; of all other cheats 0.985). Nothing is promised of it."""

HIDDEN = (1, 4, 64)
"""Wrong captions of each result of 64."""

RUNS = 1_000
UNFOUND = 40.0
BANS_AT = 4
"""Wrong items after which he is banned: verifiers look no further then."""

WHOLE = (1 << SLICE) - 1


def run() -> Lines:
    """For each tier, and each density of wrong captions: the expected number that counts, at the best time to stop."""
    for tier, rate in enumerate(TIERS):
        for hidden in HIDDEN:
            found = _expected(rate, hidden, POWER, random.Random(f"{tier} {hidden}"))
            yield at_most(f"audit_sim.tier{tier}.{hidden}_of_64", found, "wrong captions", UNFOUND, _least(rate, POWER))
        found = _expected(rate, 1, UNSURE_POWER, random.Random(f"{tier} unsure"))
        yield Line(f"audit_sim.tier{tier}.unsure", found, "wrong captions", baseline=_least(rate, UNSURE_POWER))


def _least(rate: int, power: float) -> float:
    """What no rule is better than."""
    return 1 / (math.e * power / rate)


def _expected(rate: int, hidden: int, power: float, rng: random.Random) -> float:
    """The mean number of wrong captions that count when he stops at the best moment. That is found by other runs than
    those that are counted, or chance would choose it."""
    stops = {max(1, round(rate * share / hidden)) for share in (0.5, 0.75, 1, 1.25, 1.5, 2, 4)}
    best = max(stops, key=lambda stop: sum(_kept(rate, hidden, stop, power, rng) for _ in range(RUNS)))
    return sum(_kept(rate, hidden, best, power, rng) for _ in range(4 * RUNS)) / (4 * RUNS)


@dataclass
class Made:
    """A result: its wrong items, and what checks found of it; `fresh` since the last wrong item was found."""

    wrong: int
    power: float
    passed: int = 0
    failed: int = 0
    fresh: int = 0

    def look(self, items: Iterable[int], rng: random.Random) -> bool:
        """Items are looked at; whether one of them is found to be wrong."""
        for place in items:
            bit = 1 << place
            if self.wrong & bit and rng.random() < self.power:
                self.failed |= bit
            else:
                self.passed |= bit
                self.fresh |= bit
        return bool(self.failed)

    def counting(self, doubt: Doubt | None) -> int:
        """The wrong items that count, of a result that is older than the doubt."""
        outcome = Outcome(self.passed & ~self.failed, self.failed, failed_at=1 if self.failed else 0)
        return (self.wrong & counted(WHOLE, 0, outcome, self.fresh, doubt)).bit_count()


def _kept(rate: int, hidden: int, stop: int, power: float, rng: random.Random) -> int:
    """One run: the wrong captions that count once verifiers have looked at whatever they were going to."""
    made: list[Made] = []
    for _ in range(stop):
        places = rng.sample(range(SLICE), hidden)
        made.append(Made(sum(1 << place for place in places), power))
        if made[-1].look((place for place in places if rng.random() < 1 / rate), rng):
            return _found_out(made, rng)
    return sum(one.counting(None) for one in made)


def _found_out(made: list[Made], rng: random.Random) -> int:
    """His results are looked at anew, one after the other; what is found begins the round again, until he is banned or
    nothing more is found."""
    failures = 1
    while failures < BANS_AT:
        for one in made:
            one.fresh = 0
        for one in rng.sample(made, len(made)):
            if not one.failed and one.look(rng.sample(range(SLICE), FORCED), rng):
                failures += 1
                break
        else:
            break
    if failures == BANS_AT:
        for one in made:
            one.fresh = 0
    return sum(one.counting(Doubt(1)) for one in made)
