"""A database in memory: what is committed stays, also when the node dies; what is not is gone.

Always holds: commits take effect whole and in order, each after a simulated time; `commit` returns after that.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope
from p2pcap.ledger.body import error_bits
from p2pcap.ledger.checkpoint import Seal
from p2pcap.ledger.checks import UNRULED, Ruled
from p2pcap.ledger.records import Result, Row
from p2pcap.project.items import Item
from p2pcap.store.reads import Bodiless, Loaded, StoredResult
from p2pcap.store.writes import (
    DropBlobs,
    DropBodies,
    PutBatch,
    PutBlob,
    PutItems,
    PutProject,
    PutRedaction,
    PutSeal,
    PutStanding,
    PutStatement,
    Write,
)
from tests.simulation.world import World


@dataclass
class Body:
    """A stored body with its rows."""

    data: bytes
    rows: Sequence[Row]


@dataclass
class Disk:
    """Everything that was committed. It outlives the process of its node."""

    statements: dict[bytes, Envelope] = field(default_factory=dict)
    results: dict[bytes, tuple[bytes, Result]] = field(default_factory=dict)
    bodies: dict[bytes, Body] = field(default_factory=dict)
    standing: dict[bytes, Ruled] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    seals: dict[int, tuple[Seal, tuple[bytes, ...]]] = field(default_factory=dict)
    redacted: dict[int, int] = field(default_factory=dict)
    unkept: dict[bytes, int] = field(default_factory=dict)
    """Bodies that were checked and are not kept, with the items whose row is an error."""

    def copy(self) -> "Disk":
        """As a copy of the file would be."""
        return Disk(*(dict(part) for part in vars(self).values()))

    def apply(self, write: Write) -> None:
        """One write takes effect."""
        match write:
            case PutStatement():
                self._state(write.envelope)
                if write.replaces is not None:
                    self.statements.pop(write.replaces, None)
            case PutBatch():
                self._state(write.envelope)
                id_ = write.envelope.id
                if not write.result.items & self.redacted.get(write.result.chunk, 0) and id_ not in self.bodies:
                    self.bodies[id_] = Body(write.body, write.rows)
                    self.unkept.pop(id_, None)
                    self.standing.setdefault(id_, UNRULED)
            case DropBodies():
                for id_ in write.ids:
                    if (body := self.bodies.pop(id_, None)) is not None:
                        self.unkept[id_] = error_bits(body.rows)
            case PutStanding():
                self.standing[write.id] = write.ruled
            case PutRedaction():
                self.redacted[write.chunk] = self.redacted.get(write.chunk, 0) | write.items
                for id_ in [*self.bodies, *self.unkept]:
                    result = self.results[id_][1]
                    if id_ in write.dropped or (result.chunk == write.chunk and result.items & write.items):
                        self.bodies.pop(id_, None)
                        self.unkept.pop(id_, None)
            case PutSeal():
                self.seals[write.seal.number] = write.seal, tuple(write.ids)
            case PutBlob():
                self.blobs[write.hash] = write.data
            case DropBlobs():
                for hash_ in write.hashes:
                    self.blobs.pop(hash_, None)
            case PutItems() | PutProject():
                pass  # every simulated node has the project from the start

    def _state(self, envelope: Envelope) -> None:
        if envelope.id not in self.statements:
            self.statements[envelope.id] = envelope
            if envelope.kind == "result":
                self.results[envelope.id] = envelope.author, decode(envelope.payload, Result)

    def load(self) -> Loaded:
        """What a node starts from."""
        kept = self.statements.values()
        return Loaded(
            root=None,
            manifest=None,
            plan=None,
            roots=None,
            grants=tuple(envelope.data for envelope in kept if envelope.kind == "grant"),
            results=tuple(self._stored(id_) for id_ in self.results),
            item_lists=frozenset(),
            others=tuple(envelope.data for envelope in kept if envelope.kind not in ("grant", "result")),
            seals=tuple(self.seals[number] for number in sorted(self.seals)),
        )

    def _stored(self, id_: bytes) -> StoredResult:
        author, result = self.results[id_]
        held, errors = self.bodies.get(id_), self.unkept.get(id_, 0)
        checked = held is not None or id_ in self.unkept
        return StoredResult(id_, author, result, checked, error_bits(held.rows) if held else errors)

    def missing(self, after: int, limit: int) -> list[Bodiless]:
        """Results without a body, numbered as they came."""
        return [
            Bodiless(number, self.statements[id_], result)
            for number, (id_, (_, result)) in enumerate(self.results.items())
            if number > after and id_ not in self.bodies and id_ not in self.unkept
        ][:limit]


@dataclass(frozen=True)
class _Job:
    writes: Sequence[Write]
    done: trio.Event


class TwinStore:
    """One process's connection to its disk. `seconds` are the least and the most that a commit takes; `committed` is
    told of each write that took effect."""

    def __init__(
        self,
        world: World,
        disk: Disk,
        lists: Sequence[tuple[Item, ...]],
        seconds: tuple[float, float],
        committed: Callable[[Write], None],
    ) -> None:
        self.disk = disk
        self._world = world
        self._lists = {hashlib.sha256(data).digest(): data for data in map(encode, lists)}
        self._seconds = seconds
        self._committed = committed
        self._rng = world.branch()
        self._jobs: deque[_Job] = deque()
        self._free = 0.0
        self._closed = False

    async def commit(self, *writes: Write) -> None:
        """The writes are made even if the caller does not wait for them, unless the process dies before."""
        if self._closed:
            await trio.sleep_forever()  # the process is dead, and its tasks are being cancelled
        job = _Job(writes, trio.Event())
        self._jobs.append(job)
        now = trio.current_time()
        self._free = max(now, self._free) + self._rng.uniform(*self._seconds)
        self._world.later(self._free - now, self._next)
        await job.done.wait()

    def _next(self) -> None:
        if self._jobs:
            self._make(self._jobs.popleft())

    def _make(self, job: _Job) -> None:
        for write in job.writes:
            self.disk.apply(write)
            self._committed(write)
        job.done.set()

    def die(self) -> None:
        """The process dies: of what was to be written, some may be on the disk and nobody was told."""
        self._closed = True
        survive = self._rng.randint(0, len(self._jobs)) if self._rng.random() < 0.5 else 0
        for _ in range(survive):
            self._make(self._jobs.popleft())
        self._jobs.clear()

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return [self.disk.statements[id_].data for id_ in ids if id_ in self.disk.statements]

    async def body(self, root: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        for id_, body in self.disk.bodies.items():
            if self.disk.results[id_][1].root == root:
                return body.data
        return None

    async def blob(self, hash: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self._lists.get(hash) or self.disk.blobs.get(hash)

    async def has_items(self, chunk: int) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def bodies_missing(self, after: int, limit: int) -> list[Bodiless]:
        await trio.lowlevel.checkpoint()
        return self.disk.missing(after, limit)

    async def answers(self, tid: bytes, chunk: int) -> dict[int, list[str]]:
        """Nobody asks: the simulated projects have one stage."""
        await trio.lowlevel.checkpoint()
        return {}

    async def roots_of_dropped(self, tid: bytes, chunk: int, wanted: Sequence[int]) -> dict[int, bytes]:
        return {}

    async def dropped(self) -> set[bytes]:
        await trio.lowlevel.checkpoint()
        return set(self.disk.unkept)
