"""In-memory twins of an engine and of the node around a worker. Time is trio's, and under `simulated` it costs nothing.

A twin keeps the contract of what it stands for, also where it hurts: an engine that is down raises EngineDied at once,
and what a station publishes is judged as another node would judge it.
"""

import functools
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec

import trio
import trio.testing

from p2pcap.codec import decode
from p2pcap.engine.base import NO_FIELDS, Engine, EngineState, Finish, Output, Score, Spelt
from p2pcap.engine.restarts import Restarts
from p2pcap.envelope import Envelope
from p2pcap.errors import EngineDied, EngineStartError, ImageError, StoreError
from p2pcap.identity import Identity
from p2pcap.ledger.body import Body, check_rows, open_body
from p2pcap.ledger.records import Claim, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Verdict, validate
from p2pcap.project.items import Item
from p2pcap.project.task import Input, Task
from p2pcap.worker.slices import Image
from p2pcap.worker.worker import Worker
from tests.makers import NOW, Made, ledger_of

P = ParamSpec("P")


def simulated(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test in simulated time: the clock jumps whenever nothing can happen, and a hang ends."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(20_000):
                await test(*args, **kwargs)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


def now() -> float:
    """The simulated unix time."""
    return NOW + trio.current_time()


class TwinEngine:
    """Captions an image in `seconds(image)`. Images in `poison` kill it, those in `faulty` are refused. With
    `restarts`, it comes back only as often as these allow."""

    def __init__(self, capacity: int = 8, seconds: Callable[[bytes], float] = lambda image: 1.0) -> None:
        self.capacity = capacity
        self.seconds = seconds
        self.restart_seconds = 20.0
        self.poison: set[bytes] = set()
        self.faulty: dict[bytes, ImageError] = {}
        self.texts: dict[bytes, str] = {}
        self.ids: dict[bytes, tuple[int, ...]] = {}
        self.asked: list[bytes] = []
        self.told: dict[bytes, Mapping[str, str]] = {}
        self.levels: list[tuple[float, int]] = [(0.0, 0)]
        self.deaths = 0
        self.failed = False
        self.restarts: Restarts | None = None
        self._back = 0.0
        self._died = trio.Event()

    @property
    def state(self) -> EngineState:
        up = trio.current_time() >= self._back
        return EngineState(phase="ready" if up else "restarting", engine_class=b"twintwin")

    @property
    def most(self) -> int:
        """The most images it ever had in hand."""
        return max(level for _, level in self.levels)

    @property
    def full_from_to(self) -> tuple[float, float]:
        """When it was first full, and when its last image came."""
        full = next(time for time, level in self.levels if level == self.capacity)
        pairs = itertools.pairwise(self.levels)
        return full, max(new for (_, old), (new, level) in pairs if level > old)

    def _spans(self, start: float, end: float) -> Iterator[tuple[float, int]]:
        """The seconds that it had so many in hand, between two times."""
        for (begun, level), (ended, _) in itertools.pairwise(self.levels):
            yield max(0.0, min(ended, end) - max(begun, start)), level

    def busy(self, start: float, end: float) -> float:
        """The part of its places that were taken between two times."""
        return sum(seconds * level for seconds, level in self._spans(start, end)) / (self.capacity * (end - start))

    @property
    def starved(self) -> float:
        """Seconds it had fewer in hand than it could, from when it was first full until its last image came."""
        return sum(seconds for seconds, level in self._spans(*self.full_from_to) if level < self.capacity)

    def die(self) -> None:
        """Its process is killed; it is back after `restart_seconds`."""
        self.deaths += 1
        if self.restarts is not None and self.restarts.died(trio.current_time()) is None:
            self.failed = True
        self._back = trio.current_time() + self.restart_seconds
        died, self._died = self._died, trio.Event()
        died.set()

    async def wait_ready(self) -> None:
        await trio.sleep_until(self._back)
        if self.failed:
            raise EngineStartError("The twin does not start.")
        if trio.current_time() < self._back:
            await self.wait_ready()  # it died again meanwhile

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        if trio.current_time() < self._back:
            raise EngineDied("The twin is not ready.")
        self.asked.append(image)
        self.told[image] = fields
        self._level(1)
        try:
            return await self._caption(image, self._died)
        finally:
            self._level(-1)

    async def _caption(self, image: bytes, died: trio.Event) -> tuple[Output, ...]:
        with trio.move_on_after(self.seconds(image)):
            await died.wait()
            raise EngineDied("The twin died.")
        if died.is_set():
            raise EngineDied("The twin died in the same moment.")
        if image in self.poison:
            self.die()
            raise EngineDied("The twin died of it.")
        if self.restarts is not None:
            self.restarts.captioned()
        if image in self.faulty:
            raise self.faulty[image]
        return (Output(self.texts.get(image, f"caption of {image.decode()}"), 4, "stop", self.ids.get(image, ())),)

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        """Its tokens are letters. What it says of the image has no margin, any other letter one of 9."""
        (own,) = await self.caption(image, sha256, values)
        said = self.ids.get(image) or tuple(map(ord, own.text))
        margins = tuple(0.0 if said[place : place + 1] == (token,) else 9.0 for place, token in enumerate(ids))
        return Score(margins, tuple(-margin for margin in margins))

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        return Spelt("".join(map(chr, ids)), short=finish == "length")

    async def cut(self, prompt: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        return (tuple(map(ord, text)),)

    def _level(self, change: int) -> None:
        self.levels.append((trio.current_time(), self.levels[-1][1] + change))


@dataclass
class Published:
    """A result as its author announced it."""

    time: float
    envelope: Envelope
    result: Result
    rows: Sequence[Row]
    evidence: bytes | None


class TwinStation:
    """The node around one worker. What it publishes reaches every other station of `swarm` after `delay` seconds."""

    def __init__(self, made: Made, ledger: Ledger, swarm: "TwinSwarm") -> None:
        self.ledger = ledger
        self.released = True
        self.fetch_seconds = 0.0
        self.fetched = 0
        self.refuses: set[str] = set()
        self.lacks: set[bytes] = set()
        self.errors: dict[bytes, ImageError] = {}
        self.needs: Sequence[Input] = ()
        self.bodiless: set[tuple[int, int]] = set()
        self.on_disk = False
        self.evicted: set[bytes] = set()
        self.never: set[bytes] = set()
        self.published: list[Published] = []
        self.claims: list[tuple[float, Claim]] = []
        self._made = made
        self._images = made.images
        self._swarm = swarm
        self._news = trio.Event()

    @property
    def workers(self) -> int:
        return len(self._swarm.stations)

    async def _may(self, what: str) -> None:
        await trio.lowlevel.checkpoint()
        if what in self.refuses:
            raise StoreError("The twin's disk is full.")

    async def items(self, chunk: int) -> tuple[Item, ...]:
        await self._may("items")
        return self._made.items[chunk]

    async def images(
        self, chunk: int, wanted: Sequence[int], ahead: Collection[int]
    ) -> Mapping[int, Image | ImageError]:
        await self._may("images")
        await trio.sleep(self.fetch_seconds)
        self.fetched += len(wanted)
        hashes = {index: self._made.items[chunk][index].hash for index in wanted}
        had = {index: self._image(hash_) for index, hash_ in hashes.items() if hash_ not in self.lacks}
        return had | {index: self.errors[hash_] for index, hash_ in hashes.items() if hash_ in self.errors}

    def _image(self, hash_: bytes) -> Image:
        return Image(hash_, None if self.on_disk else self._images[hash_])

    async def given(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Mapping[str, str]]:
        """What was answered at this stage's inputs and came with its body."""
        await self._may("given")
        found = {}
        for index in wanted:
            texts = [self._swarm.texts.get((needed.tid, chunk, index)) for needed in self.needs]
            if (chunk, index) not in self.bodiless and all(text is not None for text in texts):
                found[index] = {
                    f"{needed.stage}.{name}": text
                    for needed, answers in zip(self.needs, texts, strict=True)
                    for name, text in (answers or {}).items()
                    if name in needed.prompts
                }
        return found

    async def load(self, hash_: bytes) -> bytes | None:
        """The image, unless it was evicted: then it is there again the next time, if it is not among `never`."""
        await trio.lowlevel.checkpoint()
        if hash_ in self.never:
            return None
        if hash_ in self.evicted:
            self.evicted.remove(hash_)
            return None
        return self._images[hash_]

    async def publish_claim(self, claim: Envelope) -> None:
        await self._may("publish_claim")
        self.claims.append((trio.current_time(), decode(claim.payload, Claim)))
        await self._swarm.gossip(self, lambda other: other.hear(claim.data))

    async def publish_result(
        self, header: Envelope, result: Result, rows: Sequence[Row], body: Body, evidence: bytes | None
    ) -> None:
        await self._may("publish_result")
        self.published.append(Published(trio.current_time(), header, result, rows, evidence))
        assert list(open_body(body.data, result)) == list(rows)
        check_rows(rows, result, self._made.items[result.chunk], self.ledger.works[result.tid].task)
        assert validate(self.ledger, header.data, now()).verdict is Verdict.ACCEPT
        self._swarm.keep(header.id, result, rows, self.ledger.works[result.tid].task)
        self.ledger.hear(header, result, now())
        self._take(header, result)
        await self._swarm.gossip(self, lambda other: other.hear(header.data))

    async def changed(self) -> None:
        await self._news.wait()

    def tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    def hear(self, data: bytes) -> None:
        """A statement of another station; its body comes with it. A claim may be late, anything else must be good."""
        judgement = validate(self.ledger, data, now())
        if judgement.verdict is Verdict.ACCEPT and judgement.envelope is not None:
            self.ledger.hear(judgement.envelope, judgement.record, now())
            if isinstance(judgement.record, Result):
                self._take(judgement.envelope, judgement.record)
        assert judgement.verdict is not Verdict.REJECT, judgement.reason
        self.tell()

    def _take(self, header: Envelope, result: Result) -> None:
        """A result is durable, and its body is here."""
        self.ledger.add(header, result)
        self.ledger.complete(header.id, header.author, result, self._swarm.errors[header.id])
        self.ledger.claims.progress(header.author, now())
        self.tell()

    @property
    def rows(self) -> list[tuple[int, Row]]:
        """Every row published here, with its chunk."""
        return [(one.result.chunk, row) for one in self.published for row in one.rows]


@dataclass
class TwinSwarm:
    """Stations that hear each other `delay` seconds late; with none at all they may share a ledger."""

    made: Made
    nursery: trio.Nursery
    delay: float = 0.0
    stations: list[TwinStation] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    kind: type[TwinStation] = TwinStation
    errors: dict[bytes, int] = field(default_factory=dict)
    texts: dict[tuple[bytes, int, int], dict[str, str]] = field(default_factory=dict)
    """The answers by task, chunk and item."""

    def keep(self, id_: bytes, result: Result, rows: Sequence[Row], task: Task) -> None:
        """A body that everybody can have."""
        self.errors[id_] = sum(1 << row.item for row in rows if row.error)
        for row in rows:
            if row.answers:
                named = zip(task.prompts, row.answers, strict=True)
                self.texts[result.tid, result.chunk, row.item] = {prompt.name: said.text for prompt, said in named}

    def join(
        self, identity: Identity, engine: Engine, ledger: Ledger | None = None, stage: int = 0
    ) -> tuple[Worker, TwinStation]:
        """A worker on a stage, with its station and, unless it shares one, its own ledger."""
        ledger = ledger or ledger_of(self.made.project, *AUTHORS)
        station = self.kind(self.made, ledger, self)
        attempts, rng = self.made.project.plan.policy.attempts, random.Random(len(self.stations))
        work = ledger.work_of(self.made.project.stages[stage])
        station.needs = work.task.needs
        worker = Worker(identity, work, attempts, engine, station, rng, now)
        self.stations.append(station)
        self.workers.append(worker)
        return worker, station

    async def gossip(self, sender: TwinStation, tell: Callable[[TwinStation], None]) -> None:
        await trio.lowlevel.checkpoint()
        for station in self.stations:
            if station.ledger is not sender.ledger:
                self.nursery.start_soon(self._later, tell, station)
            elif station is not sender:
                station.tell()

    async def _later(self, tell: Callable[[TwinStation], None], station: TwinStation) -> None:
        await trio.sleep(self.delay)
        tell(station)

    async def work(self) -> None:
        """All workers work until each knows every image done, and then finish."""
        async with trio.open_nursery() as nursery:
            for worker in self.workers:
                nursery.start_soon(worker.run)
            for station in self.stations:
                while not station.ledger.finished:
                    await station.changed()
            for worker in self.workers:
                worker.finish()


AUTHORS = tuple(Identity.from_seed(bytes([number]) * 32) for number in range(1, 9))
ME, OTHER = AUTHORS[:2]


async def alone(made: Made, engine: TwinEngine) -> tuple[Worker, TwinStation]:
    """One worker does the whole project."""
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, engine)
        await swarm.work()
    return worker, station


def places(station: TwinStation) -> Counter[tuple[int, int]]:
    return Counter((chunk, row.item) for chunk, row in station.rows)


def each_once(made: Made) -> Counter[tuple[int, int]]:
    return Counter((chunk, item) for chunk, items in enumerate(made.items) for item in range(len(items)))


def uneven(image: bytes) -> float:
    """Between a half and two seconds, by the image."""
    return 0.5 + random.Random(image).random() * 1.5
