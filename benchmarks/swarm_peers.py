"""`python -m benchmarks.swarm_peers FOLDER COUNT LINKS [KNOWN …]`: several peers in one process, told by lines of JSON.

All know the addresses KNOWN; without any, the others know the first. It prints the peers' addresses, and then answers
each line it reads, a list of a command and what it needs, with one line:

    ["meet", N]            once each peer has N others
    ["say", EACH, RATE]    after each peer has published EACH statements, RATE a second in all: when each was said
    ["heard"]              when each peer got each statement
    ["count", ID]          how many statements the peer with this id holds
    ["rtt"]                the round-trip times of all connections

It ends with its standard input.
"""

import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
import trio

from benchmarks.job import LOOPBACK
from benchmarks.swarm_project import Shared, read_project
from benchmarks.swarm_service import LedgerService
from p2pcap.errors import SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.swarm import Swarm, open_swarm

Peer = tuple[Swarm, LedgerService]


async def meet(peers: list[Peer], number: int) -> int:
    """Wait until each has so many others."""
    for _, service in peers:
        await service.until(number)
    return number


async def say(peers: list[Peer], shared: Shared, each: int, rate: float) -> dict[str, float]:
    """Publish in turn, at even distances; when each was said, by its id."""
    statements = shared.admissions(each * len(peers))
    said: dict[str, float] = {}
    begin = trio.current_time()
    for number, statement in enumerate(statements):
        await trio.sleep_until(begin + number / rate)
        swarm, service = peers[number % len(peers)]
        said[statement.id.hex()] = time.time()
        service.take(statement)
        await swarm.publish("results", statement.data)
    return said


async def count(peers: list[Peer], peer: str) -> int:
    """How many statements `peer` says it holds; 0 when it does not answer."""
    try:
        return (await peers[0][0].status(peer)).count
    except SwarmError:
        return 0


async def answer(peers: list[Peer], shared: Shared, command: str, *told: Any) -> Any:
    """What the next line says."""
    match command:
        case "meet":
            return await meet(peers, *told)
        case "say":
            return await say(peers, shared, *told)
        case "heard":
            return [{id_.hex(): at for id_, at in service.arrived.items()} for _, service in peers]
        case "count":
            return await count(peers, *told)
        case "rtt":
            return [info.rtt for swarm, _ in peers for info in swarm.peers() if info.rtt is not None]


async def main(*arguments: str) -> None:
    """Run the peers until there are no more commands."""
    folder, number, links, *known = arguments
    shared, settings = read_project(Path(folder)), SwarmSettings(links=int(links))
    peers: list[Peer] = []
    async with AsyncExitStack() as stack:
        for _ in range(int(number)):
            service = LedgerService(shared.project)
            near = known or tuple(swarm.addresses[0] for swarm, _ in peers[:1])
            opening = open_swarm(Identity.generate(), shared.project.m, [LOOPBACK], service, near, settings)
            peers.append((await stack.enter_async_context(opening), service))
        print(json.dumps([swarm.addresses[0] for swarm, _ in peers]), flush=True)
        async for line in trio.wrap_file(sys.stdin):
            print(json.dumps(await answer(peers, shared, *json.loads(line))), flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    trio.run(main, *sys.argv[1:])
