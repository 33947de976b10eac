"""What a swarm does again and again while it runs: compare with a peer, look for more peers, close what is too much.

Always holds: each round has its deadline in the requests it makes, and one that fails costs nothing but itself.
"""

import random
from collections.abc import Awaitable, Callable

import structlog
import trio

from p2pcap.errors import SwarmError
from p2pcap.swarm.links import Links
from p2pcap.swarm.messages import Status
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.sync import Greetings, Sync

log = structlog.get_logger(__name__)


class Rounds:
    """The rounds of one swarm. `ask(peer)` exchanges statuses with a peer, which tells addresses of others."""

    def __init__(
        self,
        settings: SwarmSettings,
        links: Links,
        sync: Sync,
        greetings: Greetings,
        ask: Callable[[str], Awaitable[Status]],
    ) -> None:
        self._settings = settings
        self._links = links
        self._sync = sync
        self._greetings = greetings
        self._ask = ask

    async def run(self) -> None:
        """All of them, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._compare, nursery)
            nursery.start_soon(self._seek)

    async def _compare(self, nursery: trio.Nursery) -> None:
        while True:
            told = await self._sync.pause(self._settings.sync_every * random.uniform(0.8, 1.2))
            waiting = set(self._links.connected()) - told
            if others := sorted(peer for peer in waiting if peer not in self._greetings):
                nursery.start_soon(self._greetings.run, random.choice(others))

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
