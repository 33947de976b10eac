"""A p2pcap command on a terminal of its own, for what only a terminal shows: questions, Ctrl+C."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.e2e.swarm_of_processes import PATIENCE

INTERRUPT = b"\x03"


class Terminal:
    """`with Terminal("join", …) as shown:` runs the command; `shown.output` is what it wrote so far."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        self.output = ""
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2pcap", *arguments],
            env={**environment, "TERM": "xterm", "COLUMNS": "200"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def until(self, text: str, seconds: float = PATIENCE) -> str:
        """Read on until `text` is there; all that was written. Fails when it does not come."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, f"no {text!r} in: {self.output[-4_000:]}"
            assert self._read(), f"it ended without {text!r}: {self.output[-4_000:]}"
        return self.output

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"it goes on: {self.output[-2_000:]}"
        return self.process.wait(10)

    def _read(self) -> bool:
        """Read what there is, for a moment; False at the end."""
        readable, _, _ = select.select([self._ours], [], [], 0.2)
        if not readable:
            return self.process.poll() is None
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux's way to say that nobody has the other end open any more
            return False
        self.output += data.decode(errors="replace")
        return bool(data)


def take_terminal() -> None:
    """Make standard input the session's terminal, so that Ctrl+C there is a signal (tty_ioctl(4), TIOCSCTTY)."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
