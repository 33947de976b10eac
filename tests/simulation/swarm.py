"""A swarm without libp2p: what `p2pcap.swarm.swarm.Swarm` is to a node, over the wires of the simulation.

The sync is the real one, and so are the messages with their limits, the scores of peers, and what a service answers.
Gossip goes from neighbour to neighbour as GossipSub's does: once for each message, and only what was accepted.

Always holds: nothing larger than the protocol allows gets to a node, and what does not decode is held against its
sender.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import trio

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, RequestFailed, SwarmError
from p2pcap.swarm import messages
from p2pcap.swarm import peers as penalties
from p2pcap.swarm.links import PeerInfo
from p2pcap.swarm.messages import Status
from p2pcap.swarm.peers import Standing
from p2pcap.swarm.rates import TokenBucket
from p2pcap.swarm.requests import MAX_REQUEST, TOKEN_BYTES
from p2pcap.swarm.service import Judgement, Kind, Service
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.sync import MAX_FRAME, RECONCILE_TOKEN_BYTES, Greetings, Sync
from tests.simulation.wires import Answer, Wires
from tests.simulation.world import World

T = TypeVar("T")

SETTINGS = SwarmSettings()
SEEN_SECONDS = 300.0
"""How long gossip knows a message again."""


class SimulatedSwarm:
    """One node's swarm. Its tasks live in `nursery`, and die with it."""

    def __init__(self, world: World, wires: Wires, peer_id: str, service: Service, nursery: trio.Nursery) -> None:
        self._world = world
        self._wires = wires
        self._peer_id = peer_id
        self._service = service
        self._nursery = nursery
        self._rng: random.Random = world.branch()
        self._peers: dict[str, tuple[float, Status | None]] = {}
        self._standing = Standing()
        self._seen: dict[bytes, float] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self.sync = Sync(service, self, service.status, self.blame)
        self._greetings = Greetings(self._greet)
        self._served: dict[str, tuple[type[Any], int, Callable[[str, Any], Awaitable[Any]]]] = {
            "status": (Status, MAX_REQUEST, self._answer_status),
            "reconcile": (messages.ReconcileRequest, MAX_FRAME, self._answer_reconcile),
            "statements": (messages.StatementsRequest, MAX_REQUEST, self._answer_statements),
            "push": (messages.PushRequest, MAX_FRAME, self._answer_push),
            "chain": (messages.ChainRequest, MAX_REQUEST, self._answer_chain),
            "claims": (messages.ClaimsRequest, MAX_REQUEST, self._answer_claims),
            "body": (messages.ContentRequest, MAX_REQUEST, self._answer_body),
            "blob": (messages.ContentRequest, MAX_REQUEST, self._answer_blob),
        }

    async def run(self) -> None:
        """Compare with a random peer now and then, for ever."""
        while True:
            told = await self.sync.pause(SETTINGS.sync_every * self._rng.uniform(0.8, 1.2))
            if others := [peer for peer in self._peers if peer not in told and peer not in self._greetings]:
                self._nursery.start_soon(self._greetings.run, self._rng.choice(others))

    # what the node asks for (p2pcap.node.seams.Network)

    def peers(self) -> tuple[PeerInfo, ...]:
        return tuple(
            PeerInfo(peer, (), since, "in", status, None, self._standing.score(peer, trio.current_time()))
            for peer, (since, status) in self._peers.items()
        )

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if len(data) > messages.MAX_MESSAGE:
            raise SwarmError("The message is too large.")
        self._seen[data] = trio.current_time() + SEEN_SECONDS
        self._relay(topic, data, "")

    async def statements(self, peer: str, ids: Sequence[bytes]) -> list[bytes]:
        return await self.sync.statements(peer, ids)

    async def chain(self, peer: str, after: int) -> list[bytes]:
        return await self.sync.chain(peer, after)

    async def status(self, peer: str) -> Status:
        status = await self.sync.exchange(peer)
        self._heard(peer, status)
        return status

    def sync_soon(self, peer: str) -> None:
        self._nursery.start_soon(self._greetings.run, peer)

    async def fetch(
        self,
        kind: Kind,
        wanted: Sequence[bytes],
        peers: Sequence[str] | None,
        verify: Callable[[bytes, bytes], bool],
        cap: int,
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        sources = list(self._peers) if peers is None else list(peers)
        self._rng.shuffle(sources)
        missing = dict.fromkeys(wanted)
        await trio.lowlevel.checkpoint()
        for peer in sources:
            for hash_, data in await self._content(peer, kind, list(missing)):
                if hash_ in missing and len(data) <= cap:
                    if verify(hash_, data):
                        del missing[hash_]
                        yield hash_, data
                    else:
                        self.blame(peer, penalties.BAD_DATA)
            if not missing:
                return

    async def _content(self, peer: str, kind: Kind, wanted: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        request = messages.ContentRequest([(hash_, 0) for hash_ in wanted[: messages.CONTENT_BATCH]])
        try:
            with trio.fail_after(SETTINGS.stall_after):
                answer = await self._wires.request(self._peer_id, peer, kind, encode(request))
            return decode(answer, list[tuple[bytes, bytes]], 2**27)
        except (SwarmError, CodecError, trio.TooSlowError):
            return []  # the real one blames who stalls again and again, little enough to leave out here

    # asking (p2pcap.swarm.sync.Asking)

    async def ask(self, peer: str, name: str, request: Any, kind: type[T], limit: int) -> T:
        try:
            with trio.fail_after(SETTINGS.request_timeout):
                data = await self._wires.request(self._peer_id, peer, name, encode(request))
            return decode(data, kind, limit)
        except CodecError as error:
            self.blame(peer, penalties.BAD_FRAME)
            raise RequestFailed(f"Peer {peer} answered {name} with something else: {error}") from error
        except trio.TooSlowError as error:
            self.blame(peer, penalties.BROKE_OFF)
            raise RequestFailed(f"Peer {peer} did not finish its answer to {name}.") from error

    def blame(self, peer: str, penalty: float) -> None:
        """Hold something against a peer."""
        banned = self._standing.penalise(peer, penalty, trio.current_time()) is not penalties.Consequence.NOTHING
        self._world.blame(self._peer_id, peer, penalty, banned)
        if banned:
            self._world.later(0.0, self._wires.look)

    # what peers cause (tests.simulation.wires.Host)

    @property
    def peer_id(self) -> str:
        return self._peer_id

    def accepts(self, peer: str) -> bool:
        return not self._standing.refused(peer, trio.current_time())

    def joined(self, peer: str) -> None:
        self._peers[peer] = self._world.now, None
        self._service.on_connect(peer)
        self._nursery.start_soon(self._greetings.run, peer, self._peer_id < peer)

    def left(self, peer: str) -> None:
        self._peers.pop(peer, None)
        self._buckets.pop(peer, None)
        self._service.on_disconnect(peer)

    def hear(self, sender: str, topic: str, data: bytes) -> None:
        now = trio.current_time()
        if topic not in messages.TOPICS or len(data) > messages.MAX_MESSAGE or self._seen.get(data, -1e9) > now:
            return
        self._seen[data] = now + SEEN_SECONDS
        judgement = self._service.judge(topic, sender, data)
        self._world.trace("gossip", self._world.name(sender), self._world.name(self._peer_id), judgement.name)
        if judgement is Judgement.ACCEPT:
            self._relay(topic, data, sender)
        elif judgement is Judgement.REJECT:
            self.blame(sender, penalties.INVALID_MESSAGE)

    def _relay(self, topic: str, data: bytes, sender: str) -> None:
        for peer in self._peers:
            if peer != sender:
                self._wires.gossip(self._peer_id, peer, topic, data)

    def serve(self, peer: str, name: str, data: bytes, answer: Answer) -> None:
        self._nursery.start_soon(self._serve, peer, name, data, answer)

    async def _serve(self, peer: str, name: str, data: bytes, answer: Answer) -> None:
        kind, limit, service = self._served[name]
        try:
            with trio.fail_after(SETTINGS.request_timeout):
                request = decode(data, kind, limit)
                token_bytes = RECONCILE_TOKEN_BYTES if name == "reconcile" else TOKEN_BYTES
                await self._bucket(peer).take(1 + len(data) // token_bytes)
                answer(encode(await service(peer, request)))
        except CodecError:
            self.blame(peer, penalties.BAD_FRAME)
            answer(None)
        except trio.TooSlowError:
            answer(None)

    def _bucket(self, peer: str) -> TokenBucket:
        rate = SETTINGS.requests_per_second
        return self._buckets.setdefault(peer, TokenBucket(rate, 2 * rate))

    def _heard(self, peer: str, status: Status) -> None:
        if peer in self._peers:
            self._peers[peer] = self._peers[peer][0], status
            self._service.on_status(peer, status)

    async def _greet(self, peer: str, begin: bool) -> None:
        """As the real swarm does it."""
        begin = begin or not self._service.status().count
        try:
            theirs = await self.status(peer)
            await self.sync.pull_claims(peer)
            if begin:
                await self.reconcile(peer, theirs)
            self._world.trace("greeted", self._world.name(self._peer_id), self._world.name(peer))
        except SwarmError as error:
            self._world.trace(
                "not greeted", self._world.name(self._peer_id), self._world.name(peer), type(error).__name__
            )

    async def reconcile(self, peer: str, theirs: Status) -> None:
        """Make equal what both hold."""
        await self.sync.reconcile(peer, theirs)

    async def _answer_status(self, peer: str, theirs: Status) -> Status:
        self._heard(peer, theirs)
        await trio.lowlevel.checkpoint()
        return self._service.status()

    async def _answer_reconcile(self, peer: str, request: messages.ReconcileRequest) -> messages.Reconciled:
        await trio.lowlevel.checkpoint()
        return messages.Reconciled(self._service.reconcile(request.frame))

    async def _answer_statements(self, peer: str, request: messages.StatementsRequest) -> messages.Statements:
        return messages.Statements(await self._service.statements(request.ids))

    async def _answer_push(self, peer: str, request: messages.PushRequest) -> messages.Pushed:
        await self.sync.take_in(peer, request.envelopes)
        return messages.Pushed()

    async def _answer_chain(self, peer: str, request: messages.ChainRequest) -> messages.Statements:
        return messages.Statements(await self._service.chain(request.after))

    async def _answer_claims(self, peer: str, request: messages.ClaimsRequest) -> messages.Claims:
        await trio.lowlevel.checkpoint()
        return messages.Claims(self._service.claims()[: messages.CLAIMS_PAGE])

    async def _answer_body(self, peer: str, request: messages.ContentRequest) -> list[tuple[bytes, bytes]]:
        return await self._answer_content("body", request)

    async def _answer_blob(self, peer: str, request: messages.ContentRequest) -> list[tuple[bytes, bytes]]:
        return await self._answer_content("blob", request)

    async def _answer_content(self, kind: Kind, request: messages.ContentRequest) -> list[tuple[bytes, bytes]]:
        found = [(hash_, await self._service.content(kind, hash_)) for hash_, _ in request.wanted]
        return [(hash_, data) for hash_, data in found if isinstance(data, bytes)]
