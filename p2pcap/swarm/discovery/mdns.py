"""Peers on the same network, found without any address: DNS-SD over multicast DNS (RFC 6762, RFC 6763).

A node announces itself as `<peer id>._p2pcap._tcp.local.` with a TXT record that names its project and its addresses,
asks now and then who else is there, and hands those of its project to `hear`. zeroconf runs an event loop in a thread
of its own; what it hears comes over through a bounded queue, so a flood on the LAN costs the node a few lost
announcements.

Always holds: of a stranger's record at most MAX_TXT bytes are looked at; one record tells about one peer; what is heard
adds to what is known of a peer and never replaces it; a network without multicast is said once and tried again.
"""

import ipaddress
import logging
import queue
import re
import threading
from collections.abc import Callable, Sequence

import ifaddr
import structlog
import trio
from zeroconf import (  # type: ignore[attr-defined]  # not in __all__
    DNSOutgoing,
    DNSQuestion,
    DNSText,
    InterfaceChoice,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
)
from zeroconf import Error as ZeroconfError

from p2pcap.swarm.addresses import Endpoint, parse_endpoints

SERVICE = "_p2pcap._tcp.local."
MAX_TXT = 1_300
"""Bytes of a TXT record (RFC 6763, 6.2: one packet)."""
MAX_ADDRESSES = 8
MAX_ENTRY = 255
MAX_QUEUED = 64
MAX_PEERS = 128
"""Peers taken from the LAN in FORGET_SECONDS; an office of nodes, not an address book of a flood."""
FORGET_SECONDS = 60.0
ASK_AT_MOST = 300.0
"""Between two questions who is there; the first come after 1, 2, 4 … s (RFC 6762, 5.2)."""
LOOK_SECONDS = 5.0
"""Between two looks whether our addresses or the machine's networks changed."""
RETRY_SECONDS = 60.0
CLOSE_SECONDS = 0.9

_QUERY, _PTR, _IN = 0x0000, 12, 1
"""Header flags, record type and class of a question (RFC 1035)."""

log = structlog.get_logger(__name__)

Hear = Callable[[str, Sequence[Endpoint]], None]
TELLER = "the LAN"


class Mdns:
    """Announces this node on the LAN and hears of others.

    `own` gives this node's addresses as text that ends in /p2p/ and its id; `interfaces` are the IP addresses of the
    interfaces to use, all if None. `state` is one line for people.
    """

    def __init__(
        self,
        project: bytes,
        own_id: str,
        own: Callable[[], Sequence[str]],
        hear: Hear,
        interfaces: Sequence[str] | None = None,
    ) -> None:
        self._project = project
        self._own_id = own_id
        self._own = own
        self._hear = hear
        self._interfaces = interfaces
        self._heard: dict[Endpoint, float] = {}
        self.state = "not started"

    async def run(self) -> None:
        """Announce and listen for ever, whatever the network does."""
        while True:
            reason = await self._session()
            if reason is not None:
                if reason != self.state:
                    log.warning("mdns_unavailable", reason=reason)
                self.state = reason
                await trio.sleep(RETRY_SECONDS)

    async def _session(self) -> str | None:
        """Until the machine's networks change; returns in words why there is no multicast, if there is none."""
        abandoned = threading.Event()
        try:
            zeroconf = await trio.to_thread.run_sync(_open, self._interfaces, abandoned, abandon_on_cancel=True)
        except OSError as error:
            return _in_words(error)
        finally:
            abandoned.set()
        try:
            return await self._live(zeroconf)
        finally:
            await _close(zeroconf)

    async def _live(self, zeroconf: Zeroconf) -> str | None:
        inbox = _Inbox(self._project, trio.lowlevel.current_trio_token())
        zeroconf.add_listener(inbox, None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, inbox)
            nursery.start_soon(_ask, zeroconf)
            reason = await self._announce(zeroconf)
            nursery.cancel_scope.cancel()
        return reason

    async def _announce(self, zeroconf: Zeroconf) -> str | None:
        """Keep our record true, until the machine's networks change or it cannot be told."""
        networks, told = _networks(), None
        while _networks() == networks:
            own = announced(self._own())
            if own != told:
                try:
                    await trio.to_thread.run_sync(
                        _tell, zeroconf, self._info(own), told is None, abandon_on_cancel=True
                    )
                except (OSError, ZeroconfError) as error:
                    return _in_words(error)
                told = own
                self.state = "announced on the LAN"
                log.info("mdns_announced", addresses=own)
            await trio.sleep(LOOK_SECONDS)
        return None

    def _info(self, own: Sequence[str]) -> ServiceInfo:
        entries = [f"project={self._project.hex()}", *(f"dnsaddr={address}" for address in own)]
        text = b"".join(bytes([len(entry)]) + entry.encode("ascii") for entry in entries)
        port = re.search(r"/tcp/(\d+)", own[0]) if own else None
        name = f"{self._own_id}.{SERVICE}"
        return ServiceInfo(SERVICE, name, port=int(port[1]) if port else 0, properties=text, server=name)

    async def _take(self, inbox: "_Inbox") -> None:
        while True:
            await inbox.news.wait()
            inbox.news = trio.Event()
            while (texts := inbox.next()) is not None:
                self._hear_of(texts, trio.current_time())
                await trio.lowlevel.checkpoint()

    def _hear_of(self, texts: Sequence[str], now: float) -> None:
        endpoints = parse_endpoints(texts)
        peer = endpoints[0].peer if endpoints else self._own_id
        if peer == self._own_id:
            return
        self._heard = {known: at for known, at in self._heard.items() if now - at < FORGET_SECONDS}
        fresh = [endpoint for endpoint in endpoints if endpoint.peer == peer and endpoint not in self._heard]
        room = MAX_PEERS * MAX_ADDRESSES - len(self._heard)
        known = {endpoint.peer for endpoint in self._heard}
        if fresh and len(fresh) <= room and (peer in known or len(known) < MAX_PEERS):
            self._heard |= dict.fromkeys(fresh, now)
            log.debug("mdns_heard", peer=peer, addresses=[endpoint.transport for endpoint in fresh])
            self._hear(TELLER, fresh)


