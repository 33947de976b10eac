"""Asking peers whether they can dial this node, and dialling them back when they ask.

AutoNAT's question (https://github.com/libp2p/specs/tree/master/autonat), as a request of the project: libp2p's own
answers UNKNOWN for every private address, and dials from the port it listens on, which a router may have opened.

Always holds: only the host that asks is dialled, and only for an instant, from a new port, with nothing sent but the
handshake that shows its identity; so nobody can be made to bother a third.
"""

import ipaddress
import random
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID

from p2pcap.errors import SwarmError
from p2pcap.swarm.addresses import Endpoint, parse_endpoint
from p2pcap.swarm.hardening import CLOSE_SECONDS
from p2pcap.swarm.host import Host, left_from, remote_address
from p2pcap.swarm.nat.evidence import RETRY_SECONDS, Answer, Evidence, Reachability
from p2pcap.swarm.nat.messages import MAX_ADDRESSES, Outcome, Reached, ReachRequest
from p2pcap.swarm.nat.transports import ends_at, transport_of
from p2pcap.swarm.requests import Requests, send
from p2pcap.swarm.trimming import HOST, shared

log = structlog.get_logger(__name__)

NAME = "reach"
MAX_ANSWER = 1_024
"""Bytes."""
DIAL_SECONDS = 5.0
"""For all dials of one answer."""
MAX_DIALS = 4
"""For one answer."""
EVERY_SECONDS = 10.0
"""Between two answers with dials for one peer, and the time in which at most MAX_PEERS get one."""
MAX_PEERS = 20
PER_PLACE = 8
"""And how many of them may be at one IP address (of IPv6, in one /64): peer ids cost nothing."""
LOOK_SECONDS = RETRY_SECONDS / 2
"""Between two looks whether somebody is to be asked."""


