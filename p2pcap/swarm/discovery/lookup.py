"""Kademlia's iterative search: ask the nearest nodes known, who name nearer ones, until none is nearer.

Some of those asked may lie. Whoever names nodes that cannot be reached is not followed further, and one node's answer
can neither use up the questions nor the places for providers.

Always holds: at most MAX_QUESTIONS questions, ABREAST at a time, in LOOKUP_SECONDS.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import trio

from p2pcap.errors import SwarmError
from p2pcap.swarm.discovery.kad_messages import Answer
from p2pcap.swarm.discovery.kademlia import BUCKET, Contact, nearest

ABREAST = 3
MAX_QUESTIONS = 48
MAX_KNOWN = 512
MAX_PROVIDERS = 64
LOOKUP_SECONDS = 60.0
BAD_TIPS = 3
"""Unreachable nodes that one node may name before the others it named are left alone."""

Ask = Callable[[Contact], Awaitable[Answer]]
"""Asks one node about the key. Raises SwarmError."""


class Lookup:
    """One search for a place. `answered` are the nodes that did, `providers` what they named, by who named them."""

    def __init__(self, target: int, own: str, start: Iterable[Contact], ask: Ask) -> None:
        self._target = target
        self._ask = ask
        self._known = {contact.peer: contact for contact in start if contact.peer != own}
        self._teller: dict[str, str] = {}
        self._bad_tips: Counter[str] = Counter()
        self._asked: set[str] = {own}
        self._failed: set[str] = set()
        self._own = own
        self.answered: dict[str, Contact] = {}
        self._providers: dict[str, tuple[Contact, ...]] = {}

    @property
    def providers(self) -> list[Contact]:
        """Everybody's first tip, then everybody's second, and so on: one that lies fills only its own part."""
        longest = max(map(len, self._providers.values()), default=0)
        turns = (tips[n] for n in range(longest) for tips in self._providers.values() if n < len(tips))
        return list({tip.peer: tip for tip in reversed(list(turns))}.values())[::-1][:MAX_PROVIDERS]

    @property
    def closest(self) -> list[Contact]:
        """The nodes nearest to the place that answered."""
        return nearest(self.answered.values(), self._target, BUCKET)

    async def run(self) -> None:
        """Search until it ends; what was found so far can be read at any time."""
        with trio.move_on_after(LOOKUP_SECONDS):
            async with trio.open_nursery() as nursery:
                news = trio.Event()
                working = 0

                async def one(contact: Contact) -> None:
                    nonlocal working
                    await self._ask_one(contact)
                    working -= 1
                    news.set()

                while (contact := self._next()) is not None or working:
                    if contact is not None and working < ABREAST:
                        self._asked.add(contact.peer)
                        working += 1
                        nursery.start_soon(one, contact)
                    else:
                        await news.wait()
                        news = trio.Event()

    def _next(self) -> Contact | None:
        """The nearest node not asked yet, among the nearest that did not fail; None when those have all been asked."""
        if len(self._asked) > MAX_QUESTIONS:
            return None
        hopeful = [one for one in self._known.values() if one.peer not in self._failed and self._trusted(one)]
        return next((one for one in nearest(hopeful, self._target, BUCKET) if one.peer not in self._asked), None)

    def _trusted(self, contact: Contact) -> bool:
        return contact.peer in self.answered or self._bad_tips[self._teller.get(contact.peer, "")] < BAD_TIPS

    async def _ask_one(self, contact: Contact) -> None:
        try:
            answer = await self._ask(contact)
        except SwarmError:
            self._failed.add(contact.peer)
            if teller := self._teller.get(contact.peer):
                self._bad_tips[teller] += 1
            return
        self.answered[contact.peer] = contact
        self._providers[contact.peer] = answer.providers
        for told in answer.closer:
            if told.peer not in self._known and told.peer != self._own and len(self._known) < MAX_KNOWN:
                self._known[told.peer] = told
                self._teller[told.peer] = contact.peer
