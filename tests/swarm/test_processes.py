"""Nodes as processes: killed, frozen, restarted, and quiet on the terminal."""

import signal
from contextlib import AbstractAsyncContextManager

from tests.swarm.child import Life
from tests.swarm.children import QUICK_CHANGES, Child, child
from tests.swarm.twin import node, within


def quick(seed: int, *known: str, port: str = "0") -> AbstractAsyncContextManager[Child]:
    """A child on 127.0.0.1 with the settings QUICK."""
    return child(Life(bytes([seed] * 32).hex(), [f"/ip4/127.0.0.1/tcp/{port}"], known, QUICK_CHANGES))


@within(90)
async def test_three_processes_talk_and_end_quietly() -> None:
    async with quick(1) as first:
        address = await first.says("at")
        async with quick(2, address) as second, node(address) as (here, at_here):
            await second.says("at")
            await at_here.until(lambda: len(at_here.statuses) == 2)
            await second.tell("publish from the second")
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
    async with node() as (here, at_here):
        async with quick(3, here.addresses[0]) as life:
            address = await life.says("at")
            peer = address.split("/p2p/")[1]
            await life.tell("publish first life")
            await at_here.until(lambda: b"first life" in at_here.held.values())
            life.send(signal.SIGKILL)
            await at_here.until(lambda: ("disconnect", peer) in at_here.events)
        port = address.split("/")[4]
        async with quick(3, here.addresses[0], port=port) as life:
            assert await life.says("at") == address
            await life.tell("publish second life")
            await at_here.until(lambda: b"second life" in at_here.held.values())


@within(28)  # by default a silent peer is dropped after 30 s
async def test_a_frozen_peer_is_dropped_and_does_not_hold_up_the_end() -> None:
    async with quick(4) as frozen:
        address = await frozen.says("at")
        peer = address.split("/p2p/")[1]
        async with node(address, ping_every=0.1, ping_timeout=0.5) as (_, at_here):
            await at_here.until(lambda: peer in at_here.statuses)
            frozen.send(signal.SIGSTOP)
            await at_here.until(lambda: ("disconnect", peer) in at_here.events)
        frozen.send(signal.SIGCONT)
        assert await frozen.says("lost")
        async with node(address) as (here, at_here):
            await at_here.until(lambda: peer in at_here.statuses)
            frozen.send(signal.SIGSTOP)
            for n in range(200):  # more than the sockets between the two can hold
                await here.publish("claims", b"%d" % n + bytes(60_000))