class Reach:
    """Both sides, for one host.

    `peers` are those to ask, `addresses` where this node could be dialled directly, whole; `changed` is called when
    `reachability` is another than before.
    """

    def __init__(
        self,
        host: Host,
        requests: Requests,
        peers: Callable[[], Sequence[str]],
        addresses: Callable[[], Sequence[str]],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._requests = requests
        self._peers = peers
        self._addresses = addresses
        self._changed = changed
        self._evidence = Evidence()
        self._answered: dict[str, tuple[float, str]] = {}
        self._news = trio.Event()
        self.reachability = Reachability()

    def mappings(self) -> tuple[str, ...]:
        """The outside of the port all our dials leave from, as peers see it: what hole punching needs."""
        return self._evidence.mappings(trio.current_time())

    @property
    def symmetric(self) -> bool:
        """Whether the router shows every peer another port, so that no hole can be punched."""
        return self._evidence.symmetric(trio.current_time())

    def serve(self) -> None:
        """Answer from now on."""
        self._requests.serve(NAME, ReachRequest, self._answer)

    def wake(self) -> None:
        """Look again: a peer came, or an address of our own."""
        self._news.set()

    async def run(self) -> None:
        """Ask for ever."""
        addresses: frozenset[str] = frozenset()
        while True:
            self._news = trio.Event()
            if (now := frozenset(self._addresses())) != addresses:
                addresses = now
                self._evidence.clear()
            await self._ask_who_is_due()
            self._conclude()
            with trio.move_on_after(LOOK_SECONDS):
                await self._news.wait()

    # asking

    async def _ask_who_is_due(self) -> None:
        peers = [peer for peer in self._peers() if self._host.get_network().direct(ID.from_string(peer))]
        random.shuffle(peers)
        async with trio.open_nursery() as nursery:
            for peer in self._evidence.due(peers, trio.current_time()):
                nursery.start_soon(self._ask, peer)

    async def _ask(self, peer: str) -> None:
        answer = Answer(trio.current_time())
        try:
            own = list(self._addresses())[:MAX_ADDRESSES]
            answer = await self._question(peer, own)
            if not answer.tried and (guesses := self._guesses(answer.host)):
                answer = await self._question(peer, guesses)
        except SwarmError as error:
            log.debug("reach_unanswered", peer=peer, error=str(error))
        self._evidence.heard(peer, answer)

    async def _question(self, peer: str, addresses: Sequence[str]) -> Answer:
        """Raises as `Requests.ask` does."""
        reached = await self._requests.ask(peer, NAME, ReachRequest(tuple(addresses)), Reached, MAX_ANSWER)
        seen = ends_at(reached.seen)
        outcomes = [
            (address, outcome)
            for address, outcome in zip(addresses, reached.outcomes, strict=False)
            if seen is not None and _is_at(address, seen[0])  # whoever keeps to the rules dials no other host
        ]
        return Answer(
            trio.current_time(),
            seen[0] if seen else "",
            seen[1] if seen else 0,
            self._shared(peer),
            frozenset(address for address, outcome in outcomes if outcome == "reached"),
            frozenset(address for address, outcome in outcomes if outcome == "failed"),
        )

    def _guesses(self, host: str) -> list[str]:
        """Our listening ports on the host that a peer sees us at: a router may have been told to forward them."""
        if not host:
            return []
        listening = [ends_at(address.partition("/p2p/")[0]) for address in self._addresses()]
        ports = dict.fromkeys(there[1] for there in listening if there and (":" in there[0]) == (":" in host))
        own = str(self._host.get_id())
        return [str(Endpoint(transport_of(host, port), own)) for port in ports][:MAX_DIALS]

    def _shared(self, peer: str) -> bool:
        """Whether whatever connection the peer sees leaves from the port that all our dials leave from."""
        network = self._host.get_network()
        left = [left_from(conn) for conn in network.direct(ID.from_string(peer))]
        return bool(left) and all(port is not None and network.ports.owns(port) for port in left)

    def _conclude(self) -> None:
        before, self.reachability = self.reachability, self._evidence.conclude(trio.current_time())
        if self.reachability != before:
            log.info("reachability", state=self.reachability.state, proven=self.reachability.proven)
            self._changed()

    # answering

    async def _answer(self, peer: str, request: ReachRequest, stream: Any) -> None:
        outcomes: list[Outcome] = ["refused"] * len(request.addresses)
        address = remote_address(stream.swarm_conn)
        if address is not None:
            dials = _allowed(request.addresses, peer, address[0])
            if dials and self._turn(peer, shared(address[0], HOST), trio.current_time()):
                await self._dial_back(ID.from_string(peer), dials, outcomes)
        await send(stream, Reached(transport_of(*address) if address else "", tuple(outcomes)))

    def _turn(self, peer: str, place: str, now: float) -> bool:
        """Whether dials may be made for `peer`, who is at `place`, now; if so, they count."""
        self._answered = {other: told for other, told in self._answered.items() if now - told[0] < EVERY_SECONDS}
        there = sum(told[1] == place for told in self._answered.values())
        if peer in self._answered or there >= PER_PLACE or len(self._answered) >= MAX_PEERS:
            return False
        self._answered[peer] = now, place
        return True

    async def _dial_back(self, peer: ID, dials: dict[int, tuple[str, int]], outcomes: list[Outcome]) -> None:
        for index in dials:
            outcomes[index] = "failed"

        async def one(index: int, ip: str, port: int) -> None:
            if await self._shows_up(peer, ip, port):
                outcomes[index] = "reached"

        with trio.move_on_after(DIAL_SECONDS):
            async with trio.open_nursery() as nursery:
                for index, (ip, port) in dials.items():
                    nursery.start_soon(one, index, ip, port)

    async def _shows_up(self, peer: ID, ip: str, port: int) -> bool:
        """Whether `peer` answers there."""
        try:
            raw = RawConnection(TrioTCPStream(await trio.open_tcp_stream(ip, port)), True)
        except OSError:
            return False
        try:
            await self._host.get_network().upgrader.upgrade_security(raw, True, peer)
        except Exception as error:  # noqa: BLE001 - a handshake with whoever listens there fails in any way
            log.debug("dialled_back_in_vain", peer=str(peer), error=repr(error))
            return False
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await raw.close()
        return True


def _is_at(address: str, host: str) -> bool:
    there = ends_at(address.partition("/p2p/")[0])
    return there is not None and ipaddress.ip_address(there[0]) == ipaddress.ip_address(host)


def _allowed(addresses: Sequence[str], peer: str, host: str) -> dict[int, tuple[str, int]]:
    """Which of a peer's addresses may be dialled, by their place in the request: its own, and on the host it is at."""
    allowed: dict[int, tuple[str, int]] = {}
    for index, text in enumerate(addresses):
        try:
            endpoint = parse_endpoint(text)
        except SwarmError:
            continue
        there = ends_at(endpoint.transport)
        if endpoint.peer == peer and there and ipaddress.ip_address(there[0]) == ipaddress.ip_address(host):
            allowed[index] = there
    return dict(list(allowed.items())[:MAX_DIALS])
