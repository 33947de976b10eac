"""A node's place in the swarm: open it, publish, fetch, and see who is there.

Wires the parts of this package together. The services of libp2p run in a task of their own that is shielded from the
caller's cancellation, so that leaving `open_swarm`, however it happens, closes connections and sockets in order.

Always holds: after `open_swarm` has been left no task, socket or thread of it remains, within SHUTDOWN_SECONDS.
"""

import functools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
import trio
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from p2pcap.errors import RequestFailed, SwarmError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm import messages
from p2pcap.swarm.addresses import Endpoint, parse_endpoint, parse_listen, reachable, worth_telling
from p2pcap.swarm.answers import Answers
from p2pcap.swarm.bandwidth import Bandwidth
from p2pcap.swarm.beside import items
from p2pcap.swarm.dialer import Dialer
from p2pcap.swarm.discovery.discovery import Discovery
from p2pcap.swarm.fetch import READY, Fetch, Verify
from p2pcap.swarm.gossip import Gossip, open_gossip
from p2pcap.swarm.host import Host, build_host, close_host, listen_on
from p2pcap.swarm.links import Links, PeerInfo
from p2pcap.swarm.messages import Status
from p2pcap.swarm.nat.traversal import Traversal
from p2pcap.swarm.network import NetworkState
from p2pcap.swarm.overview import overview
from p2pcap.swarm.peers import Consequence
from p2pcap.swarm.requests import Requests, UnknownProtocol
from p2pcap.swarm.rounds import Rounds
from p2pcap.swarm.service import Kind, Service
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.stalls import Stalls
from p2pcap.swarm.sync import Greetings, Sync

__all__ = ["PeerInfo", "Swarm", "SwarmSettings", "open_swarm"]

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 2.0

DISMISSED = {
    "other_project": "is of another project. Ask for the address of a peer of yours.",
    "other_version": "speaks another version of the protocol. Install the newer p2pcap on both machines.",
}
"""What is said of a peer that is no use, for each event of the log."""


