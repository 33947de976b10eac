"""A process of its own for a library that reads strangers' files: what such a file makes it do ends with the process.

The node's end of a socket pair; `p2pcap.sources.child_side` is the process's. Frames of bytes go both ways, each behind
its length. The process sees no token and no other secret of the environment.

Always holds: after the block of `open_child` the process is gone, whatever happened inside; nothing that it sends is
longer than the caller allows, and no answer is awaited for longer than its deadline.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import astuple, dataclass

import trio

from p2pcap.errors import SourceError
from p2pcap.sources.child_side import LENGTH_BYTES

READ_BYTES = 256 * 1024

INHERITED = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
"""Of the environment, what the process gets to see."""


class ChildFailed(SourceError):
    """The process ended, or broke off what it was to send."""


class ChildSlow(SourceError):
    """The process did not answer in time."""


@dataclass(frozen=True)
class Limits:
    """What the process may use: bytes of memory, seconds of CPU time, bytes of each file that it writes."""

    memory: int
    cpu: int = 3_600
    file: int = 0


class Child:
    """The process, as long as `open_child`'s block lasts."""

    def __init__(self, process: trio.Process, stream: trio.SocketStream, seconds: float) -> None:
        self._process = process
        self._stream = stream
        self._seconds = seconds
        self._received = bytearray()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def send(self, frame: bytes) -> None:
        """Raises ChildFailed, and ChildSlow when it does not listen."""
        with _deadline(self._seconds):
            try:
                await self._stream.send_all(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
            except trio.BrokenResourceError as error:
                raise ChildFailed("The process that reads the file ended.") from error

    async def receive(self, limit: int) -> bytes:
        """Its next frame. Raises ChildFailed when it ended or sends more than `limit` bytes, and ChildSlow."""
        with _deadline(self._seconds):
            length = int.from_bytes(await self._take(LENGTH_BYTES), "big")
            if length > limit:
                raise ChildFailed(f"The process that reads the file sent {length} bytes; {limit} are the most.")
            return await self._take(length)

    async def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            try:
                part = await self._stream.receive_some(READ_BYTES)
            except trio.BrokenResourceError:
                part = b""
            if not part:
                raise ChildFailed("The process that reads the file ended.")
            self._received += part
        taken = bytes(memoryview(self._received)[:count])
        del self._received[:count]
        return taken


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as error:
        raise ChildSlow("The process that reads the file took too long.") from error


@asynccontextmanager
async def open_child(
    module: str, limits: Limits, seconds: float, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run `python -m module` and talk to it; it gets `seconds` for each frame. `variables` are added to what it sees of
    the environment. Raises SourceError when no process can be started."""
    ours, theirs = trio.socket.socketpair()
    with ours:
        with theirs:
            process = await _start(module, limits, theirs.fileno(), variables or {})
        try:
            yield Child(process, trio.SocketStream(ours), seconds)
        finally:
            with trio.CancelScope(shield=True):
                _kill(process)
                await process.wait()


async def _start(module: str, limits: Limits, end: int, variables: Mapping[str, str]) -> trio.Process:
    seen = {name: os.environ[name] for name in INHERITED if name in os.environ}
    try:
        return await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", module, *(str(limit) for limit in astuple(limits))],
            stdin=end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # out of reach of the terminal's Ctrl+C; and one group, to be killed together
            env={**seen, **variables},
        )
    except OSError as error:
        raise SourceError(f"No process can be started to read the file: {error.strerror}.") from error


def _kill(process: trio.Process) -> None:
    """Before it is waited for, so that its number cannot be another's by now."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
