"""The terminal UI over a node that runs in the foreground: another process on the node's control socket.

The node never waits for it. When it is left the terminal is as it was, and the user says how to go on.

Always holds: whatever ends the UI, the terminal takes lines again afterwards.
"""

import os
import sys
import termios
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import click
import trio

from p2pcap.errors import ConfigError

Choice = Literal["go on", "again", "stop"]

QUESTION = "The node goes on here. Enter: show its lines; t: the terminal UI again; s: finish and stop. "

RESTORE_WITHIN = 2.0
"""Seconds for a terminal to take that it is to be as it was: one that is stopped keeps no node from ending."""

RESET = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m"
"""Leaves the second screen, shows the cursor, and ends reports of mouse and pasting (xterm, Control Sequences)."""


def wants_ui(chosen: bool | None) -> bool:
    """Whether the terminal UI is to be shown: as was said, or else where there is a terminal, and the UI. Raises
    ConfigError when it is wanted and cannot be."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    there = find_spec("textual") is not None and find_spec("p2pcap_tui") is not None
    if chosen and not terminal:
        raise ConfigError("There is no terminal to draw on. Leave --tui out; p2pcap status tells the same.")
    if chosen and not there:
        raise ConfigError("The terminal UI needs Textual, which is not installed. Install it, or leave --tui out.")
    return terminal and there if chosen is None else chosen


async def look(directory: Path) -> int:
    """Show the UI until the user leaves it; how it ended."""
    code = -1
    try:
        kept = termios.tcgetattr(sys.stdin.fileno())
    except (OSError, termios.error):  # nobody is there any more
        return code
    try:
        command = [sys.executable, "-P", "-m", "p2pcap", "tui", "--node", str(directory)]
        code = (await trio.run_process(command, stdin=None, check=False)).returncode
        return code
    finally:
        with trio.move_on_after(RESTORE_WITHIN, shield=True):
            await _restore(kept, left=code == 0)


async def _restore(kept: list[Any], left: bool) -> None:
    """The terminal as it was; unless the UI was `left`, and so has cleared up itself, its screen is put away too."""
    with suppress(OSError, termios.error):  # the terminal may be gone
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, kept)
        if not left:
            await trio.lowlevel.wait_writable(sys.stdout.fileno())
            os.write(sys.stdout.fileno(), RESET.encode())


async def ask() -> Choice:
    """How to go on once the UI was left."""
    said = await line(QUESTION)
    return "stop" if said in ("s", "stop", "q") else "again" if said in ("t", "tui") else "go on"


async def line(question: str) -> str:
    """A line that is typed on the terminal from now on, in lower case; "" when it is at its end or gone. Ctrl+C reaches
    the node as always."""
    try:
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)  # what was typed before is no answer
        click.echo(question, err=True, nl=False)
        return (await _typed()).decode(errors="replace").strip().lower()
    except (OSError, termios.error):
        return ""


async def _typed() -> bytes:
    """What is typed next. A terminal that was readable may have nothing any more: Ctrl+C takes a line back."""
    file = _opened()
    try:
        while True:
            await trio.lowlevel.wait_readable(file)
            with suppress(BlockingIOError):
                return os.read(file, 4_096)
    finally:
        os.close(file)


def _opened() -> int:
    """The terminal, opened anew so that reads need not wait: the opening on standard input is the shell's as well.
    After `su`, and in some containers, it cannot be opened by its name, but as the one the process is run from."""
    how = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(os.ttyname(sys.stdin.fileno()), how)
    except OSError:
        return os.open("/dev/tty", how)
