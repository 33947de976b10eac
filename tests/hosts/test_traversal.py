"""Hosts behind home routers: a relay brings them together, and then they get through to each other directly.

50 ms between any two hosts. All nodes are volunteers with the same settings: who can be reached, who cannot and who
carries connections for others they find out by themselves. The first node's address is given.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from p2pcap.identity import Identity
from tests.hosts.abreast import side_by_side
from tests.hosts.network import Host, Network, network
from tests.hosts.packets import TCP, Endpoint
from tests.swarm.child import Life
from tests.swarm.children import Child, child

DELAY = 0.05
EVERYWHERE = "/ip4/0.0.0.0/tcp/4001"
VOLUNTEER = {"traverse": True, "relay": "if reachable"}
"""As `p2pcap join` sets it."""


@dataclass
class Node:
    """A child on a host."""

    child: Child
    host: Host
    peer: str

    async def sees(self, what: str, other: "Node", how: str) -> None:
        """Wait until a connection with `other` is "opened" or "closed", "direct" or "relayed"."""
        while await self.child.says(what) != f"{other.peer} {how}":
            pass

    async def tells(self, other: "Node", text: str) -> None:
        """Publish `text` and wait until `other` has heard it by gossip."""
        await self.child.tell(f"publish {text}")
        while await other.child.says("heard") != text:
            pass

    async def relayed_peers(self) -> dict[str, bool]:
        """For each connected peer, whether only a relay connects it."""
        relayed: dict[str, bool] = json.loads(await self.child.ask("peers", "peers"))
        return relayed


class Stage:
    """Nodes of one swarm on the hosts of one network."""

    def __init__(self, net: Network, exits: AsyncExitStack) -> None:
        self.net = net
        self._exits = exits
        self._addresses: list[str] = []

    async def node(self, host: Host, changes: dict[str, Any], given: int = 1) -> Node:
        """Start a node there that is given the addresses of so many earlier ones."""
        identity = Identity.from_seed(host.name.encode().ljust(32, b"."))
        life = Life(identity.seed.hex(), [EVERYWHERE], self._addresses[:given], changes)
        node = Node(await self._exits.enter_async_context(child(life, host.prefix)), host, identity.peer_id)
        await node.child.says("at")
        self._addresses.append(f"/ip4/{host.address}/tcp/4001/p2p/{node.peer}")
        return node


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with network(DELAY) as net, AsyncExitStack() as exits:
        yield Stage(net, exits)


@pytest.mark.slow
@side_by_side(280)
async def test_two_hosts_behind_routers_meet_at_a_relay_and_then_connect_directly() -> None:
    async with stage() as at:
        relay = await at.node(at.net.host("relay"), VOLUNTEER)
        left = await at.node(at.net.host("left", at.net.home()), VOLUNTEER)
        right = await at.node(at.net.host("right", at.net.home()), VOLUNTEER)
        await left.sees("opened", right, "relayed")
        await left.sees("opened", right, "direct")
        await left.sees("closed", right, "relayed")
        assert await left.relayed_peers() == {relay.peer: False, right.peer: False}
        at.net.partition({"left", "right"})  # from the relay
        await left.tells(right, "through both routers")
        await right.tells(left, "and back")


@pytest.mark.slow
@side_by_side(280)
async def test_behind_a_symmetric_router_the_relay_stays_and_serves() -> None:
    async with stage() as at:
        one, other = at.net.home(), at.net.home(symmetric=True)
        relay = await at.node(at.net.host("relay"), VOLUNTEER)
        left = await at.node(at.net.host("left", one), VOLUNTEER)
        right = await at.node(at.net.host("right", other), VOLUNTEER)
        await left.sees("opened", right, "relayed")
        await at.net.turned_away(one.public, other)
        await at.net.turned_away(other.public, one)
        await left.tells(right, "through the relay")
        await right.tells(left, "and back")
        assert await left.relayed_peers() == {relay.peer: False, right.peer: True}


@pytest.mark.slow
@side_by_side(280)
async def test_a_public_host_reaches_one_behind_a_router() -> None:
    async with stage() as at:
        await at.node(at.net.host("relay"), VOLUNTEER)
        inner = await at.node(
            at.net.host("inner", at.net.home()), VOLUNTEER | {"links": 1}
        )  # dials nobody but the relay
        outer = await at.node(at.net.host("outer"), VOLUNTEER)
        await outer.sees("opened", inner, "relayed")
        await outer.sees("opened", inner, "direct")
        await outer.sees("closed", inner, "relayed")
        at.net.partition({"inner", "outer"})
        await outer.tells(inner, "from outside")
        await inner.tells(outer, "and back")


@pytest.mark.slow
@side_by_side(280)
async def test_a_forwarded_port_is_found_out_and_told() -> None:
    """Nobody set the address by hand, nobody relays, and the host itself dials only those whom it was given."""
    async with stage() as at:
        home = at.net.home()
        inside = at.net.host("inner", home)
        home.forward(TCP, Endpoint(inside.address, 4001))
        await at.node(at.net.host("first"), {"traverse": True})
        await at.node(at.net.host("second"), {"traverse": True})
        inner = await at.node(inside, {"traverse": True, "links": 1}, given=2)
        outer = await at.node(at.net.host("outer"), {"traverse": True})
        await outer.sees("opened", inner, "direct")
