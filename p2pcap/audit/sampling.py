"""Which items of which results a node looks at: drawn in a way that nobody else can foresee, or remember.

Each item of each result has a number that follows from a secret of the node and the result's id. An item is drawn when
its number is below the share that is looked at. So the same items are drawn after a restart, a larger share holds all
of a smaller one, nothing has to be kept, and an author learns what was looked at only when the finding is signed.

Pure: the secret is passed in. Always holds: whether one item is drawn says nothing about another one.
"""

import hashlib
import struct
from collections.abc import Sequence

from p2pcap.project.records import SLICE

SECRET_BYTES = 32

NUMBERS = struct.Struct(f"<{SLICE}I")
"""A number for each item of a result, evenly drawn below RANGE."""

RANGE = 2**32

TIERS = (16, 64, 90)
"""Of an author of each tier one item in so many is checked. The last is the floor under a sleeper's chances: with the
share q and the power d an identity gets 1/(e·q·d) bad items past the checks on average at best, however it waits: fewer
than 40 where the calibration finds a cheat with a power of 0.86 and more (benchmarks.audit_sim)."""

FORCED = 8
"""Items of a result that gives cause for suspicion: of one that is a third bad, 96 in 100 are found."""

FIRST = 4
"""Items of an author's first result in a task."""


def drawn(secret: bytes, result: bytes, items: int, share: float) -> int:
    """Of the `items` (bits from its offset on) of the result with that id those that are drawn, `share` (0 to 1) of
    them on average."""
    below = share * RANGE
    numbers = _numbers(secret, result)
    return sum(1 << place for place in places(items) if numbers[place] < below)


def drawn_first(secret: bytes, result: bytes, items: int, count: int) -> int:
    """Of the `items` the `count` that any share, however small, would hold first; all when they are fewer."""
    numbers = _numbers(secret, result)
    return sum(1 << place for place in sorted(places(items), key=numbers.__getitem__)[:count])


def share_of(tier: int, verifiers: int) -> float:
    """The share of an author's items that one of so many `verifiers`, each with an engine, looks at."""
    return 1 / (TIERS[min(tier, len(TIERS) - 1)] * max(1, verifiers))


def peer_share(one_in: int, engines: int) -> float:
    """The share of all items that a volunteer looks at who is no verifier: one item of others' for each `one_in` that
    an engine makes, where so many `engines` make the items. 0 switches it off."""
    return 1 / (one_in * max(1, engines)) if one_in else 0.0


def places(items: int) -> Sequence[int]:
    """The bits that are set, ascending."""
    return [place for place in range(items.bit_length()) if items >> place & 1]


def _numbers(secret: bytes, result: bytes) -> tuple[int, ...]:
    return NUMBERS.unpack(hashlib.shake_256(b"p2pcap audit 1" + secret + result).digest(NUMBERS.size))
