"""Volunteers with all the real code of the ledger and the worker, in simulated time.

What is real: `p2pcap.worker.worker.Worker` with its tasks, a `Ledger` for each volunteer, `validate` on every statement
that comes, claims, statements with their signatures, bodies. What is not: engines (an image takes a drawn time),
sockets (every statement and its body reach everybody but the author DELAY seconds later), disks, image files.

What is shared to make it feasible: a statement's bytes are decoded and its signature is verified once for all, by a
cache from bytes to what they say, and a body is checked once, by its author. Each volunteer still judges each statement
by all the rules. Of each slice only OPEN images are to be done, the others are redacted: what a caption costs in a
simulation is the same for every image, and what is to be seen here is a matter of slices. Squatters share one ledger.

Always holds: the same seed gives the same figures; the clock is the simulation's.
"""

import functools
import hashlib
import logging
import random
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import structlog
import trio
import trio.testing

from benchmarks.sim_outcome import DELAY, NOISE, Outcome
from benchmarks.sim_project import START, TICKET, admit, work_of
from benchmarks.sim_squatters import Squat
from p2pcap import codec, envelope
from p2pcap.engine.base import NO_FIELDS, EngineState, Output
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import ImageError, P2pcapError
from p2pcap.identity import Identity, verify
from p2pcap.ledger.body import Body, check_rows, open_body
from p2pcap.ledger.records import Grant, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Verdict, validate
from p2pcap.project.items import Item
from p2pcap.project.opened import Project
from p2pcap.project.records import SLICE
from p2pcap.project.task import Task
from p2pcap.worker.slices import Image
from p2pcap.worker.worker import RENEW_EVERY, Worker

OPEN = 8
"""Images of each slice that are to be done."""

CAPACITY = 2
"""Images an engine has in hand: as small a part of a slice as with 64 images and ordinary engines."""

CACHED = 4_096
"""Statements whose bytes are remembered: more than are on their way at a time."""


def run(project: Project, speeds: list[float], squatters: int, seed: int) -> Outcome:
    """A whole job; `speeds` are the seconds that a slice takes each volunteer."""
    # trio shuffles the tasks that are ready at one moment; its own source of randomness makes that repeatable.
    trio._core._run._r.seed(seed)
    nodes = Nodes(project, squatters, len(speeds), seed)
    with _quiet(), _read_once(project.stages[0].task.tid):
        trio.run(nodes.run, speeds, clock=trio.testing.MockClock(autojump_threshold=0))
    return nodes.outcome


def unix() -> float:
    """The simulated unix time."""
    return START + trio.current_time()


