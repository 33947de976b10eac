"""Twenty hostile peers around a node, and three honest ones: it still gets everything.

The hostile ones sit in its mesh and pass nothing on, ask for nothing and answer nothing that gossip asks, say that they
hold exactly what the node holds, and name each other whenever it asks whom else they know.
"""

import functools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
from libp2p.pubsub.pb import rpc_pb2
from multiaddr import Multiaddr

from p2pcap.codec import decode
from p2pcap.identity import Identity
from p2pcap.swarm.frames import FrameReader
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.host import listen_on
from p2pcap.swarm.messages import Status
from p2pcap.swarm.requests import MAX_REQUEST, send
from p2pcap.swarm.swarm import Swarm
from tests.swarm.hostile import NAMES, SUBSCRIBED, Listening, control, swallow
from tests.swarm.twin import ROOT, Stranger, Twin, node, stranger, within

HOSTILE = 20
GRAFT = control(graft=[rpc_pb2.ControlGraft(topicID=name) for name in NAMES])


class Conspiracy:
    """What hostile peers know of each other."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0

    async def agree(self, stream: Any) -> None:
        """Claim to hold what the other side says it holds, and to know hostile peers only."""
        theirs = decode(await FrameReader(stream).read(MAX_REQUEST), Status, MAX_REQUEST)
        self.asked += 1
        await send(stream, msgspec.structs.replace(theirs, addresses=(), peers=tuple(self.addresses[-16:])))
        await stream.close()

    @asynccontextmanager
    async def member(self, victim: Swarm) -> AsyncIterator[Stranger]:
        """One hostile peer, connected to `victim`, and listening for it to connect."""
        async with stranger(victim, Identity.generate()) as host:
            await listen_on(host.host, Multiaddr("/ip4/127.0.0.1/tcp/0"))
            self.addresses += [f"{address}/p2p/{host.peer_id}" for address in host.host.get_transport_addrs()]
            host.host.set_stream_handler("/meshsub/1.1.0", swallow)
            host.host.set_stream_handler(topic_name(ROOT[:8], "status"), self.agree)
            gossip = await host.open("/meshsub/1.1.0")
            await gossip.write(SUBSCRIBED + GRAFT)
            yield host


@within(120)
@pytest.mark.parametrize("way", ["gossip", "sync"])
async def test_among_twenty_hostile_peers_three_honest_ones_are_heard(way: str) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        at_victim = Listening()
        changes: dict[str, Any] = {"sync_every": 0.2} if way == "sync" else {}
        victim, _ = await enter(node(twin=at_victim, **changes))
        conspiracy = Conspiracy()
        for _ in range(HOSTILE):
            await enter(conspiracy.member(victim))
        mesh = functools.partial(len, victim._gossip.router.mesh[NAMES[1]])
        honest: list[tuple[Swarm, Twin]] = [await enter(node())]
        await victim.connect(honest[0][0].addresses[0])
        for _ in range(2):
            honest.append(await enter(node(victim.addresses[0], honest[0][0].addresses[0])))
        await at_victim.met(*(swarm for swarm, _ in honest))
        said: set[bytes] = set()
        for number in range(60):
            swarm, twin = honest[number % 3]
            data = b"statement %d" % number
            said.add(data)
            if way == "gossip":
                await swarm.publish("results", data)
                await swarm.status(victim.peer_id)  # time passes
            else:
                twin.hold(data)
        await at_victim.until(lambda: said <= set(at_victim.held.values()))
        assert len(victim.peers()) >= 3 + HOSTILE
        if way == "sync":
            assert conspiracy.asked > HOSTILE
        assert mesh() > 3
