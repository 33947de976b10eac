"""A simulated node: everything of a real one that decides, over a store, a swarm and an engine in memory.

Ledger, intake, bodies, checkpoints, sealing, station, service, worker and sync are the real ones, wired as in
`p2pcap.node.member`. A node may die at any moment; its disk stays, and its next life begins from there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import trio

from p2pcap.codec import decode
from p2pcap.engine.base import NO_FIELDS, EngineState, Output
from p2pcap.envelope import open_envelope
from p2pcap.errors import ImageError
from p2pcap.identity import Identity
from p2pcap.ledger.early import Early
from p2pcap.ledger.judgement import Judgement, Verdict, Wait
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.node.bodies import Bodies
from p2pcap.node.change import Change
from p2pcap.node.checkpoints import Checkpoints
from p2pcap.node.evidence import EvidenceKeeping
from p2pcap.node.fetching import Fetching
from p2pcap.node.following import Following, manifest_in
from p2pcap.node.intake import Intake
from p2pcap.node.keeping import Keeping
from p2pcap.node.restart import rebuild
from p2pcap.node.sealing import Sealing
from p2pcap.node.service import NodeService
from p2pcap.node.shares import StoreRole
from p2pcap.node.station import NodeStation
from p2pcap.project.items import ItemList
from p2pcap.store.writes import PutBatch, PutStatement, Write
from p2pcap.swarm.messages import Status
from p2pcap.worker.slices import Image
from p2pcap.worker.worker import Worker
from tests.makers import Made, make_grant, work_of
from tests.simulation.memory import Memory
from tests.simulation.store import Disk, TwinStore
from tests.simulation.swarm import SimulatedSwarm
from tests.simulation.wires import Wires
from tests.simulation.world import World

RETRIED_WITHIN = 20.0
"""Seconds in which what was put off is judged again, with the slowest disk."""


@dataclass
class Make:
    """What kind of node it is. Times in seconds: `image` for a caption, `disk` the least and most for a commit, `skew`
    what its clock is ahead. `cannot` are the images that its engine cannot caption. `store` and `cap` say which bodies
    it keeps."""

    capacity: int = 8
    image: float = 2.0
    disk: tuple[float, float] = (0.001, 0.05)
    skew: float = 0.0
    cannot: set[bytes] = field(default_factory=set)
    volunteer: bool = True
    signer: Identity | None = None
    store: StoreRole = "full"
    cap: int = 2**40


class TwinEngine:
    """Captions as fast as its node can."""

    def __init__(self, make: Make, author: str) -> None:
        self._make = make
        self._author = author
        self.state = EngineState(phase="ready", engine_class=b"twintwin")
        self.states = (self.state,)

    @property
    def capacity(self) -> int:
        return self._make.capacity

    async def wait_ready(self) -> None:
        await trio.lowlevel.checkpoint()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        await trio.sleep(self._make.image)
        if sha256 in self._make.cannot:
            raise ImageError("undecodable", "the bytes are no image")
        return (Output(f"{self._author} sees {image.decode()}", 4, "stop", (*image[:3], 2)),)


class TwinImages:
    """Images are at hand; item lists and blobs come as they always do."""

    held = 0

    def __init__(self, made: Made) -> None:
        self._at_hand = made.images

    async def of_chunk(
        self, chunk: int, found: ItemList, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        await trio.sleep(0.2)
        hashes = {index: found.items[index].hash for index in wanted}
        return {index: Image(hash_, self._at_hand[hash_]) for index, hash_ in hashes.items()}


class NodeSwarm(SimulatedSwarm):
    """Looks whether what the node announces is on its disk, and whether a conversation that ended well left nothing
    out. `lives` are the honest nodes that are up."""

    disk: Disk
    lives: dict[str, "Life"]
    _talking: set[str]

    async def reconcile(self, peer: str, theirs: Status) -> None:
        here, there = self.lives[self.peer_id], self.lives.get(peer)
        silent = peer in self._talking or not theirs.count or int.from_bytes(theirs.digest) == here.ledger.index.digest
        if there is None or silent:
            return await super().reconcile(peer, theirs)
        told = [(there, here, there.new_to(here)), (here, there, here.new_to(there))]
        self._talking.add(peer)
        try:
            await super().reconcile(peer, theirs)
        finally:
            self._talking.discard(peer)
        for source, target, ids in told if self.lives.get(peer) is there else ():
            left = source.new_to(target)
            for id_ in (id_ for id_ in ids if id_ in left):
                self._world.break_(f"{source.node.name} and {target.node.name} compared, and left out {id_.hex()[:8]}")
        return None

    async def publish(self, topic: str, data: bytes) -> None:
        if topic != "claims" and open_envelope(data).id not in self.disk.statements:
            self._world.break_(f"{self._world.name(self.peer_id)} announced what it had not committed")
        await super().publish(topic, data)


class WatchedEarly(Early):
    """Looks whether what was put off and released is taken in, before sync would bring it again."""

    def __init__(self, life: "Life") -> None:
        super().__init__()
        self._life = life

    def _take(self, waits: list[Wait]) -> list[bytes]:
        released = super()._take(waits)
        good = [data for data in released if self._is_acceptable(data)]
        if good:
            self._life.node.world.later(RETRIED_WITHIN, lambda: self._check(good))
        return released

    def _is_acceptable(self, data: bytes) -> bool:
        return validate(self._life.ledger, data, self._life.clock()).verdict is Verdict.ACCEPT

    def _check(self, good: list[bytes]) -> None:
        node = self._life.node
        if node.life is self._life and any(self._is_acceptable(data) for data in good):
            node.world.break_(f"{node.name} put off a statement and forgot it")


class Life:
    """One process of a node, from its start to its death."""

    def __init__(self, node: "SimulatedNode", nursery: trio.Nursery) -> None:
        made, world = node.made, node.world
        self.node = node
        self.nursery = nursery
        self.ledger = rebuild(node.disk.load(), made.project)
        self.store = TwinStore(world, node.disk, made.items, node.make.disk, node.committed)
        self.peers_changed, self.change = Change(), Change()
        self.clock = node.clock
        self.engine_ready = False
        parts = SimpleNamespace(
            options=SimpleNamespace(
                ticket=SimpleNamespace(root=made.project.hash), role="volunteer", name=node.name, seed=None
            ),
            store=self.store,
            clock=self.clock,
            peers_changed=self.peers_changed,
            member=self,
            agreed=True,
        )
        service = NodeService(cast(Any, parts))
        self.swarm = NodeSwarm(world, node.wires, node.identity.peer_id, service, nursery)
        self.swarm.disk, self.swarm.lives, self.swarm._talking = node.disk, node.lives, set()
        self.fetching = Fetching(self.ledger, cast(Any, self.store), cast(Any, self.swarm), self.peers_changed)
        self.images = TwinImages(made)
        self.keeping = Keeping(
            node.identity.public,
            self.ledger,
            self.store,
            self.swarm,
            self.change,
            self.clock,
            lambda line: None,
            node.make.store,
            node.make.cap,
        )
        self.bodies = Bodies(self.ledger, self.store, self.swarm, self.fetching, self.change, self.clock, self.keeping)
        self.intake = Intake(node.identity, self.ledger, self.store, self.change, self.bodies.want, self.clock)
        self.intake._early = WatchedEarly(self)
        self.checkpoints = Checkpoints(self.ledger, self.store, self.swarm, self.fetching, self.intake, self.change)
        self.following = Following(
            self.ledger,
            cast(Any, self.store),
            cast(Any, self.swarm),
            self.change,
            self.clock,
            lambda line: None,
            self.intake.accuse,
        )
        self.files: dict[bytes, Any] = {}
        self.engine: TwinEngine | None = None
        self.worker: Worker | None = None

    def judge(self, data: bytes) -> Judgement:
        """As `Member.judge` does."""
        manifest = manifest_in(data)
        return self.following.judge(manifest) if manifest is not None else self.intake.judge(data)

    async def run(self) -> None:
        """As `Member.live` does."""
        start = self.nursery.start_soon
        start(self.intake.run)
        start(self.bodies.run)
        start(self.keeping.run, self.bodies.want_back)
        start(self._follow_rulings)
        start(self.checkpoints.run)
        start(self.following.run)
        start(EvidenceKeeping(self.node.identity.public, self.ledger, self.store, self.clock).run)
        start(self.swarm.run)
        make = self.node.make
        if make.signer is not None:
            beacon = self.node.world.branch()
            start(
                Sealing(
                    make.signer,
                    self.ledger,
                    self.store,
                    self.swarm,
                    self.intake,
                    self.checkpoints,
                    self.clock,
                    lambda: beacon.randbytes(32),
                ).run
            )
        if make.volunteer:
            await self._admit_self()
            self._caption()

    async def _follow_rulings(self) -> None:
        while True:
            seen = self.intake.ruled.count
            await self.bodies.want_stored()
            if self.intake.ruled.count == seen:
                await self.intake.ruled.wait()

    async def _admit_self(self) -> None:
        if self.node.identity.public in self.ledger.grants:
            return
        envelope = make_grant(self.node.made.project, self.node.identity, self.node.name, int(self.clock()))
        await self.store.commit(PutStatement(envelope, self.clock()))
        self.ledger.add(envelope, decode(envelope.payload, Grant))
        await self.swarm.publish("results", envelope.data)

    def _caption(self) -> None:
        node = self.node
        self.engine = TwinEngine(node.make, node.name)
        work = work_of(self.ledger)
        station = NodeStation(
            self.ledger,
            work,
            self.store,
            self.swarm,
            self.fetching,
            cast(Any, self.images),
            self.change,
            self.clock,
            lambda line: None,
        )
        attempts, rng = node.made.project.plan.policy.attempts, node.world.branch()
        self.worker = Worker(node.identity, work, attempts, self.engine, station, rng, self.clock)
        self.nursery.start_soon(self.worker.run)

    def new_to(self, other: "Life") -> dict[bytes, None]:
        """What is held here, and not there, and would be accepted there now."""
        found: dict[bytes, None] = {}
        for _, id_ in self.ledger.index:
            envelope = self.node.disk.statements.get(id_)
            if envelope is None or other.ledger.holds(id_):
                continue
            if validate(other.ledger, envelope.data, other.clock()).verdict is Verdict.ACCEPT:
                found[id_] = None
        return found

    async def rule(self, data: bytes) -> None:
        """Somebody at this node hands in a ruling: it is made durable, then announced. A slow clock takes it later."""
        if (await self.intake.receive([data])).new:
            await self.swarm.publish("control", data)


class SimulatedNode:
    """A node with its disk, over all its lives."""

    def __init__(
        self,
        world: World,
        wires: Wires,
        made: Made,
        memory: Memory,
        lives: dict[str, Life],
        name: str,
        identity: Identity,
        make: Make,
    ) -> None:
        self.world = world
        self.wires = wires
        self.made = made
        self.memory = memory
        self.name = name
        self.identity = identity
        self.make = make
        self.disk = Disk()
        self.copies: list[Disk] = []
        self.life: Life | None = None
        self.gone = False
        self.lives = lives
        world.names[identity.peer_id] = name
        memory.disks[name] = self.disk

    def clock(self) -> float:
        """Its own idea of the time."""
        return self.world.now + self.make.skew

    @property
    def ledger(self) -> Ledger:
        """What it knows, while it is up."""
        assert self.life is not None
        return self.life.ledger

    async def start(self) -> None:
        """Begin a life; returns at its end."""
        if self.life is not None or self.gone:
            return
        self.world.trace("start", self.name)
        async with trio.open_nursery() as nursery:
            self.life = self.lives[self.identity.peer_id] = life = Life(self, nursery)
            self.wires.attach(life.swarm)
            await life.run()
            await trio.sleep_forever()

    def die(self) -> None:
        """Like a power cut."""
        if self.life is None:
            return
        self.world.trace("die", self.name)
        self.check()
        life, self.life = self.life, None
        del self.lives[self.identity.peer_id]
        life.store.die()
        self.wires.detach(life.swarm)
        life.nursery.cancel_scope.cancel()

    def check(self) -> None:
        """Whether what counts is on the disk."""
        if self.life is None:
            return
        for _, id_ in self.life.ledger.index:
            if id_ not in self.disk.statements:
                self.world.break_(f"{self.name} counts statement {id_.hex()[:8]}, which is not on its disk")
        for chunk in range(len(self.made.items)):
            for id_ in work_of(self.life.ledger).rows.batches(chunk):
                if id_ not in self.disk.bodies and id_ not in self.disk.unkept:
                    self.world.break_(f"{self.name} counts rows of {id_.hex()[:8]}, which are not on its disk")

    def back_up(self) -> None:
        """Keep a copy of the disk as it is."""
        self.copies.append(self.disk.copy())

    def restore(self) -> None:
        """Put the oldest copy back, between two lives. What only this disk had is lost."""
        assert self.life is None
        self.disk = self.copies[0].copy() if self.copies else Disk()
        self.world.trace("restore", self.name, len(self.disk.statements))
        self.memory.lost(self.name, self.disk)

    def leave(self) -> None:
        """Gone for good, and the disk with it."""
        self.die()
        self.gone = True
        self.memory.lost(self.name, Disk())

    def committed(self, write: Write) -> None:
        """A write took effect."""
        if isinstance(write, PutStatement | PutBatch):
            self.world.trace("commit", self.name, type(write).__name__, write.envelope.id.hex()[:8])
            self.memory.keep(write.envelope.id, isinstance(write, PutBatch))
