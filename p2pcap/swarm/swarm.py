"""A node's place in the swarm: open it, publish, fetch, and see who is there.

Wires the parts of this package together. The services of libp2p run in a task of their own that is shielded from the
caller's cancellation, so that leaving `open_swarm`, however it happens, closes connections and sockets in order.

Always holds: after `open_swarm` has been left no task, socket or thread of it remains, within SHUTDOWN_SECONDS.
"""

import functools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import structlog
import trio
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service

from p2pcap.errors import RequestFailed, SwarmError
from p2pcap.identity import Identity
from p2pcap.swarm import messages
from p2pcap.swarm.addresses import Endpoint, parse_endpoint, parse_endpoints, parse_listen, reachable
from p2pcap.swarm.answers import Answers
from p2pcap.swarm.dialer import Dialer
from p2pcap.swarm.fetch import READY, Fetch, Verify
from p2pcap.swarm.gossip import Gossip, open_gossip
from p2pcap.swarm.host import Host, build_host, close_host, listen_on
from p2pcap.swarm.links import Links, PeerInfo
from p2pcap.swarm.messages import Status
from p2pcap.swarm.requests import Requests, UnknownProtocol
from p2pcap.swarm.rounds import Rounds
from p2pcap.swarm.service import Kind, Service
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.stalls import Stalls
from p2pcap.swarm.sync import Greetings, Sync

__all__ = ["PeerInfo", "Swarm", "SwarmSettings", "open_swarm"]

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 2.5


