"""Ctrl+C, SIGTERM and a closed terminal: the first asks the demo to stop, any further one to stop at once.

Always holds: KeyboardInterrupt is raised once at most, so nothing that cleans up after it is broken off in turn.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """What signals do. They go on doing what they did before until `listen` is called."""

    def __init__(self, force: Callable[[], None]) -> None:
        self._force = force
        self._held = False
        self._cleaning = False
        self.arrived = False
        """Whether any of the signals came."""

    def listen(self) -> None:
        """From now on. A signal that this process was told to ignore, as nohup does with SIGHUP, stays ignored."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)

    def clean_up(self) -> None:
        """From now on every signal forces the end: the stopping has begun anyway."""
        self._cleaning = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """The block is done to its end before KeyboardInterrupt is raised."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.arrived and not self._cleaning:
            self._cleaning = True
            raise KeyboardInterrupt

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self.arrived = True
        if self._cleaning:
            self._force()
        elif not self._held:
            self._cleaning = True
            raise KeyboardInterrupt
