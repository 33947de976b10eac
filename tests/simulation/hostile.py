"""Nodes that do not keep to the rules. They are connected like others, and most are admitted like others.

Each does one kind of harm; what they sign themselves is really signed, since a stranger can do that.
"""

import random

import msgspec
import trio

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope, open_envelope, seal
from p2pcap.errors import CodecError, SwarmError
from p2pcap.identity import Identity
from p2pcap.ledger.index import Index
from p2pcap.ledger.negentropy import respond
from p2pcap.ledger.records import Result
from p2pcap.ledger.validate import slices_in
from p2pcap.project.records import SLICE
from p2pcap.swarm import messages
from p2pcap.swarm.messages import RECONCILE_FRAME, Status
from tests.makers import Made, claim_record, make_grant, make_result
from tests.simulation.wires import Answer, Wires
from tests.simulation.world import World


class Hostile:
    """A stranger with a key: connects, says who it is, and answers nothing else unless its kind does."""

    def __init__(self, world: World, wires: Wires, made: Made, identity: Identity) -> None:
        self.world = world
        self.wires = wires
        self.made = made
        self.identity = identity
        self.rng: random.Random = world.branch()
        self.index = Index()
        self.held: dict[bytes, Envelope] = {}
        self.heard: list[Envelope] = []

    # tests.simulation.wires.Host

    @property
    def peer_id(self) -> str:
        return self.identity.peer_id

    def accepts(self, peer: str) -> bool:
        return True

    def joined(self, peer: str) -> None:
        """Its own statements are handed over at once, as an honest node's greeting would bring them about."""
        if self.held:
            self.say("results", *self.held.values())

    def left(self, peer: str) -> None:
        pass

    def hear(self, sender: str, topic: str, data: bytes) -> None:
        pass

    def serve(self, peer: str, name: str, data: bytes, answer: Answer) -> None:
        said = self.answer(name, data)
        if said is not None:
            answer(said)

    def answer(self, name: str, data: bytes) -> bytes | None:
        """What it answers to a request; None: nothing, ever."""
        match name:
            case "status":
                return encode(self.status())
            case "claims":
                return encode(messages.Claims([]))
            case "push":
                return encode(messages.Pushed())
            case "chain":
                return encode(messages.Statements([]))
            case "reconcile":
                frame = decode(data, messages.ReconcileRequest, 2**20).frame
                return encode(messages.Reconciled(respond(self.index, frame, RECONCILE_FRAME)))
            case "statements":
                ids = decode(data, messages.StatementsRequest, 2**20).ids
                return encode(messages.Statements([self.held[id_].data for id_ in ids if id_ in self.held]))
            case "body" | "blob":
                return encode([])
        return None

    def status(self) -> Status:
        """What it says of itself."""
        root = self.made.project.hash
        return Status(
            project=root[:8],
            root=root,
            manifest_version=1,
            manifest=bytes(32),
            count=len(self.index),
            digest=self.index.digest.to_bytes(32, "big"),
        )

    # what it does

    def hold(self, envelope: Envelope, time: int) -> None:
        """Something of its own to hand over."""
        self.held[envelope.id] = envelope
        self.index.add(time, envelope.id)

    def admit(self) -> None:
        """Get admitted like anybody who has the ticket."""
        time = int(self.world.now)
        grant = make_grant(self.made.project, self.identity, "hostile", time)
        self.hold(grant, time)
        self.say("results", grant)

    def say(self, topic: str, *envelopes: Envelope) -> None:
        """Gossip to every neighbour."""
        for envelope in envelopes:
            for peer in self.wires.neighbours(self.peer_id):
                self.wires.gossip(self.peer_id, peer, topic, envelope.data)

    async def run(self) -> None:
        """Do harm until cancelled."""
        self.wires.attach(self)
        await trio.sleep(4.0)
        self.admit()
        while True:
            await self.harm()

    async def harm(self) -> None:
        """Once."""
        await trio.sleep_forever()


LIES = ("never", "other", "wrong", "copy")
"""The body never comes, is another, names other images; the root is somebody else's."""


class Squatter(Hostile):
    """Claims all it may and never delivers."""

    async def harm(self) -> None:
        counts = self.made.project.counts
        wanted = self.rng.sample(range(len(counts)), min(len(counts), 8))
        slices = {chunk: (1 << slices_in(counts[chunk])) - 1 for chunk in wanted}
        now = self.world.now
        claim = claim_record(self.made.project, slices, int(now * 1000), int(now), self.rng.choice((1, 30, 600)))
        self.say("claims", seal(self.identity, "claim", claim))
        await trio.sleep(self.rng.uniform(3.0, 20.0))


