"""`python -m benchmarks.tui_node DIRECTORY`: a node with a million captions, which knows ten thousand peers and as many
contributors.

A real observer with a real database. Its crowd is made up where the node reads it for snapshots and pages: nobody can
connect ten thousand peers on one machine. It prints "ready" once it answers, and ends with its standard input.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import trio

from benchmarks.job import LOOPBACK
from benchmarks.ledger_scale import BATCHES, written
from benchmarks.statements import make
from p2pcap.identity import peer_id_of
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions, Seed
from p2pcap.node.pages import PageRequest
from p2pcap.node.snapshot import ContributorPage, NodeSnapshot, PeerPage
from p2pcap.node.view import take_page, take_snapshot
from p2pcap.paths import NodePaths
from p2pcap.store.reads import Contribution
from p2pcap.swarm.links import PeerInfo

CROWD = 10_000
"""Peers, and contributors."""


class Crowd:
    """A part of a node that says `instead` and is `real` otherwise."""

    def __init__(self, real: object, **instead: object) -> None:
        self.__dict__.update(instead, _real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Crowded(Node):
    """The node, as it shows itself."""

    crowd: Any = None

    def meet(self) -> None:
        """Know everybody from now on."""
        now = time.time()
        peers = tuple(_peer(number, now) for number in range(CROWD))
        member = Crowd(self.member, contributions=_contributions())
        self.crowd = Crowd(self, swarm=Crowd(self.swarm, peers=lambda: peers), member=member)

    def snapshot(self, most: int | None = None) -> NodeSnapshot:
        """With the crowd."""
        return take_snapshot(self.crowd or self, self.clock(), most)

    def page(self, asked: PageRequest) -> PeerPage | ContributorPage:
        """Of the crowd."""
        return take_page(self.crowd, asked)


def _key(number: int) -> str:
    return peer_id_of(number.to_bytes(32, "big"))


def _peer(number: int, now: float) -> PeerInfo:
    address = f"/ip4/192.0.2.{number % 256}/tcp/4001/p2p/{_key(number)}"
    rtt, moved = (number * 7919 % 400) / 1_000, number * 104_729 % 10_000_000
    return PeerInfo(_key(number), (address,), now - number, "in", None, rtt, 0.0, False, moved, 2 * moved)


def _contributions() -> Sequence[Contribution]:
    return tuple(Contribution(_key(n), f"person {n * 7919 % CROWD}", CROWD - n, n % 7, 0) for n in range(CROWD))


async def main(directory: Path) -> None:
    """Write the database, then be the node until standard input ends."""
    made = make(BATCHES)
    await written(made, NodePaths(directory).database)
    options = NodeOptions(directory, "observer", made.ticket, (LOOPBACK,), seed=Seed(made.project, {}, {}))
    node = Crowded(options, lambda line: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        while node.member is None:
            await trio.lowlevel.checkpoint()
        node.meet()
        print("ready", flush=True)
        async for _ in trio.wrap_file(sys.stdin):
            pass
        node.stop()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    Path(sys.argv[1]).mkdir(parents=True)
    trio.run(main, Path(sys.argv[1]))
