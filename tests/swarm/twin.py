"""An in-memory node behind the swarm: statements are any bytes, their id is their hash, and everything is written down.

Waiting is done on the twin's condition, which every change notifies: `await twin.until(lambda: ...)`.
"""

import functools
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec

import trio
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from p2pcap.identity import Identity
from p2pcap.ledger.index import Index
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.swarm.addresses import parse_endpoint
from p2pcap.swarm.content import PIECE, Packing
from p2pcap.swarm.frames import FrameReader, frame
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.host import Host, build_host, close_host
from p2pcap.swarm.messages import RECONCILE_FRAME, STATEMENTS_PAGE, Claims, Status
from p2pcap.swarm.requests import MAX_REQUEST, send
from p2pcap.swarm.service import Judgement, Kind
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.swarm import Swarm, open_swarm

ROOT = hashlib.sha256(b"project").digest()
ANY = ("/ip4/127.0.0.1/tcp/0",)
QUICK = SwarmSettings(
    redial_after=0.05,
    sync_every=3_600.0,
    seek_every=0.2,
    announce_every=3_600.0,
    request_timeout=5.0,
    requests_per_second=1_000.0,
)
"""Redials at once, syncs on connect only and announces subscriptions once, so that a test knows what brought what."""


P = ParamSpec("P")


def within(seconds: float) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]:
    """Run an async test under trio; `seconds` are a guard against hanging, not a measurement."""

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            async def main() -> None:
                with trio.fail_after(seconds):
                    await test(*args, **kwargs)

            trio.run(main)

        return run

    return decorate


def hash_of(data: bytes) -> bytes:
    """The hash, and id, of anything in these tests."""
    return hashlib.sha256(data).digest()


def holds(hash: bytes, data: bytes) -> bool:
    """The usual `verify`."""
    return hash_of(data) == hash


class Twin:
    """Implements `p2pcap.swarm.service.Service` in memory."""

    def __init__(self, root: bytes = ROOT) -> None:
        self.root = root
        self.held: dict[bytes, bytes] = {}
        self.live_claims: list[bytes] = []
        self.contents: dict[bytes, bytes | Path] = {}
        self.heard: list[tuple[str, str, bytes]] = []
        self.received: list[bytes] = []
        self.events: list[tuple[str, str]] = []
        self.statuses: dict[str, Status] = {}
        self.verdicts: dict[bytes, Judgement] = {}
        self.invalid: set[bytes] = set()
        self.checkpoints: list[bytes] = []
        self.asked_content = 0
        self.asked_frames = 0
        self._waiting: list[tuple[Callable[[], bool], trio.Event]] = []

    # what tests do with it

    def hold(self, *statements: bytes) -> None:
        self.held |= {hash_of(statement): statement for statement in statements}
        self._changed()

    def offer(self, *contents: bytes) -> list[bytes]:
        self.contents |= {hash_of(content): content for content in contents}
        return [hash_of(content) for content in contents]

    async def until(self, true: Callable[[], bool]) -> None:
        if not true():
            event = trio.Event()
            self._waiting.append((true, event))
            await event.wait()

    async def met(self, *others: Swarm) -> None:
        """Wait until these peers are connected and have told their status."""
        await self.until(lambda: all(other.peer_id in self.statuses for other in others))

    def _changed(self) -> None:
        for true, event in self._waiting:
            if true():
                event.set()
        self._waiting = [(true, event) for true, event in self._waiting if not event.is_set()]

    # Service

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        judgement = self.verdicts.get(data, Judgement.ACCEPT)
        self.heard.append((topic, sender, data))
        if judgement is Judgement.ACCEPT and topic == "results":
            self.held[hash_of(data)] = data
        self._changed()
        return judgement

    def status(self) -> Status:
        digest = hashlib.sha256(b"".join(sorted(self.held))).digest()
        return Status(
            project=self.root[:8],
            root=self.root,
            manifest_version=1,
            manifest=bytes(32),
            count=len(self.held),
            digest=digest,
        )

    def claims(self) -> list[bytes]:
        return self.live_claims

    def reconcile(self, frame: bytes) -> bytes:
        self.asked_frames += 1
        return respond(self._index(), frame, RECONCILE_FRAME)

    async def reconciliation(self, peer: str) -> Reconciliation | None:
        return Reconciliation(self._index(), RECONCILE_FRAME)

    async def chain(self, after: int) -> list[bytes]:
        return self.checkpoints[after:][:STATEMENTS_PAGE]

    def _index(self) -> Index:
        index = Index()
        for id in self.held:
            index.add(0, id)
        return index

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        return [self.held[id] for id in ids if id in self.held]

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        self.asked_content += 1
        self._changed()
        return self.contents.get(hash)

    async def missing(self, ids: Sequence[bytes]) -> list[bytes]:
        return [id for id in ids if id not in self.held]

    async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
        self.received += envelopes
        valid = [envelope for envelope in envelopes if envelope not in self.invalid]
        self.hold(*valid)
        return len(envelopes) - len(valid)

    def on_connect(self, peer: str) -> None:
        self.events.append(("connect", peer))
        self._changed()

    def on_status(self, peer: str, status: Status) -> None:
        self.statuses[peer] = status
        self._changed()

    def on_disconnect(self, peer: str) -> None:
        self.events.append(("disconnect", peer))
        self.statuses.pop(peer, None)
        self._changed()


