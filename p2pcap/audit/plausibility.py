"""What about a result is so odd that it should be looked at more closely: cheap signs, none of them a proof.

An author's results are compared with what the others of the project make: how long answers are, how many are equal, how
many are errors, how fast they come. What is usual is the median over authors, so one who makes most of the results does
not set it, and a few who lie do not move it.

Pure: time is passed in. Always holds: a sign leads to checks and to nothing else; and what is remembered is bounded,
whatever strangers send.
"""

import math
import statistics
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from p2pcap.ledger.records import Result, Row

Sign = Literal["speed", "length", "duplicates", "errors", "engine"]
"""speed: more images in the time than engines of that class make; length: answers are much longer or shorter;
duplicates: too many are equal; errors: too many; engine: another engine class than in the author's result before."""

USUAL = 4
"""Authors that it takes to say what is usual."""

SEEN, FEW = 64, 8
"""Rows of an author from which on they say what is usual, and from which on his own are looked at."""

REFRESH = 4
"""What is usual is worked out anew after results of a part of the authors, one in so many: so the work for each result
does not grow with them."""

AUTHORS = 1_024
"""Authors remembered in a task; of more, the one that was heard of longest ago is forgotten."""

FADE = 0.9
"""What came before a result weighs so much less with it: about the last ten results count."""

FASTER = 4.0
"""Times the usual speed of its class: one node may have several GPUs, so that a few times is no wonder."""

LONGER = 2.5
"""Times the usual length, either way."""

MORE_EQUAL, MORE_ERRORS = 0.25, 0.15
"""By how much the share of equal answers, or of errors, may exceed twice the usual one."""

MAX_TEXTS = 256
"""Different answers of an author that are remembered."""


@dataclass
class Habit:
    """An author's results in one task, of late: sums that fade. `begun` and `heard` are when the first and the last
    came here (unix seconds), `images` how many came after the first."""

    engine: bytes
    begun: float
    heard: float
    images: float = 0.0
    rows: float = 0.0
    errors: float = 0.0
    answers: float = 0.0
    tokens: float = 0.0
    equal: float = 0.0
    texts: "OrderedDict[int, None]" = field(default_factory=OrderedDict)

    @property
    def length(self) -> float:
        """Tokens of an answer, on average."""
        return self.tokens / self.answers if self.answers else 0.0

    @property
    def error_share(self) -> float:
        """Errors of all rows."""
        return self.errors / self.rows if self.rows else 0.0

    @property
    def equal_share(self) -> float:
        """Rows whose answers another row of the author has as well."""
        return self.equal / self.rows if self.rows else 0.0

    @property
    def speed(self) -> float:
        """Images a second, since it was first heard of; 0 while too few have come to tell."""
        told = self.images >= 2 * SEEN and self.heard > self.begun
        return self.images / (self.heard - self.begun) if told else 0.0


@dataclass(frozen=True)
class Usual:
    """The medians over all authors of a task; `speed` by engine class, where enough authors have it."""

    length: float
    equal_share: float
    error_share: float
    speed: Mapping[bytes, float]


class Habits:
    """The authors of one task, by key."""

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, Habit] = OrderedDict()
        self._usual: Usual | None = None
        self._left = 0

    def look(self, author: bytes, result: Result, rows: Sequence[Row], now: float) -> frozenset[Sign]:
        """What is odd about a result whose rows came at `now`, after what came before it."""
        habit = self._of.get(author)
        changed = habit is not None and habit.engine != result.engine
        if habit is None or changed:
            habit = self._of[author] = Habit(result.engine, now, now)
        else:
            habit.images += len(rows)
        self._of.move_to_end(author)
        while len(self._of) > AUTHORS:
            self._of.popitem(last=False)
        _learn(habit, rows, now)
        self._left -= 1
        if self._left <= 0:
            self._usual, self._left = _usual(list(self._of.values())), len(self._of) // REFRESH
        return _signs(habit, self._usual) | ({"engine"} if changed else set())


def _usual(habits: Sequence[Habit]) -> Usual | None:
    """None while too few authors have made enough to say."""
    seen = [habit for habit in habits if habit.rows >= SEEN]
    if len(seen) < USUAL:
        return None
    by_class: dict[bytes, list[float]] = {}
    for habit in filter(lambda one: one.speed, seen):
        by_class.setdefault(habit.engine, []).append(habit.speed)
    return Usual(
        length=statistics.median(habit.length for habit in seen),
        equal_share=statistics.median(habit.equal_share for habit in seen),
        error_share=statistics.median(habit.error_share for habit in seen),
        speed={engine: statistics.median(speeds) for engine, speeds in by_class.items() if len(speeds) >= USUAL},
    )


def _signs(habit: Habit, usual: Usual | None) -> frozenset[Sign]:
    if usual is None or habit.rows < FEW:
        return frozenset()
    signs: dict[Sign, bool] = {
        "length": habit.answers > 0 and not _near(habit.length, usual.length),
        "duplicates": habit.equal_share > 2 * usual.equal_share + MORE_EQUAL,
        "errors": habit.error_share > 2 * usual.error_share + MORE_ERRORS,
        "speed": habit.speed > FASTER * usual.speed.get(habit.engine, math.inf),
    }
    return frozenset(sign for sign, shown in signs.items() if shown)


def _learn(habit: Habit, rows: Sequence[Row], now: float) -> None:
    answers = [answer for row in rows for answer in row.answers]
    habit.heard = now
    habit.rows = FADE * habit.rows + len(rows)
    habit.errors = FADE * habit.errors + sum(bool(row.error) for row in rows)
    habit.answers = FADE * habit.answers + len(answers)
    habit.tokens = FADE * habit.tokens + sum(answer.tokens for answer in answers)
    habit.equal = FADE * habit.equal + _equal(habit, rows)


def _equal(habit: Habit, rows: Sequence[Row]) -> int:
    """How many of `rows` say what another of them says, or an earlier one; the texts are remembered."""
    said = [hash(tuple(answer.text for answer in row.answers)) for row in rows if row.answers]
    counts = Counter(said)
    equal = sum(counts[text] > 1 or text in habit.texts for text in said)
    habit.texts.update(dict.fromkeys(said))
    while len(habit.texts) > MAX_TEXTS:
        habit.texts.popitem(last=False)
    return equal


def _near(value: float, usual: float) -> bool:
    return usual / LONGER <= value <= usual * LONGER
