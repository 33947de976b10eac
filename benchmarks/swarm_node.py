"""`python -m benchmarks.swarm_node FOLDER DIRECTORY`: a whole node, without an engine, of the project in FOLDER.

It has the project from the start. It prints its address, and ends with its standard input.
"""

import sys
from pathlib import Path

import structlog
import trio

from benchmarks.job import LOOPBACK
from benchmarks.swarm_project import read_project
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions, Seed
from p2pcap.swarm.settings import SwarmSettings


async def main(*arguments: str) -> None:
    """Run the node until standard input ends."""
    folder, directory = arguments
    shared = read_project(Path(folder))
    seed = Seed(shared.project, {}, {})
    network = SwarmSettings(relay="if reachable", traverse=True)  # as `p2pcap join` on loopback
    options = NodeOptions(Path(directory), "observer", shared.ticket, (LOOPBACK,), network=network, seed=seed)
    node = Node(options, lambda line: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        while node.member is None:
            await trio.lowlevel.checkpoint()
        assert node.swarm is not None
        print(node.swarm.addresses[0], flush=True)
        async for _ in trio.wrap_file(sys.stdin):
            pass
        node.stop()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    trio.run(main, *sys.argv[1:])