@asynccontextmanager
async def node(
    *known: str,
    twin: Twin | None = None,
    identity: Identity | None = None,
    listen: Sequence[str] = ANY,
    **changes: object,
) -> AsyncIterator[tuple[Swarm, Twin]]:
    """A swarm on 127.0.0.1 with a twin behind it; `changes` are to the settings QUICK."""
    twin = twin or Twin()
    settings = replace(QUICK, **changes)  # type: ignore[arg-type]
    async with open_swarm(identity or Identity.generate(), twin.root[:8], listen, twin, known, settings) as swarm:
        yield swarm, twin


def pack_answer(sources: Sequence[bytes | None], offsets: Sequence[int]) -> bytes:
    """A whole answer with these items, each from its offset on, as a peer packs it."""
    packing = Packing()
    for index, (source, offset) in enumerate(zip(sources, offsets, strict=True)):
        if packing.room > 0:
            packing.add(index, source, offset)
    return bytes(packing.end())


def piece(index: int, state: int, total: int, data: bytes = b"") -> bytes:
    """One frame of an answer with content."""
    return frame(PIECE.pack(index, state, total) + data)


class Stranger:
    """A bare libp2p host that answers just enough to be taken for a node: its status, and that it knows no claims."""

    def __init__(self, host: Host, target: ID) -> None:
        self.host = host
        self.target = target
        self.peer_id = str(host.get_id())

    async def open(self, protocol: str) -> Any:
        """A stream to the node for a protocol it serves."""
        return await self.host.new_stream(self.target, [protocol])

    async def open_raw(self) -> Any:
        """A stream on which nothing has been said."""
        return await self.host.get_network().new_stream(self.target)


async def _answer(answer: object, stream: Any) -> None:
    await FrameReader(stream).read(MAX_REQUEST)
    await send(stream, answer)
    await stream.close()


@asynccontextmanager
async def stranger(target: Swarm, identity: Identity | None = None) -> AsyncIterator[Stranger]:
    """A stranger connected to `target`."""
    host = build_host(identity or Identity.generate(), SwarmSettings())
    endpoint = parse_endpoint(target.addresses[0])
    answers = {"status": Twin().status(), "claims": Claims([])}
    for name, answer in answers.items():
        host.set_stream_handler(topic_name(ROOT[:8], name), functools.partial(_answer, answer))
    async with background_trio_service(host.get_network()):
        try:
            await host.get_network().dial(Multiaddr(endpoint.transport), ID.from_string(endpoint.peer))
            yield Stranger(host, ID.from_string(endpoint.peer))
        finally:
            await close_host(host)
