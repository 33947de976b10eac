"""What a node in the foreground writes never holds it up, and never ends it."""

import os
import pty
import sys
import termios
from io import TextIOWrapper

import pytest

from p2pcap.cli.terminal import WAITING, Terminal


def read(leader: int) -> str:
    return os.read(leader, 1 << 20).decode()


def test_a_stopped_terminal_gets_its_lines_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        here = Terminal()
        here.line("before")
        termios.tcflow(follower, termios.TCOOFF)  # as Ctrl+S does
        here.line("while it is stopped")
        assert not here.passing("how far it is")
        termios.tcflow(follower, termios.TCOON)
        here.line("after")
        assert here.passing("how far it is now")
        stream.flush()
        assert read(leader).split("\r\n") == ["before", "while it is stopped", "after", "how far it is now"]
    os.close(leader)


def test_lines_that_nobody_reads_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        here = Terminal()
        for number in range(10_000):
            here.line(f"{number:0100}")
        kept = len(here._waiting)
        assert kept == WAITING
        read = os.read(reader.fileno(), 1 << 20).split()
        assert [int(line) for line in read] == list(range(len(read)))


def test_a_terminal_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    stream: TextIOWrapper = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    os.close(reading)
    here = Terminal()
    here.line("nobody reads this")
    assert not here.passing("nor this")
    here.line("nor this")
    with pytest.raises(BrokenPipeError):
        stream.close()
