"""How much an author may say: a token bucket for each. Pure: time is passed in.

What is over the allowance is ignored now and may come again later, so the allowance delays what is in the set and never
decides it.
"""

RESULTS = 4_096
RESULTS_PER_SECOND = 4.0
"""Unsealed results of one author that are taken at once, and how many more a second: several times what the fastest
GPU makes, and little enough that a flood costs each node about a kilobyte a second."""

FIRST_RESULTS = 512
FIRST_RESULTS_PER_SECOND = 1.0
"""The same of an author of tier 0 where answers are checked: 64 captions a second, three times what one large GPU makes
of the models this is for."""

GRANTS = 1_024
GRANTS_PER_SECOND = 1.0
"""Unsealed grants by one ticket, or by the puzzle, that are taken at once, and how many more a second. Whoever holds a
ticket can sign one that displaces the last, over and over."""

ACCUSATIONS = 16
ACCUSATIONS_PER_SECOND = 1 / 60
"""Accusations of one author that are taken at once, and how many more a second."""


class Allowance:
    """The buckets of all authors. Authors are admitted keys, so they are few."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._spent: dict[bytes, tuple[float, float]] = {}

    def may(self, author: bytes, now: float) -> bool:
        """Whether one more would be taken now."""
        return self._owed(author, now) + 1 <= self._burst

    def take(self, author: bytes, now: float) -> None:
        """One was taken."""
        self._spent[author] = (self._owed(author, now) + 1, now)

    def _owed(self, author: bytes, now: float) -> float:
        owed, at = self._spent.get(author, (0.0, now))
        return max(0.0, owed - max(0.0, now - at) * self._per_second)


class Rations:
    """How much each author may say of what anybody may say at will. `results`: unsealed ones taken at once."""

    def __init__(self, results: int = RESULTS) -> None:
        self.accusations = Allowance(ACCUSATIONS, ACCUSATIONS_PER_SECOND)
        self._results = Allowance(results, RESULTS_PER_SECOND)
        self._first_results = Allowance(FIRST_RESULTS, FIRST_RESULTS_PER_SECOND)

    def may_result(self, author: bytes, is_new: bool, now: float) -> bool:
        """Whether one more unsealed result would be taken now; of newcomers fewer are."""
        return self._results.may(author, now) and (not is_new or self._first_results.may(author, now))

    def take_result(self, author: bytes, now: float) -> None:
        """An unsealed result was taken."""
        self._results.take(author, now)
        self._first_results.take(author, now)
