"""How sure a measured rate is, and how many bad items an honest author would show by chance. Pure.

Sources: the interval is C. J. Clopper and E. S. Pearson's (Biometrika 26, 1934), which is exact and errs on the safe
side; the number of a ban's bad items follows from the binomial distribution.
"""

import math
from collections.abc import Iterator

from p2pcap.errors import ConfigError
from p2pcap.project.audit import CHECKS

CONFIDENCE = 0.95
"""One-sided: so sure is each bound of a rate."""

FALSE_BANS = 1e-5
"""How probable a ban of an honest author may be, in CHECKS checks."""

STEPS = 100
"""Halvings of an interval of rates: more than a float tells apart."""


def upper_bound(hits: int, items: int, confidence: float = CONFIDENCE) -> float:
    """The rate that is not exceeded, with this confidence, when `hits` of `items` were seen; 1 of no items at all."""
    if hits >= items:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        rate = (low + high) / 2
        low, high = (rate, high) if at_most(hits, items, rate) > 1 - confidence else (low, rate)
    return high


def lower_bound(hits: int, items: int, confidence: float = CONFIDENCE) -> float:
    """The rate that is at least there, with this confidence."""
    return 1 - upper_bound(items - hits, items, confidence)


def bans_at(bad: int, items: int) -> int:
    """Bad items in CHECKS checks that make a ban, when `bad` of `items` honest ones were called bad: the least number
    that an honest author reaches with a probability of FALSE_BANS at most, by the upper bound of the rate.

    Raises ConfigError when no number is enough.
    """
    rate = upper_bound(bad, items)
    for number in range(1, CHECKS + 1):
        if false_bans(number, rate) <= FALSE_BANS:
            return number
    raise ConfigError(
        f"{bad} of {items} honest items look wrong by these limits, which is no ground for bans. Calibrate with more "
        "images."
    )


def false_bans(number: int, rate: float) -> float:
    """The probability that an honest author has so many bad items in CHECKS checks."""
    return math.fsum(_terms(number, CHECKS, CHECKS, rate))


def at_most(hits: int, items: int, rate: float) -> float:
    """The probability of at most `hits` of `items`."""
    return min(1.0, math.fsum(_terms(0, hits, items, rate)))


def _terms(first: int, last: int, items: int, rate: float) -> Iterator[float]:
    """The binomial probabilities of `first` to `last` hits."""
    if rate in (0.0, 1.0):
        yield float(first <= rate * items <= last)
        return
    for hits in range(first, last + 1):
        ways = math.lgamma(items + 1) - math.lgamma(hits + 1) - math.lgamma(items - hits + 1)
        yield math.exp(ways + hits * math.log(rate) + (items - hits) * math.log1p(-rate))
