"""The other end of `tests.swarm.child`: start a node as a process, tell it what to do, hear what it says.

Always holds: a child that is still there when its block is left is killed, frozen or not, and none may have written a
word to standard error.
"""

import signal
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import trio

from p2pcap.swarm.settings import SwarmSettings
from tests.swarm.child import Life
from tests.swarm.twin import QUICK

REPOSITORY = Path(__file__).parents[2]
QUICK_CHANGES = {
    field.name: getattr(QUICK, field.name)
    for field in fields(SwarmSettings)
    if getattr(QUICK, field.name) != field.default
}
"""What makes the product's settings those of QUICK."""

Listener = Callable[[str, str], bool]
"""Called with the first word and the rest of each line; True when nothing else needs the line."""


class Child:
    """A node in another process."""

    def __init__(self, process: trio.Process, listen: Listener) -> None:
        self.process = process
        self._listen = listen
        self._said: defaultdict[str, deque[str]] = defaultdict(deque)
        self._news = trio.Event()
        self._ended = False

    async def says(self, word: str) -> str:
        """The rest of the next line that starts with `word`."""
        while not self._said[word]:
            assert not self._ended, f"the child ended before it said {word!r}"
            await self._news.wait()
        return self._said[word].popleft()

    async def tell(self, line: str) -> None:
        """Give it one command."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line.encode() + b"\n")

    async def ask(self, command: str, word: str) -> str:
        """Give it one command and wait for the answer that starts with `word`."""
        await self.tell(command)
        return await self.says(word)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def end(self) -> None:
        """Wait until it has ended and all that it said was taken in."""
        while not self._ended:
            await self._news.wait()

    async def hear(self) -> None:
        """Take in what it says until it ends."""
        assert self.process.stdout is not None
        rest = b""
        async for piece in self.process.stdout:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                word, _, text = line.decode().partition(" ")
                if not self._listen(word, text):
                    self._said[word].append(text)
            self._wake()
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def child(
    life: Life, prefix: Sequence[str] = (), listen: Listener = lambda word, text: False
) -> AsyncIterator[Child]:
    """A child with this life; `prefix` is put before its command."""
    command = [*prefix, sys.executable, "-m", "tests.swarm.child", life.to_json()]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    )
    made = Child(process, listen)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.hear)
            try:
                yield made
            finally:
                nursery.cancel_scope.cancel()
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said = b"".join([piece async for piece in process.stderr])
        for pipe in (process.stdin, process.stdout, process.stderr):
            await pipe.aclose()
    assert said == b"", said.decode()
