"""A node in a process of its own, driven by lines: `python -m tests.swarm.child LIFE`, where LIFE is JSON (`Life`).

Prints "at ADDRESS" first. Then "heard TEXT" for each statement that gossip brings, "got TEXT|SECONDS" for each that is
new here however it came (its own too, before it is announced), in seconds of the machine's monotonic clock; "opened
PEER HOW" and "closed PEER HOW" for each connection, where HOW is "direct" or "relayed"; and "lost PEER" for each peer
that went. What it can be told is in `COMMANDS`; it ends at "quit", or with whoever told it.

Statements are lines of text, and durable before they are announced: a journal is what a ledger is to a real node.
"""

import json
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import trio
from libp2p.abc import INotifee

from p2pcap.identity import Identity
from p2pcap.swarm.host import relayed
from p2pcap.swarm.service import Judgement
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.swarm import Swarm, open_swarm
from tests.swarm.twin import Twin, hash_of


@dataclass(frozen=True)
class Life:
    """What a child begins with.

    `seed` is hexadecimal, `changes` are to the product's own settings, `shunned` are peers it is cut off from.
    """

    seed: str
    listen: Sequence[str]
    known: Sequence[str]
    changes: dict[str, Any]
    journal: str | None = None
    shunned: Sequence[str] = ()

    def to_json(self) -> str:
        """As the child's argument."""
        return json.dumps(asdict(self))


class Speaking(Twin):
    """A twin that says aloud what it gets, and keeps it in a file."""

    def __init__(self, journal: str | None) -> None:
        super().__init__()
        kept = Path(journal).read_bytes().splitlines() if journal and Path(journal).exists() else []
        self._journal = open(journal, "ab") if journal else None  # noqa: SIM115 - open as long as the process lives
        for statement in kept:
            say("got", f"{statement.decode()}|{time.monotonic()}")
        super().hold(*kept)

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        if hash_of(data) in self.held:
            return Judgement.IGNORE
        say("heard", data.decode())
        if topic == "results":
            self._keep(data)
        return super().judge(topic, sender, data)

    def hold(self, *statements: bytes) -> None:
        for statement in statements:
            self._keep(statement)
        super().hold(*statements)

    def on_disconnect(self, peer: str) -> None:
        say("lost", peer)
        super().on_disconnect(peer)

    def _keep(self, statement: bytes) -> None:
        if hash_of(statement) in self.held:
            return
        if self._journal is not None:
            self._journal.write(statement + b"\n")
            self._journal.flush()
        say("got", f"{statement.decode()}|{time.monotonic()}")


class Connections(INotifee):  # type: ignore[misc]  # libp2p comes without types
    """Says aloud which connections open and close."""

    async def connected(self, network: Any, conn: Any) -> None:
        say("opened", _described(conn))

    async def disconnected(self, network: Any, conn: Any) -> None:
        say("closed", _described(conn))

    async def opened_stream(self, network: Any, stream: Any) -> None: ...
    async def closed_stream(self, network: Any, stream: Any) -> None: ...
    async def listen(self, network: Any, multiaddr: Any) -> None: ...
    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...


def _described(conn: Any) -> str:
    return f"{conn.muxed_conn.peer_id} {'relayed' if relayed(conn) else 'direct'}"


def say(word: str, rest: str) -> None:
    """One line to whoever started this process."""
    print(word, rest, flush=True)


class Child:
    """Does what it is told."""

    def __init__(self, swarm: Swarm, twin: Twin, nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._twin = twin
        self._nursery = nursery
        self._speaking = trio.CancelScope()

    async def publish(self, text: str) -> None:
        """Announce `text`."""
        self._twin.hold(text.encode())
        await self._swarm.publish("results", text.encode())

    async def speak(self, arguments: str) -> None:
        """NAME SECONDS BYTES: from now on publish a statement of so many bytes every so often."""
        name, seconds, size = arguments.split()
        self._nursery.start_soon(self._speak, name, float(seconds), int(size))

    async def hush(self, arguments: str) -> None:
        """Publish no more; answers "hushed"."""
        self._speaking.cancel()
        say("hushed", "now")

    async def holds(self, arguments: str) -> None:
        """Answers "holds COUNT DIGEST"."""
        status = self._twin.status()
        say("holds", f"{status.count} {status.digest.hex()}")

    async def peers(self, arguments: str) -> None:
        """Answers "peers" and JSON: for each peer, whether it is connected through relays only."""
        say("peers", json.dumps({info.peer_id: info.relayed for info in self._swarm.peers()}))

    async def shun(self, arguments: str) -> None:
        """PEER ...: close the connections with these and make no more, as if a cable were cut. Answers "shunned"."""
        shun(self._swarm, arguments.split())
        for peer in arguments.split():
            await self._swarm.disconnect(peer)
        say("shunned", arguments)

    async def admit(self, arguments: str) -> None:
        """PEER ...: undo `shun`. Answers "admitted"."""
        for peer in arguments.split():
            self._swarm._links.standing.ban(peer, trio.current_time(), 0.0)
        say("admitted", arguments)

    async def obey(self) -> None:
        """Do what the lines of standard input say, until "quit" or their end."""
        async for line in trio.wrap_file(sys.stdin):
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "quit":
                return
            await COMMANDS[word](self, rest)

    async def _speak(self, name: str, seconds: float, size: int) -> None:
        with self._speaking:
            while True:
                await trio.sleep(seconds * random.uniform(0.5, 1.5))
                await self.publish(f"{name} {time.monotonic()} ".ljust(size, "."))


COMMANDS: dict[str, Callable[[Child, str], Awaitable[None]]] = {
    "publish": Child.publish,
    "speak": Child.speak,
    "hush": Child.hush,
    "holds": Child.holds,
    "peers": Child.peers,
    "shun": Child.shun,
    "admit": Child.admit,
}


def shun(swarm: Swarm, peers: Sequence[str]) -> None:
    """Let these in no more, and do not dial them: the dialler sees them fail, as across a cut cable."""
    for peer in peers:
        swarm._links.standing.ban(peer, trio.current_time(), math.inf)


async def main(life: Life) -> None:
    """The child's whole life."""
    identity = Identity.from_seed(bytes.fromhex(life.seed))
    settings = SwarmSettings(**life.changes)
    twin = Speaking(life.journal)
    async with open_swarm(identity, twin.root[:8], life.listen, twin, life.known, settings) as swarm:
        swarm._host.get_network().register_notifee(Connections())
        shun(swarm, life.shunned)
        say("at", swarm.addresses[0])
        async with trio.open_nursery() as nursery:
            await Child(swarm, twin, nursery).obey()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    trio.run(main, Life(**json.loads(sys.argv[1])))
