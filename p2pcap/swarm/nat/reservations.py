"""Places at relays, so that peers can call a node that they cannot dial: the client of circuit relay v2.

Always holds: at most PLACES places are held or asked for, each with a peer connected directly; a place is renewed
before it runs out, and given up when its relay is gone; a relay that refused is left alone for a while.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from p2pcap.errors import FrameError, RequestFailed
from p2pcap.swarm import peers
from p2pcap.swarm.addresses import CIRCUIT, Endpoint, parse_endpoints
from p2pcap.swarm.host import Host, remote_address
from p2pcap.swarm.nat.circuits import reason
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.nat.relay import HOP
from p2pcap.swarm.nat.transports import text_of, transport_of
from p2pcap.swarm.requests import Blame

log = structlog.get_logger(__name__)

PLACES = 2
ADDRESSES = 2
"""Told of each relay."""
ASK_SECONDS = 15.0
RENEW_AT = 0.5
"""Of a place's time: half of it is left to find another relay when this one does not answer."""
LONGEST = 24 * 3_600.0
"""Seconds; a relay that promises more is asked again after so long."""
SHORTEST = 60.0
AVOID_SECONDS = 300.0
"""A relay that refused or failed is not asked again for so long."""
MAX_AVOIDED = 256


@dataclass(frozen=True)
class Place:
    """A place at `relay`, which callers dial at `addresses`; times in unix seconds."""

    relay: str
    addresses: tuple[str, ...]
    renew_at: float
    until: float


class Held:
    """The places held and the relays avoided. Pure: times in unix seconds are passed in."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._avoid: dict[str, float] = {}

    def granted(self, relay: str, addresses: Sequence[str], expire: float, now: float) -> None:
        """`relay` gave a place until `expire`."""
        lasts = min(max(expire - now, SHORTEST), LONGEST)
        self.places[relay] = Place(relay, tuple(addresses[:ADDRESSES]), now + lasts * RENEW_AT, now + lasts)

    def failed(self, relay: str, now: float) -> None:
        """`relay` gave none. One that is held is not lost by that; it is asked again when half of the rest is over."""
        place = self.places.get(relay)
        if place is not None and now < place.until:
            later = now + max((place.until - now) / 2, SHORTEST)
            self.places[relay] = Place(relay, place.addresses, later, place.until)
            return
        self._avoid = {r: until for r, until in self._avoid.items() if until > now}
        if len(self._avoid) < MAX_AVOIDED:
            self._avoid[relay] = now + AVOID_SECONDS

    def drop(self, connected: Callable[[str], bool], now: float) -> None:
        """Give up the places whose time is over or whose relay is gone."""
        self.places = {r: place for r, place in self.places.items() if place.until > now and connected(r)}

    def ask(self, candidates: Sequence[str], now: float) -> list[str]:
        """The relays to ask now: for the places that are missing, and for the time of those that soon run out.

        Without candidates no place is wanted, and none is renewed.
        """
        due = [relay for relay, place in self.places.items() if place.renew_at <= now and candidates]
        new = [relay for relay in candidates if relay not in self.places and self._avoid.get(relay, now) <= now]
        return due + new[: PLACES - len(self.places)]

    def next(self, now: float) -> float:
        """When to look again, if nothing happens before."""
        times = [*self._avoid.values(), *(t for place in self.places.values() for t in (place.renew_at, place.until))]
        return min((time for time in times if time > now), default=now + AVOID_SECONDS)


class Reservations:
    """Keeps places for one host.

    `candidates` are the connected peers that relay, the best first, and nobody while no place is wanted; `changed` is
    called when `transports` are others than before; `clock` tells unix seconds.
    """

    def __init__(
        self,
        host: Host,
        candidates: Callable[[], Sequence[str]],
        blame: Blame,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._candidates = candidates
        self._blame = blame
        self._changed = changed
        self._clock = clock
        self._held = Held()
        self._news = trio.Event()

    def holds(self, relay: str) -> bool:
        """Whether this node has a place at `relay`, or is being given one."""
        return relay in self._held.places

    def relays(self) -> tuple[str, ...]:
        """The relays at which this node has a place."""
        return tuple(self._held.places)

    def transports(self) -> tuple[str, ...]:
        """Where this node can be dialled through its relays, like /ip4/192.0.2.7/tcp/4001/p2p/12D3…/p2p-circuit."""
        return tuple(f"{address}{CIRCUIT}" for place in self._held.places.values() for address in place.addresses)

    def wake(self) -> None:
        """Look again: a relay came or went, or whether a place is wanted has changed."""
        self._news.set()

    async def run(self) -> None:
        """Keep places for ever."""
        while True:
            self._news = trio.Event()
            before = self.transports()
            await self._once()
            if self.transports() != before:
                self._changed()
            now = self._clock()
            with trio.move_on_after(max(0.0, self._held.next(now) - now)):
                await self._news.wait()

    async def _once(self) -> None:
        self._held.drop(self._connected, self._clock())
        candidates = [relay for relay in self._candidates() if self._connected(relay)]
        async with trio.open_nursery() as nursery:
            for relay in self._held.ask(candidates, self._clock()):
                nursery.start_soon(self._ask, relay)

    async def _ask(self, relay: str) -> None:
        try:
            with trio.fail_after(ASK_SECONDS):
                place = await self._reserve(relay)
        except FrameError:
            self._blame(relay, peers.BAD_FRAME)
            self._held.failed(relay, self._clock())
        except (BaseLibp2pError, RequestFailed, trio.TooSlowError, ValueError) as error:
            log.debug("no_place_at_relay", relay=relay, error=repr(error))
            self._held.failed(relay, self._clock())
        else:
            addresses = self._addresses(relay, place.addrs)
            self._held.granted(relay, addresses, float(place.expire), self._clock())

    async def _reserve(self, relay: str) -> pb.Reservation:
        """Raises RequestFailed when the relay refuses."""
        stream: Any = await self._host.new_stream(ID.from_string(relay), [HOP])
        try:
            await write_message(stream, pb.HopMessage(type=pb.HopMessage.RESERVE))
            answer = await read_message(stream, pb.HopMessage)
            await stream.close()
        except BaseException:
            with trio.CancelScope(shield=True):  # one frame of 12 bytes; `hardening.write_whole_frames` bounds it
                await stream.reset()
            raise
        if answer.type != pb.HopMessage.STATUS or answer.status != pb.Status.OK:
            raise RequestFailed(f"Relay {relay} gives no place: {reason(answer.status)}. Another one is asked.")
        return answer.reservation

    def _addresses(self, relay: str, told: Sequence[bytes]) -> list[str]:
        """Where callers reach the relay: where we reached it ourselves, and where it says it is."""
        dialled = [self._reached(conn, relay) for conn in self._host.get_network().direct(ID.from_string(relay))]
        said = parse_endpoints([text_of(address) for address in told[:8]], relay)
        known = [*(text for text in dialled if text), *(str(endpoint) for endpoint in said if not endpoint.relay)]
        return list(dict.fromkeys(known))

    def _reached(self, conn: Any, relay: str) -> str | None:
        address = remote_address(conn)
        if address is None or not conn.muxed_conn.is_initiator:
            return None
        return str(Endpoint(transport_of(*address), relay))

    def _connected(self, relay: str) -> bool:
        return bool(self._host.get_network().direct(ID.from_string(relay)))
