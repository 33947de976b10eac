"""What a swarm does again and again while it runs: compare with a peer, look for more peers, close what is too much.

Always holds: each round has its deadline in the requests it makes, and one that fails costs nothing but itself; every
peer is compared with in its turn, so however many of them tell us nothing, the others are heard.
"""

import random
import time
from collections.abc import Awaitable, Callable, Collection

import structlog
import trio

from p2pcap.errors import SwarmError
from p2pcap.swarm.admission import overdue
from p2pcap.swarm.counters import Counters
from p2pcap.swarm.links import Links
from p2pcap.swarm.messages import Status
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.sync import Greetings, Sync, next_peer
from p2pcap.swarm.trimming import places, surplus

log = structlog.get_logger(__name__)

TOLD = 8
"""Peers that are told at once of other addresses."""
ROOM_EVERY = 5.0
"""Seconds between two looks whether there are too many connections, or some that never said who they are."""


class Rounds:
    """The rounds of one swarm. `ask(peer)` exchanges statuses with a peer, which tells addresses of others; `kept()`
    are the peers that are never closed to make room."""

    def __init__(
        self,
        settings: SwarmSettings,
        links: Links,
        sync: Sync,
        greetings: Greetings,
        ask: Callable[[str], Awaitable[Status]],
        kept: Callable[[], Collection[str]],
        counters: Counters,
    ) -> None:
        self._settings = settings
        self._links = links
        self._sync = sync
        self._greetings = greetings
        self._ask = ask
        self._kept = kept
        self._counters = counters
        self._asked: dict[str, float] = {}
        self._crowded = trio.Event()
        self._moved = trio.Event()

    async def run(self) -> None:
        """All of them, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._compare, nursery)
            nursery.start_soon(self._seek)
            nursery.start_soon(self._make_room)
            nursery.start_soon(self._tell)

    def joined(self) -> None:
        """Another peer is connected."""
        if len(self._links.connected()) > places(self._settings.max_connections):
            self._crowded.set()

    def moved(self) -> None:
        """This node is reached at other addresses than before."""
        self._moved.set()

    async def _compare(self, nursery: trio.Nursery) -> None:
        while True:
            told = await self._sync.pause(self._settings.sync_every * random.uniform(0.8, 1.2))
            connected = self._links.connected()
            self._asked = {peer: at for peer, at in self._asked.items() if peer in connected}
            waiting = [peer for peer in connected - told if peer not in self._greetings]
            peer = next_peer(waiting, self._asked, self._links.outbound(), random.Random())
            if peer is not None:
                self._asked[peer] = trio.current_time()
                nursery.start_soon(self._greetings.run, peer)

    async def _seek(self) -> None:
        """Ask somebody whom else it knows, while there are too few."""
        while True:
            await trio.sleep(self._settings.seek_every * random.uniform(0.8, 1.2))
            connected = self._links.connected()
            if 0 < len(connected) < self._settings.links:
                await self._ask_quietly(random.choice(sorted(connected)))

    async def _ask_quietly(self, peer: str) -> None:
        try:
            await self._ask(peer)
        except SwarmError as error:
            log.debug("seeking_failed", peer=peer, error=str(error))

    async def _tell(self) -> None:
        """Let some peers know at once where this node is reached; they tell others."""
        while True:
            await self._moved.wait()
            self._moved = trio.Event()
            async with trio.open_nursery() as nursery:
                for peer in random.sample(members := self._links.members(), min(TOLD, len(members))):
                    nursery.start_soon(self._ask_quietly, peer)

    async def _make_room(self) -> None:
        while True:
            with trio.move_on_after(ROOM_EVERY):
                await self._crowded.wait()
            self._crowded = trio.Event()
            since = {info.peer_id: info.connected_since for info in self._links.infos()}
            silent = overdue(since, self._links.members(), time.time())
            connections = [one for one in self._links.connections(self._kept()) if one.peer not in silent]
            too_many = surplus(connections, places(self._settings.max_connections))
            async with trio.open_nursery() as nursery:
                for peer in (*silent, *too_many):
                    log.info("connection_trimmed", peer=peer)
                    self._counters.trimmed += 1
                    nursery.start_soon(self._links.close, peer)
