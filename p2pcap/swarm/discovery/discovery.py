"""Every source of addresses of one node, put together; what they find goes to the dialer.

Addresses that somebody gave by hand are kept for as long as the node runs; the others are dialled while there are too
few peers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from p2pcap.errors import SwarmError
from p2pcap.swarm.addresses import is_public, parse_endpoint, parse_endpoints
from p2pcap.swarm.dialer import Dialer
from p2pcap.swarm.discovery.book import Book, keep_book, load_book
from p2pcap.swarm.discovery.dht import Dht
from p2pcap.swarm.discovery.mdns import Mdns
from p2pcap.swarm.discovery.names import Names, is_name, parse_name
from p2pcap.swarm.host import Host
from p2pcap.swarm.links import Links
from p2pcap.swarm.messages import Status
from p2pcap.swarm.requests import Blame
from p2pcap.swarm.settings import SwarmSettings


class Discovery:
    """Where one node's peers come from. `addresses()` are its own; `book` is the file of remembered peers, if any."""

    def __init__(
        self,
        host: Host,
        project: bytes,
        settings: SwarmSettings,
        links: Links,
        dialer: Dialer,
        addresses: Callable[[], Sequence[str]],
        blame: Blame,
        book: Path | None,
        now: Callable[[], float],
    ) -> None:
        own = str(host.get_id())
        self._settings = settings
        self._dialer = dialer
        self._now = now
        self._path = book
        self.book = load_book(book, own, now()) if book is not None else Book(own)
        self.names = Names(dialer.hear)
        self.mdns = Mdns(project, own, addresses, dialer.hear)
        self.dht: Dht | None = None
        if settings.dht:

            def lonely() -> bool:
                return not links.members()

            self.dht = Dht(host, project, addresses, links.dial, links.close, dialer.hear, lonely, blame)
            self.dht.enter(parse_endpoints(settings.dht_entries))
            self.dht.serve()

    def know(self, addresses: Sequence[str]) -> None:
        """Keep connections to these addresses and names while the node runs. Raises SwarmError for a bad one."""
        for address in addresses:
            if is_name(address):
                self.names.know(address)
            else:
                endpoint = parse_endpoint(address)
                self._dialer.know(endpoint)
                if self.dht is not None:
                    self.dht.enter([endpoint])

    def met(self, peer: str, status: Status, dialled: Sequence[str], near: bool) -> None:
        """A peer of our project told its status, and was reached at `dialled`; `near`: it is on a network of ours.

        Of private addresses only neighbours are believed: others could have us dial into our own network.
        """
        said = [one for one in parse_endpoints(status.addresses, peer) if near or is_public(one.transport)]
        self.book.met(peer, [*parse_endpoints(dialled, peer), *said], self._now())
        others = [one for one in parse_endpoints(status.peers) if near or is_public(one.transport)]
        self._dialer.hear(peer, [*said, *(one for one in others if one.peer != peer)])

    def forget(self, peer: str, why: str = "") -> None:
        """Seek this peer no more: it is of another project or version, or banned; `why` in words."""
        self._dialer.forget(peer, why)
        self.book.forget(peer)

    def admits(self, peer: str) -> bool:
        """Whether a peer of another project may stay a while, for the hash table only."""
        return self.dht is not None and self.dht.guests.admit(peer)

    def troubles(self) -> tuple[str, ...]:
        """Why peers that the user named are not connected, a line each."""
        return self._dialer.troubles()

    async def run(self) -> None:
        """Find peers for ever."""
        remembered = self.book.start(self._now())
        for endpoint in remembered:
            self._dialer.hear(endpoint.peer, [one for one in remembered if one.peer == endpoint.peer])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.names.run)
            if self.dht is not None:
                self.dht.enter(remembered)
                nursery.start_soon(self.dht.run)
            if self._settings.mdns:
                nursery.start_soon(self.mdns.run)
            if self._path is not None:
                nursery.start_soon(keep_book, self._path, self.book)


def can_dial(address: str) -> bool:
    """Whether this is an address or a name that `Discovery.know` takes."""
    try:
        parse_name(address) if is_name(address) else parse_endpoint(address)
    except SwarmError:
        return False
    return True
