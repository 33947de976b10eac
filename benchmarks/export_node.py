"""A node that does nothing but answer on its control socket: `python -m benchmarks.export_node FOLDER`.

Prints "ready" once it answers, and ends when its standard input does.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from p2pcap.errors import ConfigError
from p2pcap.node.chunk_map import ChunkMap
from p2pcap.node.control import Control, serve_control
from p2pcap.node.drafts import Draft
from p2pcap.node.manifest_info import ManifestInfo
from p2pcap.node.pages import PageRequest
from p2pcap.node.snapshot import ContributorPage, NodeInfo, NodeSnapshot, PeerPage, ProjectInfo
from p2pcap.node.submitting import Outcome
from p2pcap.paths import NodePaths
from p2pcap.store.store import Store


class Answering:
    """What its control socket offers: the tables, and nothing else."""

    def __init__(self, directory: Path) -> None:
        self.store = Store.open(NodePaths(directory).database)
        now = time.time()
        node = NodeInfo("nobody", "bench", "observer", "", 0, now, str(directory))
        self._snapshot = NodeSnapshot(now, node, ProjectInfo("bench", ""))

    def snapshot(self, most: int | None = None) -> NodeSnapshot:
        """The same at all times."""
        return self._snapshot

    def page(self, asked: PageRequest) -> PeerPage | ContributorPage:
        """Nobody."""
        return PeerPage(0, 0, ())

    async def settled(self) -> None:
        """Its database is always open."""

    async def chunk_map(self) -> ChunkMap:
        """None."""
        raise ConfigError("This node has no chunks.")

    def manifest(self) -> ManifestInfo:
        """None."""
        raise ConfigError("This node has no manifest.")

    async def image(self, chunk: int, item: int, hash_: bytes) -> bytes:
        """None."""
        raise ConfigError("This node has no images.")

    def ticket(self) -> str:
        """One that leads nowhere: clients ask for it to see whether a node answers."""
        return "p2pcap:"

    async def draft(self, asked: Any, signer: bytes) -> Draft:
        """None."""
        raise ConfigError("This node drafts nothing.")

    async def submit(self, statements: Sequence[bytes]) -> list[Outcome]:
        """None."""
        raise ConfigError("This node takes nothing.")

    async def seal(self) -> int:
        """None."""
        raise ConfigError("This node seals nothing.")

    async def reload(self) -> int:
        """None."""
        raise ConfigError("This node has no folder of a maintainer.")

    async def pause(self, seconds: float | None) -> float | None:
        """It does nothing to pause."""
        raise ConfigError("This node captions nothing.")

    async def finish(self) -> None:
        """As little to finish."""
        raise ConfigError("This node captions nothing.")

    async def resume(self) -> str:
        """Or to resume."""
        raise ConfigError("This node captions nothing.")

    def stop(self) -> None:
        """It ends with its standard input."""


async def main(directory: Path) -> None:
    """Answer until standard input ends."""
    node = Answering(directory)
    control: Control = node
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, control, NodePaths(directory))
            print("ready", flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()
    finally:
        await node.store.close()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