class Nodes:
    """All nodes of one run, and the gossip between them."""

    def __init__(self, project: Project, squatters: int, volunteers: int, seed: int) -> None:
        self.seed = seed
        self.outcome = Outcome(project.images * OPEN // SLICE)
        self.keys = [Identity.from_seed(hashlib.sha256(b"%d" % n).digest()) for n in range(volunteers + squatters)]
        grants = [admit(project, key) for key in self.keys]
        self.ledgers = [self._ledger(project, grants) for _ in range(volunteers + (squatters > 0))]
        self.items = [
            tuple(Item(f"{chunk}/{index}", _hash(chunk, index), 32) for index in range(count))
            for chunk, count in enumerate(project.counts)
        ]
        self.task = project.stages[0].task
        self._under_way: deque[tuple[float, int, bytes]] = deque()
        self._sent = trio.Event()
        self._over = trio.Event()

    def _ledger(self, project: Project, grants: Sequence[Grant]) -> Ledger:
        ledger = Ledger(project)
        for grant in grants:
            ledger.members.take(seal(TICKET, "grant", grant), grant)
        for chunk, count in enumerate(project.counts):
            closed = sum(((1 << SLICE) - (1 << OPEN)) << start for start in range(0, count, SLICE))
            work_of(ledger).rows.redact(chunk, closed, ledger.counting)
        return ledger

    async def run(self, speeds: Sequence[float]) -> None:
        """Until everything is done and everybody has published what was in hand."""
        async with trio.open_nursery() as everything:
            everything.start_soon(self._deliver)
            for number in range(len(speeds), len(self.keys)):
                everything.start_soon(self._squat, number)
            async with trio.open_nursery() as volunteers:
                workers = [self._volunteer(number, seconds) for number, seconds in enumerate(speeds)]
                for worker in workers:
                    volunteers.start_soon(worker.run)
                await self._over.wait()
                for worker in workers:
                    worker.finish()
            everything.cancel_scope.cancel()

    def _volunteer(self, number: int, seconds: float) -> Worker:
        rng = random.Random(f"volunteer {self.seed} {number}")
        engine = Engine(seconds, random.Random(f"engine {self.seed} {number}"))
        ledger = self.ledgers[number]
        attempts = ledger.project.plan.policy.attempts
        return Worker(self.keys[number], work_of(ledger), attempts, engine, Station(self, number), rng, unix)

    async def _squat(self, number: int) -> None:
        ledger, key = self.ledgers[-1], self.keys[number]
        squat = Squat(ledger, key.public, random.Random(f"squatter {self.seed} {number}"))
        while True:
            claim = squat.claim(unix())
            if claim is not None:
                self.send(-1, seal(key, "claim", claim))
            await trio.sleep(RENEW_EVERY)

    # gossip

    def send(self, sender: int, statement: Envelope) -> None:
        """Everybody else hears it DELAY seconds later."""
        self._under_way.append((trio.current_time() + DELAY, sender, statement.data))
        self._sent.set()

    async def _deliver(self) -> None:
        while True:
            while self._under_way:
                time, sender, data = self._under_way.popleft()
                await trio.sleep_until(time)
                for number in range(len(self.ledgers)):
                    if number != sender:
                        self._hear(number, data)
            self._sent = trio.Event()
            await self._sent.wait()

    def _hear(self, number: int, data: bytes) -> None:
        ledger = self.ledgers[number]
        judgement = validate(ledger, data, unix())
        if judgement.verdict is not Verdict.ACCEPT or judgement.envelope is None:
            if judgement.reason != "older than the author's newest":
                raise P2pcapError(f"A statement of this simulation is not valid: {judgement.reason}.")
            return
        header, record = judgement.envelope, judgement.record
        ledger.hear(header, record, unix())
        if isinstance(record, Result):
            ledger.add(header, record)
            ledger.complete(header.id, header.author, record, 0)
            ledger.claims.progress(header.author, unix())

    def publish(self, number: int, header: Envelope, result: Result) -> None:
        """A result is durable at its author's."""
        self.outcome.publish(result.chunk, result.items, trio.current_time())
        self._hear(number, header.data)
        self.send(number, header)
        if self.outcome.over:
            self._over.set()


class Station:
    """The node around a worker."""

    released = True

    def __init__(self, nodes: Nodes, number: int) -> None:
        self._nodes = nodes
        self._number = number

    @property
    def workers(self) -> int:
        """Every volunteer's engine."""
        return len(self._nodes.ledgers)

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """They are there."""
        return self._nodes.items[chunk]

    async def images(
        self, chunk: int, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        """They are there."""
        hashes = {index: self._nodes.items[chunk][index].hash for index in wanted}
        return {index: Image(hash_, hash_) for index, hash_ in hashes.items()}

    async def given(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Mapping[str, str]]:
        """The task uses no others' answers."""
        return {index: {} for index in wanted}

    async def load(self, hash_: bytes) -> bytes | None:
        """They are in memory already."""
        return hash_

    async def publish_claim(self, claim: Envelope) -> None:
        """The worker has taken it in already."""
        self._nodes.send(self._number, claim)

    async def publish_result(
        self, header: Envelope, result: Result, rows: Sequence[Row], body: Body, evidence: bytes | None
    ) -> None:
        """Check the body, as everybody would."""
        check_rows(open_body(body.data, result), result, self._nodes.items[result.chunk], self._nodes.task)
        self._nodes.publish(self._number, header, result)

    async def changed(self) -> None:
        """Nothing is waited for: captioning may start at once."""
        await trio.sleep_forever()


class Engine:
    """Captions CAPACITY images at a time, a slice in about `seconds`."""

    capacity = CAPACITY
    state = EngineState(phase="ready", engine_class=bytes(8))

    def __init__(self, seconds: float, rng: random.Random) -> None:
        self._seconds = seconds * CAPACITY / OPEN
        self._rng = rng

    async def wait_ready(self) -> None:
        """It is."""

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        """After a while."""
        await trio.sleep(self._seconds * self._rng.lognormvariate(0.0, NOISE))
        return (Output("a caption", 4, "stop"),)


def _hash(chunk: int, index: int) -> bytes:
    return hashlib.sha256(b"%d %d" % (chunk, index)).digest()


@contextmanager
def _quiet() -> Iterator[None]:
    """The workers' log goes nowhere: what this process prints are figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()


@contextmanager
def _read_once(tid: bytes) -> Iterator[None]:
    """What is pure and dear is worked out once for the same bytes: decoding, and verifying signatures."""
    remember: Any = functools.lru_cache(CACHED)
    with (
        mock.patch("p2pcap.ledger.validate.open_envelope", remember(envelope.open_envelope)),
        mock.patch("p2pcap.ledger.validate.decode", remember(codec.decode)),
        mock.patch("p2pcap.envelope.verify", remember(verify)),
        mock.patch.object(Task, "tid", tid),
    ):
        yield
