"""How others get through to this node, and how it gets through to them: the parts of this package put together.

A node that others can dial is told so by them (`reach`) and may carry connections for those that cannot be dialled
(`relay`). One that cannot be dialled asks its router to forward its port (`portmap`), takes places at relays
(`reservations`), and whoever came in through one is dialled directly as soon as that works (`punch`).

Always holds: a place at a relay is looked for only while nobody was shown to get through to us directly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import trio
from multiaddr import Multiaddr

from p2pcap.swarm.addresses import Endpoint
from p2pcap.swarm.host import Host
from p2pcap.swarm.links import Links
from p2pcap.swarm.nat.circuits import Circuits
from p2pcap.swarm.nat.portmap import PortMap
from p2pcap.swarm.nat.punch import Punching
from p2pcap.swarm.nat.reach import Reach
from p2pcap.swarm.nat.relay import Relay
from p2pcap.swarm.nat.reservations import Reservations
from p2pcap.swarm.network import Way
from p2pcap.swarm.requests import Blame, Requests
from p2pcap.swarm.settings import SwarmSettings

Carry = Callable[[str, int], Any]


class Traversal:
    """The ways in and out of one node.

    `listening()` are the transport addresses it listens on; `changed` is called when others reach it elsewhere.
    """

    def __init__(
        self,
        host: Host,
        requests: Requests,
        links: Links,
        settings: SwarmSettings,
        blame: Blame,
        carry: Carry,
        listening: Callable[[], Sequence[str]],
        changed: Callable[[], None],
    ) -> None:
        self._own = str(host.get_id())
        self._links = links
        self._settings = settings
        self._listening = listening
        self._changed = changed
        self._ports: PortMap | None = None
        self.reach = Reach(host, requests, links.members, self._direct, self._reach_changed)
        self.reservations = Reservations(host, self._candidates, blame, changed)
        self.circuits = Circuits(host, self.reservations.holds, blame)
        self.relay = Relay(host, links.is_member, self._direct, blame, carry=carry)
        self._punching = Punching(host, self._told, links.transports, blame)
        self.relaying = False

    def serve(self) -> None:
        """Answer what others ask of this package from now on."""
        self.reach.serve()
        self.circuits.serve()
        self._punching.serve()
        self._decide()

    async def run(self) -> None:
        """Look for ways through, for ever, as far as the settings say."""
        async with trio.open_nursery() as nursery:
            if self._settings.map_port and (port := self._port()):
                self._ports = PortMap(port, self._ports_changed)
                nursery.start_soon(self._ports.run)
            if self._settings.traverse:
                nursery.start_soon(self.reach.run)
                nursery.start_soon(self.reservations.run)
                nursery.start_soon(self._punching.run)

    def transports(self) -> tuple[str, ...]:
        """The transport addresses to tell others, the likeliest first."""
        direct = (*self._by_hand(), *self._proven(), *self._listening())
        return tuple(dict.fromkeys((*direct, *self.reservations.transports())))

    def relays(self) -> tuple[str, ...]:
        """The ids of the relays that hold a place for this node."""
        return self.reservations.relays()

    def ways(self) -> tuple[Way, ...]:
        """How others are known to get through to this node."""
        ways: list[Way] = []
        mapped = self._mapped()
        if set(self._proven()) - set(mapped):
            ways.append("direct")
        if mapped:
            ways.append("port mapping")
        if self.reservations.transports():
            ways.append("relay")
        return tuple(ways)

    @property
    def port_mapping(self) -> str:
        """What became of asking the router, in words; empty when it was not asked."""
        return self._ports.state if self._ports is not None else ""

    def external(self) -> tuple[str, ...]:
        """The addresses others proved, and what the router told."""
        return tuple(dict.fromkeys((*self.reach.reachability.proven, *self._full(self._mapped()))))

    def heard(self, peer: str) -> None:
        """A peer of our project told its status."""
        self.reach.wake()
        self.reservations.wake()
        self._punching.consider(peer)

    def left(self) -> None:
        """A peer is gone."""
        self.reservations.wake()

    def _candidates(self) -> Sequence[str]:
        return () if self.reach.reachability.state == "public" else self._links.relays()

    def _decide(self) -> None:
        """Whether to carry for others now."""
        relay = self._settings.relay
        self.relaying = relay == "yes" or (relay == "if reachable" and self.reach.reachability.state == "public")
        if self.relaying:
            self.relay.serve()
        else:
            self.relay.refuse()

    def _reach_changed(self) -> None:
        self._decide()
        self.reservations.wake()
        self._changed()

    def _ports_changed(self) -> None:
        self.reach.wake()
        self._changed()

    def _told(self) -> list[str]:
        """The transport addresses to tell a peer that is to punch through to us."""
        return [*self.reach.mappings(), *self._by_hand(), *self._listening()]

    def _direct(self) -> list[str]:
        return self._full((*self._by_hand(), *self._listening()))

    def _full(self, transports: Sequence[str]) -> list[str]:
        return [str(Endpoint(transport, self._own)) for transport in dict.fromkeys(transports)]

    def _by_hand(self) -> tuple[str, ...]:
        return (*self._settings.announce, *self._mapped())

    def _proven(self) -> list[str]:
        """Where others got through to this node, though it may listen elsewhere: somebody has forwarded a port."""
        return [address.partition("/p2p/")[0] for address in self.reach.reachability.proven]

    def _mapped(self) -> tuple[str, ...]:
        mapping = self._ports.mapping if self._ports is not None else None
        return (mapping.external,) if mapping is not None else ()

    def _port(self) -> int | None:
        """The TCP port to have forwarded."""
        ports = (
            int(Multiaddr(text).value_for_protocol("tcp")) for text in self._listening() if text.startswith("/ip4")
        )
        return next(ports, None)
