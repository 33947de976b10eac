"""Whom to dial, and when.

Addresses come from the user (ticket, --peer), from peers' statuses and from discovery. The user's are dialled for as
long as the node runs; the others only while fewer than `links` peers are connected, or fewer than half of `links` by
our own choice, and are forgotten after GIVE_UP failures in a row. So whoever crowds in on us does not decide alone whom
we hear.

Peer ids cost a stranger nothing, so what strangers tell is held to limits that no number of ids lifts: heard peers are
dialled DIALS_PER_SECOND at most, a host that answered for none of VAIN dials is left alone for a while, and of what one
peer told PER_TELLER peers are kept.

Always holds: one peer is dialled once at a time, ABREAST peers in all, each address within `dial_timeout`; at most
MAX_CONTACTS peers are remembered.
"""

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from p2pcap.errors import Unreachable
from p2pcap.swarm.addresses import Endpoint, is_public
from p2pcap.swarm.rates import TokenBucket
from p2pcap.swarm.settings import SwarmSettings

log = structlog.get_logger(__name__)

ABREAST = 4
GIVE_UP = 8
MAX_CONTACTS = 512
MAX_TRANSPORTS = 8
PER_TELLER = 32
"""Peers known from one peer's word; a status names 16 at most."""
DIALS_PER_SECOND = 2.0
DIALS_SAVED = 16.0
"""For peers that were only heard of. Those that the user named are dialled when it is time."""
VAIN = 16
"""Dials of heard addresses at one host that may lead to nothing before it is left alone for LEFT_ALONE seconds."""
LEFT_ALONE = 600.0
MAX_HOSTS = 512
COURTESY_SECONDS = 1.0
"""Two peers that hear of each other dial at once and end up with two connections; the one with the larger id waits."""
STAGGER = 0.5
"""From dialling one address of a peer to dialling its next one as well; at once when the first has failed."""
ALONE_SECONDS = 10.0
"""The longest wait between two dials of a peer while nobody at all is connected: the network may be back any moment."""
DETOUR_AFTER = 2.0
"""As STAGGER, before the first address that leads through a relay: whoever can be reached directly should be."""

Dial = Callable[[Endpoint], Awaitable[None]]
"""Opens one connection. Raises Unreachable."""


@dataclass
class Contact:
    """A peer that could be dialled: its transport addresses, how often that led to nothing of late, and why."""

    peer: str
    next_try: float
    given: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    failures: int = 0
    trouble: str = ""
    teller: str = ""
    """Who told of it first; empty for the user, and for a peer that told of itself."""


class Hosts:
    """Hosts that were dialled in vain. Pure: times are passed in.

    Always holds: at most MAX_HOSTS are remembered; which was dialled longest ago is forgotten first.
    """

    def __init__(self) -> None:
        self._vain: dict[str, tuple[int, float]] = {}

    def failed(self, transport: str, now: float) -> None:
        """Nobody of ours answered there."""
        host = _host(transport)
        count, since = self._vain.pop(host, (0, now))
        self._vain[host] = (count + 1, now) if now - since < LEFT_ALONE else (1, now)
        if len(self._vain) > MAX_HOSTS:
            del self._vain[next(iter(self._vain))]

    def answered(self, transport: str) -> None:
        """Somebody did."""
        self._vain.pop(_host(transport), None)

    def left_alone(self, transport: str, now: float) -> bool:
        """Whether not to dial there on a stranger's word. Private hosts never are: only neighbours tell of them."""
        if not is_public(transport):
            return False
        count, since = self._vain.get(_host(transport), (0, 0.0))
        return count >= VAIN and now - since < LEFT_ALONE


def _host(transport: str) -> str:
    """The IP address, or for a name its last two labels: whoever owns these has as many names as he wants."""
    _, family, host, *_ = transport.split("/", 3)
    return ".".join(host.lower().rstrip(".").split(".")[-2:]) if family.startswith("dns") else host


