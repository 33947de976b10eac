"""Nodes as processes: killed, frozen, restarted, and quiet on the terminal."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.swarm.twin import node, within

REPOSITORY = Path(__file__).parents[2]


class Child:
    """A node in another process."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._said = b""

    async def says(self, word: str) -> str:
        """The rest of the next line that starts with `word`."""
        while not (line := await self._line()).startswith(word + " "):
            pass
        return line.removeprefix(word + " ")

    async def _line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._said:
            piece = await self.process.stdout.receive_some()
            assert piece, "the child ended before it said what it should"
            self._said += piece
        line, self._said = self._said.split(b"\n", 1)
        return line.decode()

    async def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line.encode() + b"\n")


@asynccontextmanager
async def child(seed: bytes, *known: str, port: str = "0") -> AsyncIterator[Child]:
    """A child that is killed in the end if it has not ended by itself; it may write nothing to stderr."""
    command = [sys.executable, "-m", "tests.swarm.child", port, seed.hex(), *known]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    )
    try:
        yield Child(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()
            assert process.stderr is not None
            said = b"".join([piece async for piece in process.stderr])
        assert said == b"", said.decode()


@within(90)
async def test_three_processes_talk_and_end_quietly() -> None:
    async with child(bytes([1]) * 32) as first:
        address = await first.says("at")
        async with child(bytes([2]) * 32, address) as second, node(address) as (here, at_here):
            await second.says("at")
            await at_here.until(lambda: len(at_here.statuses) == 2)
            await second.tell("from the second")
            await at_here.until(lambda: b"from the second" in at_here.held.values())
            assert await first.says("heard") == "from the second"
            await here.publish("results", b"from here")
            assert await first.says("heard") == "from here"
            assert await second.says("heard") == "from here"
            for process in (first, second):
                await process.tell("quit")
                assert await process.process.wait() == 0


@within(90)
async def test_a_killed_node_that_comes_back_is_heard_again() -> None:
    seed = bytes([3]) * 32
    async with node() as (here, at_here):
        async with child(seed, here.addresses[0]) as life:
            address = await life.says("at")
            peer = address.split("/p2p/")[1]
            await life.tell("first life")
            await at_here.until(lambda: b"first life" in at_here.held.values())
            life.process.kill()
            await at_here.until(lambda: ("disconnect", peer) in at_here.events)
        port = address.split("/")[4]
        async with child(seed, here.addresses[0], port=port) as life:
            assert await life.says("at") == address
            await life.tell("second life")
            await at_here.until(lambda: b"second life" in at_here.held.values())


@within(28)  # by default a silent peer is dropped after 30 s
async def test_a_frozen_peer_is_dropped_and_does_not_hold_up_the_end() -> None:
    async with child(bytes([4]) * 32) as frozen:
        address = await frozen.says("at")
        peer = address.split("/p2p/")[1]
        async with node(address, ping_every=0.1, ping_timeout=0.5) as (_, at_here):
            await at_here.until(lambda: peer in at_here.statuses)
            frozen.process.send_signal(signal.SIGSTOP)
            await at_here.until(lambda: ("disconnect", peer) in at_here.events)
        frozen.process.send_signal(signal.SIGCONT)
        assert await frozen.says("lost")
        async with node(address) as (here, at_here):
            await at_here.until(lambda: peer in at_here.statuses)
            frozen.process.send_signal(signal.SIGSTOP)
            for n in range(200):  # more than the sockets between the two can hold
                await here.publish("claims", b"%d" % n + bytes(60_000))
