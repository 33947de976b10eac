"""Standard error of a node that runs in the foreground: a terminal that may be stopped, closed or gone, or a pipe.

Whoever stops the terminal (Ctrl+S, an SSH session that hangs) stops lines, and not the node; whoever closes it does not
end the node either. The node's log has everything.

Always holds: nothing is written that would have to be waited for, and no error of writing comes out of here.
"""

import select
import sys
from collections import deque

import click

WAITING = 256
"""Lines that are kept while nothing can be written; the last ones."""


class Terminal:
    """Lines that stay, in their order, and in between a text that is written in place."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque(maxlen=WAITING)
        self._gone = False

    def line(self, text: str) -> None:
        """A line that stays: now, or with the next that can be written."""
        self._waiting.append(text)
        self.catch_up()

    def passing(self, text: str) -> bool:
        """A text without an end of line, if it can be written at once; whether it was."""
        self.catch_up()
        return not self._waiting and self._takes() and self._write(text, ends=False)

    def catch_up(self) -> None:
        """Write what waits, as far as it is taken."""
        while self._waiting and self._takes():
            self._write(self._waiting.popleft(), ends=True)

    def _takes(self) -> bool:
        """Whether some more would be taken at once; what is gone takes everything."""
        try:
            poll = select.poll()
            poll.register(sys.stderr.fileno(), select.POLLOUT)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # no file, or a closed one: writing tells
            return True

    def _write(self, text: str, ends: bool) -> bool:
        if not self._gone:
            try:
                click.echo(text, err=True, nl=ends)
            except (OSError, ValueError):  # closed by whoever read it
                self._gone = True
        return not self._gone