class Pretender(Hostile):
    """Announces results whose bodies never come, are others than announced, or name other images; and results that
    copy the root of somebody else's, so that an honest body does not fit."""

    def __init__(self, world: World, wires: Wires, made: Made, identity: Identity) -> None:
        super().__init__(world, wires, made, identity)
        self.bodies: dict[bytes, bytes] = {}
        self.left_to_do = 6

    def hear(self, sender: str, topic: str, data: bytes) -> None:
        if topic == "results" and len(self.heard) < 20:
            envelope = _result(data)
            if envelope is not None:
                self.heard.append(envelope)

    async def harm(self) -> None:
        await trio.sleep(self.rng.uniform(2.0, 15.0))
        if not self.left_to_do:
            await trio.sleep_forever()
        self.left_to_do -= 1
        chunk = self.rng.randrange(len(self.made.items))
        offset = self.rng.randrange(slices_in(len(self.made.items[chunk]))) * SLICE
        items = range(offset, min(offset + SLICE, len(self.made.items[chunk])))
        rows = [self.made.row(chunk, index, f"a lie of {index}") for index in items]
        kind = self.rng.choice(LIES)
        if kind == "wrong":
            rows = [msgspec.structs.replace(row, image=bytes(32)) for row in rows]
        now = int(self.world.now)
        result, body = make_result(self.made.project, chunk, rows, now, self.rng.getrandbits(40))
        if kind == "wrong":
            self.bodies[result.root] = body.data
        if kind == "other":
            self.bodies[result.root] = self.rng.randbytes(len(body.data))
        if kind == "copy" and self.heard:
            copied = decode(self.rng.choice(self.heard).payload, Result)
            result = msgspec.structs.replace(copied, length=copied.length + 1, time=now)
        envelope = seal(self.identity, "result", result)
        self.world.trace("pretend", kind, envelope.id.hex()[:8])
        self.hold(envelope, now)
        self.say("results", envelope)

    def answer(self, name: str, data: bytes) -> bytes | None:
        if name == "body":
            wanted = decode(data, messages.ContentRequest, 2**20).wanted
            return encode([(hash_, self.bodies[hash_]) for hash_, _ in wanted if hash_ in self.bodies])
        return super().answer(name, data)


class Flooder(Hostile):
    """Sends junk, statements by strangers, statements that are slightly wrong, and claims without end."""

    async def harm(self) -> None:
        await trio.sleep(self.rng.uniform(0.5, 4.0))
        for peer in self.wires.neighbours(self.peer_id):
            for _ in range(self.rng.randrange(6)):
                self.wires.gossip(self.peer_id, peer, *self.junk())
            try:
                with trio.move_on_after(2.0):
                    name = self.rng.choice(("reconcile", "push", "statements", "status", "chain"))
                    await self.wires.request(self.peer_id, peer, name, self.rng.randbytes(self.rng.randrange(200)))
            except SwarmError:
                pass

    def junk(self) -> tuple[str, bytes]:
        """A topic and a message."""
        now = int(self.world.now)
        stranger = Identity.from_seed(self.rng.randbytes(32))
        chunk = self.rng.randrange(len(self.made.items))
        result, _ = make_result(self.made.project, chunk, [self.made.row(chunk, 0)], now, self.rng.getrandbits(40))
        match self.rng.randrange(5):
            case 0:
                return "results", self.rng.randbytes(self.rng.randrange(300))
            case 1:
                return "results", seal(stranger, "result", result).data
            case 2:
                return "results", seal(self.identity, "result", msgspec.structs.replace(result, chunk=999)).data
            case 3:
                return "claims", seal(self.identity, "claim", claim_record(self.made.project, {chunk: 1}, 1, now)).data
        good = bytearray(seal(self.identity, "result", result).data)
        good[self.rng.randrange(len(good))] ^= 1 << self.rng.randrange(8)
        return "results", bytes(good)


class Liar(Hostile):
    """Lies in sync: says that it has much, reconciles with nonsense, hands over statements that do not hold."""

    def status(self) -> Status:
        count, digest = self.rng.randrange(1, 2**40), self.rng.randbytes(32)
        return msgspec.structs.replace(super().status(), count=count, digest=digest)

    def answer(self, name: str, data: bytes) -> bytes | None:
        match name:
            case "reconcile":
                return encode(messages.Reconciled(self.nonsense()))
            case "statements":
                return encode(messages.Statements([self.false() for _ in range(self.rng.randrange(3))]))
            case "body" | "blob":
                wanted = decode(data, messages.ContentRequest, 2**20).wanted
                return encode([(hash_, self.rng.randbytes(20)) for hash_, _ in wanted])
            case "chain":
                return encode(messages.Statements([self.false()]))
        return super().answer(name, data)

    def nonsense(self) -> bytes:
        """A frame."""
        match self.rng.randrange(4):
            case 0:
                return self.rng.randbytes(self.rng.randrange(1, 100))
            case 1:
                return b"\x61"
            case 2:
                return b"\x61\0\0\2\2" + self.rng.randbytes(64)
        return b"\x61\0\0\1" + self.rng.randbytes(16)

    def false(self) -> bytes:
        """A statement whose signature is another's."""
        rows = [self.made.row(0, 0, "a lie")]
        result, _ = make_result(self.made.project, 0, rows, int(self.world.now), self.rng.getrandbits(40))
        signed = seal(self.identity, "result", result)
        return Envelope(signed.kind, signed.payload, signed.author, self.rng.randbytes(64)).data

    async def harm(self) -> None:
        await trio.sleep(self.rng.uniform(5.0, 20.0))
        peers = self.wires.neighbours(self.peer_id)
        if peers:
            push = encode(messages.PushRequest([self.false()]))
            try:
                with trio.move_on_after(5.0):
                    await self.wires.request(self.peer_id, self.rng.choice(peers), "push", push)
            except SwarmError:
                pass


KINDS: tuple[type[Hostile], ...] = (Squatter, Pretender, Flooder, Liar)


def _result(data: bytes) -> Envelope | None:
    """The result in a gossip message, if it is one."""
    try:
        envelope = open_envelope(data)
    except CodecError:
        return None
    return envelope if envelope.kind == "result" else None
