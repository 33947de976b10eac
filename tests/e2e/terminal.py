"""A terminal that a test can look at: a tmux server of its own, ended for certain."""

import contextlib
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


class Terminal:
    """One pane, 80 columns by 24 lines at first."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", os.devnull]

    def run(self, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (80, 24)) -> None:
        """Start `command` in the pane; it may be looked at after it has ended."""
        given = [f"-e{name}={value}" for name, value in environment.items()]
        width, height = map(str, size)
        self._do("new-session", "-d", "-x", width, "-y", height, *given, f"{shlex.join(command)}; exec sleep 600")

    def close(self) -> None:
        """End the pane and whatever runs in it."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names."""
        self._do("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        self._do("resize-window", "-x", str(width), "-y", str(height))

    def lines(self) -> list[str]:
        """What is on it."""
        return self._do("capture-pane", "-p").splitlines()

    def pid(self) -> int:
        """The process of the command, below the pane's shell."""
        shell = self._do("list-panes", "-F", "#{pane_pid}").strip()
        return int(subprocess.run(["pgrep", "-P", shell], check=True, capture_output=True, text=True).stdout.split()[0])

    def shows(self, text: str, within: float) -> str:
        """All that is on it once `text` is; fails when it is not within so many seconds."""
        deadline = time.monotonic() + within
        while text not in (screen := "\n".join(self.lines())):
            assert time.monotonic() < deadline, f"{text!r} did not come within {within:g} s:\n{screen}"
            time.sleep(0.05)
        return screen

    def _do(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], check=True, capture_output=True, text=True)
        return done.stdout


@contextlib.contextmanager
def terminal() -> Iterator[Terminal]:
    """A terminal that ends with the block. Its socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="p2p") as folder:
        opened = Terminal(Path(folder))
        try:
            yield opened
        finally:
            opened.close()
