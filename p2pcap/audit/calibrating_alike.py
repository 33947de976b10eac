"""The limits of a stage whose captions are compared as texts, because their tokens cannot be scored. Pure.

Two honest captions of one image are more or less alike, as the model's sampling has it. The limits go where the least
alike of them are, with room, and the report says how many false captions stay within: often many.

Always holds: as in p2pcap.audit.calibrating, limits are set by one half of the items and rates measured on the other.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import quantiles

from msgspec import UNSET
from msgspec.structs import replace

from p2pcap.audit.bounds import bans_at
from p2pcap.audit.calibrating import LEAST_ITEMS, PLACES, ROOM, Calibration, Kind, area, beyond
from p2pcap.audit.judging import judge_alike
from p2pcap.errors import ConfigError
from p2pcap.project.audit import Audit, Cheat, Honest, Likeness

SPARE = 0.1
"""How much less alike two honest captions may be than any that were measured: an engine of another kind may write some
words differently, and one that repeats itself shows none of that."""

Alike = Sequence[float]
"""How alike (0 to 1) the answers of an item are to the verifier's own, in the order of the prompts."""


def calibrate_alike(
    honest: Sequence[Alike], cheats: Mapping[str, Sequence[Alike]], classes: Collection[bytes] = ()
) -> Calibration:
    """The limits and what they are worth; see p2pcap.audit.calibrating.calibrate."""
    if len(honest) < 2 * LEAST_ITEMS:
        raise ConfigError(f"{len(honest)} honest items are too few; {2 * LEAST_ITEMS} are needed. Take more images.")
    likeness = tuple(_limits([item[number] for item in honest[::2]]) for number in range(len(honest[0])))
    draft = Audit("agreement", Honest(0, 0, 0), (), 1, UNSET, likeness, tuple(sorted(classes)) or UNSET)
    line = sorted(_distance(draft, item) for item in honest[1::2])
    good = _kind(draft, "honest", honest[1::2], line)
    found = tuple(_kind(draft, name, items, line) for name, items in cheats.items() if items)
    audit = replace(
        draft,
        honest=Honest(good.items, good.bad, good.unsure),
        cheats=tuple(Cheat(kind.name, kind.items, kind.bad) for kind in found),
        bans_at=bans_at(good.bad, good.items),
    )
    return Calibration(audit, good, None, found)


def _limits(honest: Sequence[float]) -> Likeness:
    least = min(honest)
    unsure, bad = least - SPARE / 2, 1 - ROOM * (1 - least) - SPARE
    return Likeness(*(max(0, math.floor(1_000 * one)) for one in (unsure, bad)))


def _distance(audit: Audit, item: Alike) -> float:
    """How far an item is from the verifier's own answers, in such units that beyond 1 it is bad."""
    assert audit.likeness is not UNSET
    return max((1 - one) / max(1e-3, 1 - limits.bad / 1_000) for limits, one in zip(audit.likeness, item, strict=True))


def _kind(audit: Audit, name: str, items: Sequence[Alike], line: Sequence[float]) -> Kind:
    verdicts = [judge_alike(audit, item).verdict for item in items]
    far, least = sorted(_distance(audit, item) for item in items), [min(item) for item in items]
    cuts = quantiles(least, n=20, method="inclusive") if len(least) > 1 else least * 19
    curve = tuple((beyond(line, at), beyond(far, at)) for at in PLACES)
    bad, unsure = verdicts.count("bad"), verdicts.count("unsure")
    return Kind(name, len(items), bad, unsure, area(line, far), (cuts[0], cuts[9], cuts[18]), (), curve)
