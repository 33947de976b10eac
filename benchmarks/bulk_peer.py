"""`python -m benchmarks.bulk_peer FOLDER serve` and `… fetch ADDRESS`: TOTAL bytes by hash from one node to another.

The items are images of the size that each line names; every item is checked against its hash as it comes. Each fetch
says the seconds it took.
"""

import functools
import hashlib
import json
import random
import sys
import time
from contextlib import aclosing
from pathlib import Path

import structlog
import trio

from benchmarks.bulk_fetch import SIZES, TOTAL
from benchmarks.job import LOOPBACK
from benchmarks.swarm_project import read_project
from benchmarks.swarm_service import LedgerService
from p2pcap.identity import Identity
from p2pcap.swarm.swarm import Swarm, open_swarm


def contents(size: int) -> dict[bytes, bytes]:
    """TOTAL bytes in items of `size`, the last one smaller, by their hashes; the same in every process."""
    made = random.Random(size)
    items = [made.randbytes(min(size, TOTAL - start)) for start in range(0, TOTAL, size)]
    return {hashlib.sha256(item).digest(): item for item in items}


@functools.cache
def hashes(size: int) -> list[bytes]:
    """The hashes alone."""
    return list(contents(size))


def holds(hash_: bytes, data: bytes) -> bool:
    """As a node checks images."""
    return hashlib.sha256(data).digest() == hash_


async def fetch(swarm: Swarm, size: int) -> float:
    """Seconds until all items of this size are here."""
    wanted, got = hashes(size), 0
    peers = [peer.peer_id for peer in swarm.peers()]
    began = time.perf_counter()
    async with aclosing(swarm.fetch("image", wanted, peers, holds, size)) as arriving:
        async for _, data in arriving:
            got += len(data)
    assert got == TOTAL, got
    return time.perf_counter() - began


async def main(*arguments: str) -> None:
    """Print the address, or the seconds of a fetch for each line read; until standard input ends."""
    folder, what, *address = arguments
    shared = read_project(Path(folder))
    items = contents(SIZES[0]) | contents(SIZES[1]) if what == "serve" else {}
    service = LedgerService(shared.project, items)
    async with open_swarm(Identity.generate(), shared.project.m, [LOOPBACK], service) as swarm:
        if what == "serve":
            print(swarm.addresses[0], flush=True)
        else:
            await swarm.connect(address[0])
        async for line in trio.wrap_file(sys.stdin):
            print(await fetch(swarm, *json.loads(line)), flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    trio.run(main, *sys.argv[1:])
