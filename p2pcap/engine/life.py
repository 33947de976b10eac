"""One process of an engine, from its start to its end, seen from the node.

Always holds: while no block `alive` runs, no process of the engine exists, and none of its temporary files.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import trio

from p2pcap.engine import frames, group, kernel_kills, log
from p2pcap.engine.device import environment, scratch, scratch_environment
from p2pcap.engine.link import Link

KILLED_WITHIN = 5.0
"""Seconds from the kernel's killing a process for memory to the end that follows from it, at most. Older kills had
other consequences: a decoder that takes too much is killed and made anew, and other programs die as well."""


class Kills:
    """The kernel's kills as counted now and then, to tell whether there was one lately."""

    def __init__(self, count: int) -> None:
        self._before = self._last = count

    def look(self, count: int) -> None:
        """So many there are now; one of before the last look is old."""
        self._before, self._last = self._last, count

    def lately(self, count: int) -> bool:
        """Whether there was one since the look before the last, now that there are so many."""
        return count > self._before


@dataclass(frozen=True)
class End:
    """How a process ended. `reason`: one sentence for people; `refused`: what it said itself before; `printed`: what it
    wrote into the log, of that the end; `short_of_memory`: the kernel killed something for memory just before."""

    reason: str
    refused: frames.Refused | None = None
    printed: str = ""
    short_of_memory: bool = False


class Life:
    """The process that `start` is for, once `alive` has begun. What it says beside replies goes to `on_message`."""

    def __init__(
        self,
        start: frames.Start,
        log_file: Path,
        on_message: Callable[[frames.ToNode], None],
        count_kills: Callable[[], int] = kernel_kills.count,
    ) -> None:
        self._start = start
        self._log = log_file
        self._on_message = on_message
        self._refused: frames.Refused | None = None
        self._gone = ""
        self._log_start = 0
        self._count_kills = count_kills
        self._kills = Kills(count_kills())
        self._process: trio.Process
        self.link: Link

    @property
    def pid(self) -> int:
        """Its process id, and that of the group of all its processes."""
        return self._process.pid

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """The process runs, and what is asked over `link` reaches it; at the end of the block all of it is gone.

        Raises OSError when it cannot be started.
        """
        with scratch() as folder:
            await self._spawn(folder)
            self.link.send(self._start)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.link.run)
                nursery.start_soon(self._watch_kills)
                try:
                    yield
                finally:
                    await self._end()

    def printed(self) -> str:
        """What it wrote into the log so far, of that the end."""
        return log.text(self._log, self._log_start)

    def kill(self, reason: str) -> None:
        """Ends the process at once, for a reason in a sentence; `link` closes then."""
        self._gone = reason
        self._process.kill()

    def end(self) -> End:
        """How it ended, after `alive`."""
        reason = self.link.fault or self._why(log.last_error(self._log, self._log_start))
        killed = self._kills.lately(self._count_kills())
        return End(reason, self._refused, self.printed(), killed and self._refused is None)

    async def _spawn(self, folder: str) -> None:
        variables = environment(self._start.settings, os.environ) | scratch_environment(folder)
        ours, theirs = trio.socket.socketpair()
        try:
            with theirs, log.continued(self._log) as output:
                group.adopt_orphans()
                self._process = await _open_process(theirs.fileno(), output, variables)
                self._log_start = output.tell()
        except BaseException:
            ours.close()
            raise
        self.link = Link(ours, self._heard)

    async def _watch_kills(self) -> None:
        """Looks as long as the process lives; what it dies of is not old when it has died."""
        while not self.link.closed.is_set():
            with trio.move_on_after(KILLED_WITHIN):
                await self.link.closed.wait()
                return
            self._kills.look(self._count_kills())

    async def _end(self) -> None:
        """Kills what is left of the process's group and waits until all of it is gone."""
        with trio.CancelScope(shield=True):
            group.kill(self.pid)  # before waiting: until then no other process can be given that id
            await self._process.wait()
            await trio.to_thread.run_sync(group.collect, self.pid)

    def _heard(self, message: frames.ToNode) -> None:
        match message:
            case frames.Refused():
                self._refused = message
            case frames.Gone(reason):
                self._gone = reason
            case _:
                self._on_message(message)

    def _why(self, last_error: str) -> str:
        if told := self._gone or (self._refused.reason if self._refused else ""):
            return f"{told.rstrip('.')}{last_error}."
        status = self._process.returncode or 0
        if status < 0:
            return f"The engine's process was killed by {signal.Signals(-status).name}."
        return f"The engine's process ended with status {status}{last_error}."


async def _open_process(end: int, output: BinaryIO, variables: dict[str, str]) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", "p2pcap.engine.process", str(end)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[end],
        start_new_session=True,
        env=variables,
    )
