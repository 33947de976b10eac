"""Runs a trio program so that one seed decides everything: time, the order of tasks, every random number.

Time is simulated and costs nothing. trio orders tasks at random unless it is told not to, as its tests under Hypothesis
do; here its random numbers come from the seed as well.

Always holds: two runs with one seed do the same, whatever PYTHONHASHSEED says.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
import trio
import trio.testing
from trio._core import _run as trio_run

T = TypeVar("T")

LONGEST = 50_000.0
"""Simulated seconds after which a run is given up."""


def run(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """The outcome of `main` under `seed`."""

    async def bounded() -> T:
        with trio.fail_after(LONGEST):
            return await main()

    with _deterministic(seed), _quiet():
        return trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    parts = vars(trio_run)
    before = parts["_ALLOW_DETERMINISTIC_SCHEDULING"], parts["_r"]
    parts["_ALLOW_DETERMINISTIC_SCHEDULING"], parts["_r"] = True, random.Random(seed)
    try:
        yield
    finally:
        parts["_ALLOW_DETERMINISTIC_SCHEDULING"], parts["_r"] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """The nodes' logs say the same as the trace does, and cost more."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    try:
        yield
    finally:
        structlog.configure(**before)


def _drop(logger: object, method: str, event: object) -> str:
    raise structlog.DropEvent