def announced(addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of a node's addresses worth telling on the LAN: not loopback, unless there is nothing else."""
    fitting = [text for text in addresses if len(f"dnsaddr={text}") <= MAX_ENTRY and text.isascii()]
    outside = [text for text in fitting if not _is_loopback(text)]
    chosen: list[str] = []
    for text in outside or fitting:
        if sum(map(len, (*chosen, text))) + 9 * (len(chosen) + 1) + 25 <= MAX_TXT and len(chosen) < MAX_ADDRESSES:
            chosen.append(text)
    return tuple(chosen)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.split("/")[2]).is_loopback
    except ValueError:
        return False


def read_txt(text: bytes, project: bytes) -> tuple[str, ...] | None:
    """The addresses in a TXT record's bytes (RFC 6763, 6.1); None unless it is a node's of `project`."""
    if len(text) > MAX_TXT:
        return None
    entries, at = [], 0
    while at < len(text):
        entries.append(text[at + 1 : at + 1 + text[at]])
        at += 1 + text[at]
    if f"project={project.hex()}".encode() not in entries:
        return None
    told = [entry.removeprefix(b"dnsaddr=") for entry in entries if entry.startswith(b"dnsaddr=")]
    return tuple(entry.decode("ascii", "replace") for entry in told[:MAX_ADDRESSES])


class _Inbox(RecordUpdateListener):
    """Takes other nodes' TXT records in zeroconf's thread and holds them for the trio side."""

    def __init__(self, project: bytes, token: trio.lowlevel.TrioToken) -> None:
        self._project = project
        self._token = token
        self._texts: queue.Queue[tuple[str, ...]] = queue.Queue(MAX_QUEUED)
        self.news = trio.Event()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Called in zeroconf's thread with every record that came."""
        for record in records:
            if isinstance(record.new, DNSText) and record.new.name.lower().endswith(SERVICE) and record.new.ttl:
                texts = read_txt(record.new.text, self._project)
                if texts:
                    self._put(texts)

    def _put(self, texts: tuple[str, ...]) -> None:
        try:
            self._texts.put_nowait(texts)
            self._token.run_sync_soon(self._tell, idempotent=True)
        except (queue.Full, trio.RunFinishedError):
            return  # it comes again with the next answer

    def _tell(self) -> None:
        self.news.set()

    def next(self) -> tuple[str, ...] | None:
        """The oldest record not yet taken."""
        try:
            return self._texts.get_nowait()
        except queue.Empty:
            return None


def _open(interfaces: Sequence[str] | None, abandoned: threading.Event) -> Zeroconf:
    """Sockets on port 5353, and a thread that reads them. Raises OSError."""
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL + 1)  # it would write to the terminal
    try:
        zeroconf = Zeroconf(interfaces=list(interfaces) if interfaces is not None else InterfaceChoice.All)
    except RuntimeError as error:  # "No interfaces to listen on"
        raise OSError("this machine has no network") from error
    if abandoned.is_set() or not zeroconf.engine.senders:
        zeroconf.close()
        raise OSError("no interface of this machine takes it")
    return zeroconf


def _tell(zeroconf: Zeroconf, info: ServiceInfo, first: bool) -> None:
    """Announce our record. Nobody is asked first whether the name is taken: it is a key's, so nobody else's."""
    if first:
        zeroconf.register_service(info, cooperating_responders=True)
    else:
        zeroconf.update_service(info)


async def _ask(zeroconf: Zeroconf) -> None:
    """Ask who is there, ever less often: whoever comes announces itself."""
    wait = 1.0
    while True:
        question = DNSOutgoing(_QUERY)
        question.add_question(DNSQuestion(SERVICE, _PTR, _IN))
        zeroconf.send(question)
        await trio.sleep(wait)
        wait = min(ASK_AT_MOST, 2 * wait)


async def _close(zeroconf: Zeroconf) -> None:
    """Say goodbye and close; the thread is left to itself when that takes longer than CLOSE_SECONDS."""
    with trio.move_on_after(CLOSE_SECONDS, shield=True):
        await trio.to_thread.run_sync(zeroconf.close, abandon_on_cancel=True)


def _in_words(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"no multicast DNS: {reason}; peers on the LAN are not found without an address"


def _networks() -> frozenset[str]:
    """The IPv4 addresses of this machine's interfaces."""
    return frozenset(str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4)