class Swarm:
    """The swarm as this node sees it. Made by `open_swarm`; every method needs it open."""

    def __init__(self, host: Host, project: bytes, service: Service, settings: SwarmSettings) -> None:
        self._host = host
        self._project = project
        self._service = service
        self._settings = settings
        self._links = Links(host, self._joined, self._left)
        self._requests = Requests(host, project, settings, self._blame)
        self._stalls = Stalls(self._blame)
        self._sync = Sync(service, self._requests, self._own_status, self._blame)
        self._greetings = Greetings(self._greet)
        self._rounds = Rounds(settings, self._links, self._sync, self._greetings, self.status)
        self._dialer = Dialer(self.peer_id, self._links.dial, self._links.connected, self._links.chosen, settings)
        self._gossip: Gossip
        self._nursery: trio.Nursery
        self._stop = trio.Event()
        Answers(service, self._sync, self._own_status, self._heard).serve(self._requests)

    @property
    def peer_id(self) -> str:
        """This node's own id."""
        return str(self._host.get_id())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others reach this node: multiaddrs that end in /p2p/ and its id, the ones set by hand first."""
        listening = (text for address in self._host.get_transport_addrs() for text in reachable(address))
        transports = dict.fromkeys((*self._settings.announce, *listening))
        return tuple(str(Endpoint(text, self.peer_id)) for text in transports)

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

    def know(self, addresses: Sequence[str]) -> None:
        """Keep connections to these addresses for as long as the node runs. Raises SwarmError for a bad one."""
        for endpoint in [parse_endpoint(address) for address in addresses]:
            self._dialer.know(endpoint)

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
        send_ready, ready = trio.open_memory_channel[tuple[bytes, bytes]](READY)
        fetch = Fetch(self._requests, self._settings, self._stalls, self._blame, kind, wanted, verify, cap)
        beside = _Beside(functools.partial(fetch.run, sources, send_ready))
        self._nursery.start_soon(beside.run)
        try:
            async for item in ready:
                yield item
            await beside.finished.wait()
        finally:
            beside.scope.cancel()
            ready.close()
        if beside.failure is not None:
            raise beside.failure

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
        self._nursery.start_soon(self._greetings.run, peer, self.peer_id < peer)

    def _left(self, peer: str, wholly: bool) -> None:
        if not wholly:
            self._gossip.lost_connection(ID.from_string(peer))
            return
        self._requests.forget(peer)
        self._service.on_disconnect(peer)
        self._dialer.wake()

    def _blame(self, peer: str, penalty: float) -> None:
        if self._links.standing.penalise(peer, penalty, trio.current_time()):
            log.warning("peer_banned", peer=peer)
            self._expel(peer)

    def _expel(self, peer: str) -> None:
        self._dialer.forget(peer)
        self._gossip.ban(ID.from_string(peer))
        self._nursery.start_soon(self._links.close, peer)

    def _heard(self, peer: str, status: Status) -> bool:
        """Take in a peer's status; False, and it is disconnected, when it is of another project or version."""
        if status.root != self._service.status().root:
            return self._dismiss(peer, "other_project")
        if status.version != messages.PROTOCOL_VERSION:
            return self._dismiss(peer, "other_version", theirs=status.version, ours=messages.PROTOCOL_VERSION)
        self._links.heard(peer, status)
        self._service.on_status(peer, status)
        self._dialer.proved(peer)
        own = parse_endpoints(status.addresses, peer)
        self._dialer.hear(peer, [*own, *(e for e in parse_endpoints(status.peers) if e.peer != peer)])
        return True

    def _dismiss(self, peer: str, why: str, **details: int) -> Literal[False]:
        """Part with a peer that can be of no use to us, nor we to it."""
        log.warning(why, peer=peer, **details)
        self._dialer.forget(peer)
        self._nursery.start_soon(self._links.close, peer)
        return False

    def _own_status(self) -> Status:
        others = [address for info in self.peers() for address in info.addresses[:2]]
        random.shuffle(others)
        return msgspec.structs.replace(self._service.status(), addresses=self.addresses[:8], peers=tuple(others[:16]))

    async def _greet(self, peer: str, begin: bool) -> None:
        """Exchange statuses, get the live claims, and make equal what both hold.

        One conversation repairs both sides, so of two that have just connected only one is to `begin`; and whoever
        holds nothing, since nobody begins with it.
        """
        begin = begin or not self._service.status().count
        try:
            theirs = await self.status(peer)
            await self._sync.pull_claims(peer)
            if begin:
                await self._sync.reconcile(peer, theirs)
        except UnknownProtocol:
            self._dismiss(peer, "other_project")
        except SwarmError as error:
            log.debug("greeting_failed", peer=peer, error=str(error))

    # its life

    async def _run(self, listen: Sequence[str], *, task_status: Any) -> None:
        addresses = [parse_listen(text) for text in listen]
        gossip = open_gossip(self._host, self._project, self._service.judge, self._blame, self._settings)
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
            except SwarmError as error:
                self._nursery.cancel_scope.cancel()
                return error
            self._nursery.start_soon(self._dialer.run)
            self._nursery.start_soon(self._gossip.announce_loop, self._settings.announce_every)
            self._nursery.start_soon(self._rounds.run)
            task_status.started()
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()
            scope.deadline = trio.current_time() + SHUTDOWN_SECONDS
            with trio.move_on_after(SHUTDOWN_SECONDS, shield=True):  # closed sockets set free who waits for a dead peer
                await close_host(self._host)
        return None


class _Beside:
    """Runs a task beside a consumer who may walk away, and keeps its error for whoever waits for `finished`."""

    def __init__(self, task: Callable[[], Awaitable[None]]) -> None:
        self._task = task
        self.scope = trio.CancelScope()
        self.finished = trio.Event()
        self.failure: Exception | None = None

    async def run(self) -> None:
        try:
            with self.scope:
                await self._task()
        except Exception as error:  # noqa: BLE001 - raised again where the consumer waits
            self.failure = error
        finally:
            self.finished.set()


@asynccontextmanager
async def open_swarm(
    identity: Identity,
    project: bytes,
    listen: Sequence[str],
    service: Service,
    known: Sequence[str] = (),
    settings: SwarmSettings | None = None,
) -> AsyncIterator[Swarm]:
    """A running swarm node for the project whose root hash starts with the 8 bytes `project`.

    `listen` are multiaddrs like /ip4/0.0.0.0/tcp/4001 (port 0: any), `known` the addresses of peers to keep connected
    to. Raises AddressInUse, or SwarmError for an address that is none; errors of the body come out as they are.
    """
    chosen = settings or SwarmSettings()
    swarm = Swarm(build_host(identity, chosen), project, service, chosen)
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