class Swarm:
    """The swarm as this node sees it. Made by `open_swarm`; every method needs it open."""

    def __init__(
        self, host: Host, project: bytes, service: Service, settings: SwarmSettings, book: Path | None = None
    ) -> None:
        self._host = host
        self._project = project
        self._service = service
        self._settings = settings
        self._bandwidth = Bandwidth(settings.upload, settings.download)
        self._counters = host.get_network().counters
        self._synced: float | None = None
        self._links = Links(host, self._joined, self._left)
        self._requests = Requests(host, project, settings, self._blame, self._counters)
        self._stalls = Stalls(self._blame)
        self._sync = Sync(service, self._requests, self._own_status, self._blame, self._counters, self._compared)
        self._greetings = Greetings(self._greet)
        self._rounds = Rounds(
            settings, self._links, self._sync, self._greetings, self.status, self._kept, self._counters
        )
        self._dialer = Dialer(self.peer_id, self._dial, self._links.connected, self._links.outbound, settings)
        self._traversal = Traversal(
            host,
            self._requests,
            self._links,
            settings,
            self._blame,
            self._bandwidth.upload,
            self._listening,
            self._rounds.moved,
        )
        self._discovery = Discovery(
            host, project, settings, self._links, self._dialer, lambda: self.addresses, self._blame, book, time.time
        )
        self._gossip: Gossip
        self._nursery: trio.Nursery
        self._stop = trio.Event()
        self._bound: tuple[Multiaddr, ...] = ()
        host.get_network().blame = self._blame
        Answers(service, self._sync, self._own_status, self._heard, self._bandwidth.up).serve(self._requests)
        self._traversal.serve()

    @property
    def peer_id(self) -> str:
        """This node's own id."""
        return str(self._host.get_id())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others reach this node: multiaddrs that end in /p2p/ and its id, the ones set by hand first."""
        return tuple(str(Endpoint(text, self.peer_id)) for text in self._traversal.transports())

    def _listening(self) -> list[str]:
        return [text for address in self._bound for text in reachable(address)]

    def network(self) -> NetworkState:
        """This node's place in the network now."""
        return overview(
            self._settings,
            self._links,
            self._traversal,
            self._discovery,
            self._bandwidth,
            self._host.get_network().traffic,
            self._counters,
            self._synced,
        )

    def peers(self) -> tuple[PeerInfo, ...]:
        """The connected peers, longest connected first."""
        return self._links.infos()

    async def connect(self, address: str) -> str:
        """Connect to the peer at a multiaddr with /p2p/ and return its id. Raises SwarmError or Unreachable."""
        endpoint = parse_endpoint(address)
        if endpoint.peer == self.peer_id:
            raise SwarmError(f"The address {address} is this node's own. Give the address of another node.")
        await self._dialer.connect(endpoint)
        return endpoint.peer

    async def reach(self, peer: str) -> bool:
        """Whether `peer` is connected; if it was not, the addresses that are known of it are dialled first."""
        if peer not in self._links.connected():
            await self._dialer.reach(peer)
        return peer in self._links.connected()

    def know(self, addresses: Sequence[str]) -> None:
        """Keep connections to these addresses and names while the node runs. Raises SwarmError for a bad one."""
        self._discovery.know(addresses)

    async def publish(self, topic: str, data: bytes) -> None:
        """Announce `data` under "claims" or "results". Raises SwarmError when it is over 60 KiB."""
        await self._gossip.publish(topic, data)

    async def status(self, peer: str) -> Status:
        """Tell `peer` our status and ask for its. Raises Unreachable or RequestFailed."""
        status = await self._sync.exchange(peer)
        if not self._heard(peer, status):
            raise RequestFailed(f"Peer {peer} is of another project or version. It is being disconnected.")
        return status

    async def statements(self, peer: str, ids: Sequence[bytes]) -> list[bytes]:
        """Those of these envelopes, at most 256, that `peer` holds. Raises Unreachable or RequestFailed."""
        return await self._sync.statements(peer, ids)

    async def push(self, peer: str, envelopes: Sequence[bytes]) -> None:
        """Hand statements to `peer`; it keeps those that are valid. Raises Unreachable or RequestFailed."""
        await self._sync.push(peer, envelopes)

    async def chain(self, peer: str, after: int) -> list[bytes]:
        """The first checkpoints above number `after` that `peer` holds, ascending. Raises as `statements` does."""
        return await self._sync.chain(peer, after)

    def sync_soon(self, peer: str) -> None:
        """Compare what `peer` holds with what we hold, and make it equal; in the background."""
        self._nursery.start_soon(self._greetings.run, peer)

    async def fetch(
        self, kind: Kind, wanted: Sequence[bytes], peers: Sequence[str] | None, verify: Verify, cap: int
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Fetch items by hash from `peers` (all connected ones if None), each as soon as it is there.

        Yields (hash, bytes) for which `verify(hash, bytes)` holds; what nobody has, or has with more than `cap`
        bytes, is not yielded. Iterate it inside `contextlib.aclosing`.
        """
        sources = list(self._links.connected()) if peers is None else list(peers)
        asking = self._requests, self._settings, self._stalls, self._blame, self._bandwidth.down
        fetch = Fetch(*asking, kind, wanted, verify, cap)
        async with aclosing(items(functools.partial(fetch.run, sources), READY, self._nursery)) as arriving:
            async for item in arriving:
                yield item

    async def disconnect(self, peer: str) -> None:
        """Close the connections with `peer`; it may come back."""
        await self._links.close(peer)

    def ban(self, peer: str) -> None:
        """Disconnect `peer`, and let it in no more for an hour."""
        self._links.standing.ban(peer, trio.current_time())
        self._expel(peer)

    # what peers cause

    def _joined(self, peer: str) -> None:
        self._gossip.pardon(ID.from_string(peer))
        self._service.on_connect(peer)
        self._rounds.joined()
        self._nursery.start_soon(self._greetings.run, peer, self.peer_id < peer)

    def _left(self, peer: str, wholly: bool) -> None:
        if not wholly:
            self._gossip.lost_connection(ID.from_string(peer))
            return
        self._traversal.left()
        self._service.on_disconnect(peer)
        self._dialer.wake()

    def _kept(self) -> set[str]:
        """The peers that are never closed to make room: given by the user, holding a place for us, or chosen by us."""
        chosen = self._links.outbound()[: self._settings.links]
        return {*self._dialer.given(), *self._traversal.relays(), *chosen}

    def _compared(self) -> None:
        self._synced = time.time()

    def _blame(self, peer: str, penalty: float) -> None:
        match self._links.standing.penalise(peer, penalty, trio.current_time()):
            case Consequence.BAN:
                log.warning("peer_banned", peer=peer)
                self._counters.bans += 1
                self._expel(peer)
            case Consequence.DISCONNECT:
                log.info("peer_sent_away", peer=peer)
                self._nursery.start_soon(self._links.close, peer)
            case Consequence.NOTHING:
                pass

    def _expel(self, peer: str) -> None:
        self._discovery.forget(peer)
        self._gossip.ban(ID.from_string(peer))
        self._nursery.start_soon(self._links.close, peer)

    def _heard(self, peer: str, status: Status) -> bool:
        """Take in a peer's status; False, and it is disconnected, when it is of another project or version."""
        if status.root != self._service.status().root:
            return self._dismiss(peer, "other_project")
        if status.version != messages.PROTOCOL_VERSION:
            self._links.standing.send_away(peer, trio.current_time())
            return self._dismiss(peer, "other_version", theirs=status.version, ours=messages.PROTOCOL_VERSION)
        self._links.heard(peer, status)
        self._service.on_status(peer, status)
        self._dialer.proved(peer)
        self._discovery.met(peer, status, self._links.dialled(peer), self._links.near(peer))
        self._traversal.heard(peer)
        return True

    def _dismiss(self, peer: str, why: str, **details: int) -> Literal[False]:
        """Part with a peer that can be of no use to us, nor we to it; but one may stay for the hash table only."""
        if why == "other_project" and self._discovery.admits(peer):
            self._links.release(peer)
            return False
        log.warning(why, peer=peer, **details)
        self._discovery.forget(peer, f"Peer {peer} {DISMISSED[why]}")
        self._nursery.start_soon(self._links.close, peer)
        return False

    def _own_status(self) -> Status:
        others = [address for info in self.peers() for address in worth_telling(info.addresses, 3)]
        random.shuffle(others)
        return msgspec.structs.replace(
            self._service.status(),
            relay=self._traversal.relaying,
            addresses=self.addresses[:8],
            peers=tuple(others[:16]),
        )

    async def _dial(self, endpoint: Endpoint) -> None:
        """Open a connection unless there is one. Raises Unreachable."""
        relay = endpoint.relay
        if relay is None:
            await self._links.dial(endpoint)
        elif relay.peer == self.peer_id:
            raise Unreachable(f"The address {endpoint} leads through this node itself. Give another address.")
        elif endpoint.peer not in self._links.connected():
            await self._links.dial(relay)
            await self._be_known_to(relay.peer)
            await self._traversal.circuits.dial(relay.peer, endpoint.peer)
            self._links.reached(endpoint)

    async def _be_known_to(self, relay: str) -> None:
        """A relay works for those who have told it their status. Raises Unreachable."""
        if not self._links.is_member(relay):
            try:
                await self.status(relay)
            except RequestFailed as error:
                raise Unreachable(str(error)) from error

    async def _greet(self, peer: str, begin: bool) -> None:
        """Exchange statuses, get the live claims, and make equal what both hold.

        One conversation repairs both sides, so of two that have just connected only one is to `begin`; and whoever
        holds nothing, since nobody begins with it.
        """
        begin = begin or not self._service.status().count
        try:
            theirs = await self.status(peer)
        except UnknownProtocol:
            self._dismiss(peer, "other_project")
            return
        except SwarmError as error:
            log.debug("status_failed", peer=peer, error=str(error))
            return
        try:
            await self._sync.pull_claims(peer)
            if begin:
                await self._sync.reconcile(peer, theirs)
        except SwarmError as error:
            log.debug("greeting_failed", peer=peer, error=str(error))

    # its life

    async def _run(self, listen: Sequence[str], *, task_status: Any) -> None:
        addresses = [parse_listen(text) for text in listen]
        gossip = open_gossip(
            self._host, self._project, self._service.judge, self._blame, self._settings, self._counters
        )
        failure: SwarmError | None = None
        with trio.CancelScope(shield=True) as scope:
            async with background_trio_service(self._host.get_network()), gossip as self._gossip:
                try:
                    failure = await self._live(addresses, scope, task_status)
                finally:
                    await close_host(self._host)
        if failure is not None:
            raise failure

    async def _live(self, addresses: Sequence[Any], scope: trio.CancelScope, task_status: Any) -> SwarmError | None:
        """Everything between listening and `_stop`; what keeps it from listening is returned."""
        async with trio.open_nursery() as self._nursery:
            try:
                for address in addresses:
                    await listen_on(self._host, address)
                self._bound = tuple(self._host.get_transport_addrs())  # libp2p cannot tell them while it closes
            except SwarmError as error:
                self._nursery.cancel_scope.cancel()
                return error
            self._nursery.start_soon(self._dialer.run)
            self._nursery.start_soon(self._gossip.announce_loop, self._settings.announce_every)
            for part in (self._rounds, self._discovery, self._traversal):
                self._nursery.start_soon(part.run)
            task_status.started()
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()
            scope.deadline = trio.current_time() + SHUTDOWN_SECONDS
            with trio.move_on_after(SHUTDOWN_SECONDS, shield=True):  # closed sockets set free who waits for a dead peer
                await close_host(self._host)
        return None


@asynccontextmanager
async def open_swarm(
    identity: Identity,
    project: bytes,
    listen: Sequence[str],
    service: Service,
    known: Sequence[str] = (),
    settings: SwarmSettings | None = None,
    book: Path | None = None,
) -> AsyncIterator[Swarm]:
    """A running swarm node for the project whose root hash starts with the 8 bytes `project`.

    `listen` are multiaddrs like /ip4/0.0.0.0/tcp/4001 (port 0: any), `known` the addresses of peers to keep connected
    to, `book` the file in which peers are remembered. Raises AddressInUse, or SwarmError for an address that is none;
    errors of the body come out as they are.
    """
    chosen = settings or SwarmSettings()
    swarm = Swarm(build_host(identity, chosen), project, service, chosen, book)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            swarm.know(known)
            await nursery.start(swarm._run, listen)
            yield swarm
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - raised again below, unwrapped
            failure = error
        finally:
            swarm._stop.set()
    if failure is not None:
        raise failure
