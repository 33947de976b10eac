"""A limit on the processor time of code that nobody can interrupt otherwise.

A regular expression may take longer than the universe is old for a text of fifty characters, and Python's `re` holds
the interpreter meanwhile: no other thread runs, and no event loop. But it looks for signals, and so does everything
that is written in Python.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


def limited(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns. Raises TimeoutError once this process has spent `seconds` of processor time meanwhile.

    In the main thread only, for signals arrive nowhere else (ValueError).
    """
    armed = True

    def end(_signal: int, _frame: FrameType | None) -> None:
        if armed:  # a signal that came as the work ended is nobody's
            raise TimeoutError(f"It took more than {seconds:g} s of processor time.")

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        return work()
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