class Dialer:
    """Keeps the connections that are wanted."""

    def __init__(
        self,
        own: str,
        dial: Dial,
        connected: Callable[[], Collection[str]],
        chosen: Callable[[], Collection[str]],
        settings: SwarmSettings,
    ) -> None:
        """`connected()` are the peers that need no dialling, `chosen()` those of them that we dialled."""
        self._own = own
        self._dial = dial
        self._connected = connected
        self._chosen = chosen
        self._settings = settings
        self._contacts: dict[str, Contact] = {}
        self._news = trio.Event()
        self._abreast = trio.CapacityLimiter(ABREAST)
        self._hosts = Hosts()
        self._turns: TokenBucket

    def know(self, endpoint: Endpoint) -> None:
        """Keep a connection to this address of the user's."""
        contact = self._contact(endpoint.peer, wait=0.0, needed=True)
        if contact is not None and endpoint.transport not in contact.given:
            contact.given.append(endpoint.transport)
            contact.next_try = trio.current_time()
            self.wake()

    def hear(self, teller: str, endpoints: Sequence[Endpoint]) -> None:
        """Addresses that a connected peer told: all of its own, which replace older ones, and some of others.

        One that leads through this node as the relay leads nowhere: whoever has its place here is connected already.
        """
        endpoints = [one for one in endpoints if one.relay is None or one.relay.peer != self._own]
        for peer in {endpoint.peer for endpoint in endpoints}:
            wait = COURTESY_SECONDS if self._own > peer else 0.0
            contact = self._contact(peer, wait, needed=False, teller="" if teller == peer else teller)
            if contact is None:
                continue
            told = [endpoint.transport for endpoint in endpoints if endpoint.peer == peer]
            contact.heard = list(dict.fromkeys(told if peer == teller else contact.heard + told))[:MAX_TRANSPORTS]
        self.wake()

    def proved(self, peer: str) -> None:
        """A connected peer showed itself to be of this project; only then is a dial counted as a success."""
        if peer in self._contacts:
            self._contacts[peer].failures = 0
            self._contacts[peer].trouble = ""
            self._contacts[peer].teller = ""  # it stands for itself now
            self._contacts[peer].next_try = trio.current_time()

    def forget(self, peer: str, why: str = "") -> None:
        """This peer is of another project or version, or banned: dial it no more.

        One that the user named is dialled on, ever less often: it may be updated, or the ban end.
        """
        contact = self._contacts.get(peer)
        if contact is not None and contact.given:
            contact.trouble = why
        else:
            self._contacts.pop(peer, None)

    def troubles(self) -> tuple[str, ...]:
        """Why peers that the user named are not connected, as far as is known, a line each."""
        return tuple(contact.trouble for contact in self._contacts.values() if contact.given and contact.trouble)

    def given(self) -> list[str]:
        """The peers that the user wants connected."""
        return [contact.peer for contact in self._contacts.values() if contact.given]

    def wake(self) -> None:
        """Look again whom to dial: an address came, or a connection went."""
        self._news.set()

    async def connect(self, endpoint: Endpoint) -> None:
        """Dial one address now. Raises Unreachable."""
        with trio.move_on_after(self._settings.dial_timeout) as scope:
            await self._dial(endpoint)
        if scope.cancelled_caught:
            seconds = self._settings.dial_timeout
            raise Unreachable(f"Nobody answered at {endpoint} within {seconds:g} s. Check the address and firewalls.")

    async def reach(self, peer: str) -> None:
        """Dial a peer now whose addresses are known, in its turn with other dials; nothing happens when none is."""
        contact = self._contacts.get(peer)
        if contact is None:
            return
        await self._turns.take()
        async with self._abreast:
            await self._reach(contact)

    async def run(self) -> None:
        """Dial for ever."""
        self._turns = TokenBucket(DIALS_PER_SECOND, DIALS_SAVED)
        async with trio.open_nursery() as nursery:
            dialling: set[str] = set()
            while True:
                self._news = trio.Event()
                now = trio.current_time()
                if not self._connected():
                    for contact in self._contacts.values():
                        contact.next_try = min(contact.next_try, now + ALONE_SECONDS)
                waiting = [c for c in self._wanted() if c.peer not in dialling]
                for contact in waiting:
                    if contact.next_try <= now:
                        dialling.add(contact.peer)
                        nursery.start_soon(self._try, contact, dialling)
                later = [c.next_try for c in waiting if c.next_try > now]
                with trio.move_on_at(min(later, default=float("inf"))):
                    await self._news.wait()

    def _wanted(self) -> list[Contact]:
        connected = self._connected()
        absent = [contact for contact in self._contacts.values() if contact.peer not in connected]
        given = [contact for contact in absent if contact.given]
        heard = [contact for contact in absent if not contact.given]
        random.shuffle(heard)
        heard.sort(key=lambda contact: contact.failures)
        links = self._settings.links
        lacking = max(links - len(connected), links // 2 - len(self._chosen()))
        return given + heard[: max(0, lacking - len(given))]

    async def _try(self, contact: Contact, dialling: set[str]) -> None:
        contact.failures += 1  # until `proved`: one that hangs up at once must not be dialled at once again
        try:
            if not contact.given:
                await self._turns.take()
            async with self._abreast:
                await self._reach(contact)
        finally:
            dialling.discard(contact.peer)
        contact.next_try = trio.current_time() + self._wait(contact.failures) * random.uniform(0.75, 1.25)
        if contact.failures >= GIVE_UP and not contact.given:
            self.forget(contact.peer)
        self.wake()

    def _wait(self, failures: int) -> float:
        """Seconds until a peer is dialled again that was dialled so often in vain."""
        at_most = self._settings.redial_at_most if self._connected() else ALONE_SECONDS
        doubled = self._settings.redial_after * 2 ** min(failures - 1, 16)
        return float(min(self._settings.redial_at_most, at_most, doubled))

    async def _reach(self, contact: Contact) -> None:
        """Dial the contact's addresses until one answers, the direct ones first."""
        now = trio.current_time()
        heard = [transport for transport in contact.heard if not self._hosts.left_alone(transport, now)]
        endpoints = [Endpoint(transport, contact.peer) for transport in dict.fromkeys(contact.given + heard)]
        endpoints.sort(key=lambda endpoint: endpoint.relay is not None)
        async with trio.open_nursery() as nursery:
            for endpoint, following in zip(endpoints, [*endpoints[1:], None], strict=False):
                failed = trio.Event()
                nursery.start_soon(self._attempt, contact, endpoint, failed, nursery.cancel_scope)
                detour = following is not None and following.relay is not None and endpoint.relay is None
                with trio.move_on_after(DETOUR_AFTER if detour else STAGGER):
                    await failed.wait()

    async def _attempt(
        self, contact: Contact, endpoint: Endpoint, failed: trio.Event, others: trio.CancelScope
    ) -> None:
        try:
            await self.connect(endpoint)
        except Unreachable as error:
            log.debug("dial_failed", peer=endpoint.peer, address=endpoint.transport, error=str(error))
            contact.trouble = str(error)
            if endpoint.transport not in contact.given:
                self._hosts.failed(endpoint.transport, trio.current_time())
            failed.set()
        else:
            self._hosts.answered(endpoint.transport)
            others.cancel()

    def _contact(self, peer: str, wait: float, needed: bool, teller: str = "") -> Contact | None:
        if peer == self._own:
            return None
        if peer not in self._contacts:
            told = [contact for contact in self._contacts.values() if teller and contact.teller == teller]
            full = len(self._contacts) >= MAX_CONTACTS
            if len(told) >= PER_TELLER and not self._make_room(told, needed):
                return None
            if full and not self._make_room(list(self._contacts.values()), needed):
                return None
            self._contacts[peer] = Contact(peer, trio.current_time() + wait, teller=teller)
        return self._contacts[peer]

    def _make_room(self, among: Sequence[Contact], needed: bool) -> bool:
        heard = [contact for contact in among if not contact.given]
        worst = max(heard, key=lambda contact: contact.failures, default=None)
        if worst is None or not (needed or worst.failures):
            return False
        self.forget(worst.peer)
        return True
