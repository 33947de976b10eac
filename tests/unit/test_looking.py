"""A question on a real terminal, while a node runs."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from p2pcap.cli.looking import line
from tests.e2e.pseudo_terminal import take_terminal

INTERRUPT = b"\x03"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where to type for a terminal that is this process's standard input."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield ours
    os.close(ours)


class TakenBack(trio.abc.Instrument):
    """Types Ctrl+C when somebody was woken to read a line, and has not read it: the terminal drops the line
    (termios(3), NOFLSH). Then it sets `dropped`."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self.dropped = trio.Event()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith("listen") and not self.dropped.is_set() and readable():
            os.write(self._keys, INTERRUPT)
            while readable():  # the kernel drops it a moment later
                pass
            self.dropped.set()


def readable() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


async def answer(type_lines: Callable[[], Awaitable[None]]) -> str:
    """What `line` returns when that is typed once it waits."""
    said: list[str] = []

    async def listen() -> None:
        said.append(await line("? "))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        await type_lines()
    return said[0]


def answer_to(keys: int, typed: bytes) -> str:
    async def type_lines() -> None:
        os.write(keys, typed)

    return trio.run(answer, type_lines)


def test_what_was_typed_before_is_no_answer(keys: int) -> None:
    os.write(keys, b"yes\n")
    assert answer_to(keys, b" T\n") == "t"


def test_a_terminal_that_is_at_its_end_says_nothing(keys: int) -> None:
    assert answer_to(keys, b"\x04") == ""


@pytest.mark.timeout(60)
def test_a_line_that_ctrl_c_took_back_holds_nobody_up(keys: int) -> None:
    taken = TakenBack(keys)

    async def type_lines() -> None:
        os.write(keys, b"no\n")
        await taken.dropped.wait()
        os.write(keys, b"yes\n")

    assert trio.run(answer, type_lines, instruments=[taken]) == "yes"


def test_what_is_no_terminal_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert trio.run(line, "? ") == ""


NAMELESS = """
import os, trio
from p2pcap.cli.looking import line
def closed(file): raise PermissionError(13, "Permission denied")
os.ttyname = closed
print(trio.run(line, "? "))
"""


@pytest.mark.timeout(60)
def test_a_terminal_that_cannot_be_opened_by_its_name_is_heard() -> None:
    """As after `su`: it is the other user's."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", NAMELESS]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=theirs, stdout=pipe, stderr=pipe, start_new_session=True, preexec_fn=take_terminal
    ) as asking:
        os.close(theirs)
        assert asking.stderr is not None
        assert asking.stdout is not None
        assert asking.stderr.read(2) == b"? "
        os.write(ours, b"Yes\n")
        assert asking.stdout.read() == b"yes\n"
    os.close(ours)
