"""js-libp2p as a peer: `peer.mjs` in a Node.js process, driven by lines of JSON.

Its packages are installed once, from the versions that package-lock.json pins, into node_modules beside it, which git
ignores.
"""

import fcntl
import hashlib
import json
import math
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

FOLDER = Path(__file__).parent
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
INSTALL_WITHIN = 240.0
LINE = 16 * 1024 * 1024

Message = dict[str, Any]


def install() -> None:
    """See that node_modules holds what package-lock.json names. Skips the test where there is no Node.js."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, so there is no js-libp2p to talk to")
    lock = FOLDER / "package-lock.json"
    stamp = FOLDER / "node_modules" / ".installed"
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one that runs beside this waits until everything is there
        digest = hashlib.sha256(file.read()).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            done = subprocess.run(INSTALL, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_WITHIN)
            assert done.returncode == 0, f"{' '.join(INSTALL)} failed:\n{done.stdout}{done.stderr}"
            stamp.write_text(digest)


class JsPeer:
    """A running `peer.mjs`. `heard` and `asked` are what came by gossip and what it was asked for, in order."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.peer_id = ""
        self.addresses: list[str] = []
        self.heard: list[Message] = []
        self.asked: list[str] = []
        self.lost: list[str] = []
        self._answers: dict[int, Message] = {}
        self._changed = trio.Condition()
        self._asked = 0
        self._gone = False

    async def do(self, name: str, **told: Any) -> Message:
        """Have one command carried out, and return its answer. Fails with what the peer says went wrong."""
        assert self.process.stdin is not None
        self._asked += 1
        number = self._asked
        await self.process.stdin.send_all(json.dumps({"id": number, "do": name, **told}).encode() + b"\n")
        await self.until(lambda: number in self._answers)
        said = self._answers.pop(number)
        assert "error" not in said, said["error"]
        answer: Message = said["answer"]
        return answer

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until `true` holds, which is looked at after each line from the peer."""
        async with self._changed:
            while not true():
                assert not self._gone, "the peer has ended"
                await self._changed.wait()

    async def until_heard(self, *messages: bytes) -> None:
        """Wait until each of these came by gossip."""
        await self.until(lambda: set(messages) <= {bytes.fromhex(one["data"]) for one in self.heard})

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)

    async def read(self) -> None:
        """Take in its lines until it ends."""
        assert self.process.stdout is not None
        buffer = bytearray()
        async for piece in self.process.stdout:
            buffer += piece
            *lines, rest = buffer.split(b"\n")
            buffer = bytearray(rest)
            assert len(buffer) < LINE
            for line in lines:
                await self._take(json.loads(line))
        self._gone = True
        async with self._changed:
            self._changed.notify_all()

    async def _take(self, said: Message) -> None:
        match said.pop("event", None):
            case None:
                self._answers[said["id"]] = said
            case "ready":
                self.peer_id, self.addresses = said["peer"], said["addresses"]
            case "heard":
                self.heard.append(said)
            case "asked":
                self.asked.append(said["name"])
            case "lost":
                self.lost.append(said["peer"])
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def js_peer(root: bytes, seed: bytes) -> AsyncIterator[JsPeer]:
    """A peer of the project `root` with the key of `seed`, on a port of its own. It may write nothing to stderr."""
    command = ["node", "peer.mjs", root.hex(), seed.hex()]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=FOLDER
    )
    peer = JsPeer(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.read)
            await peer.until(lambda: peer.peer_id != "")
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True, deadline=math.inf):
            process.kill()
            await process.wait()
            assert process.stderr is not None
            said = b"".join([piece async for piece in process.stderr])
    assert said == b"", said.decode()
