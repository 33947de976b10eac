"""The worker: claims work and keeps the engine fed until nothing is left to do.

Four tasks: claim, fetch, caption, publish. They share the agenda of what is claimed; from the fetching on, bounded
channels join them. Slices of several chunks are in flight at once, so the engine never drains at a chunk's border. What
is in hand when the node dies is lost and done again by somebody; what was published was committed first.

Always holds: at most FETCHED slices wait for the engine with their images, and of their bytes as much is in memory as
the station gives (p2pcap.worker.captioning has the engine's limits).
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import structlog
import trio

from p2pcap.engine.base import Engine
from p2pcap.envelope import seal
from p2pcap.errors import ImageError, ImageResting, ImageUnavailable
from p2pcap.identity import Identity
from p2pcap.ledger.body import in_bodies
from p2pcap.ledger.records import Row
from p2pcap.ledger.work import Work
from p2pcap.project.items import Item
from p2pcap.project.records import SLICE
from p2pcap.worker.agenda import AHEAD_SECONDS, LOOK_EVERY, Agenda
from p2pcap.worker.captioning import Captioning
from p2pcap.worker.gate import EVERYBODY
from p2pcap.worker.missing import Missing
from p2pcap.worker.rate import Pace, Rate
from p2pcap.worker.results import written
from p2pcap.worker.slices import Image, Slice, failed
from p2pcap.worker.station import Station

CLAIM_EVERY = 1.0
"""Seconds between two claims of one author, at least."""

RENEW_EVERY = 20.0
"""Seconds after which an unchanged claim is said again: for those whom it did not reach, and so that a slow slice does
not outlive its lease."""

FETCHED = 3
"""Slices whose images are in memory and wait for the engine."""

LOADERS = 2
"""Slices of those being fetched at a time: while one waits for a peer or for a chunk's item list, the other goes on."""

FIRST_SLICE_SECONDS = 30.0
"""What the first claim says a slice takes, before anything was measured."""

LEFT = ImageUnavailable("unavailable", "The image was not to be had here, in as many tries as the project allows.")
"""It came, and left the disk before its turn, each time; or its error row was not published."""

log = structlog.get_logger()


class Worker:
    """One node's captioning in one task. `attempts` is how many tries an image has; `clock` gives unix seconds."""

    def __init__(
        self,
        identity: Identity,
        work: Work,
        attempts: int,
        engine: Engine,
        station: Station,
        rng: random.Random,
        clock: Callable[[], float],
        rate: Rate | None = None,
    ) -> None:
        """`rate` goes on counting where the worker before this one left off; None: it begins here."""
        self._identity = identity
        self._work = work
        self._engine = engine
        self._station = station
        self._clock = clock
        self._agenda = Agenda(work, identity.public, rng)
        self._missing = Missing(attempts)
        self._captioning = Captioning(engine, attempts, station.load, self._begins, self._captioned, self._lost)
        self._progress = trio.Event()
        self._claimed = trio.Event()
        self._nonce = int(clock() * 1000)
        self._claimed_at = 0.0
        self._finishing = False
        self._loading, self._awaiting = trio.CancelScope(), trio.CancelScope()
        self._pace = Pace(FIRST_SLICE_SECONDS)
        self.ended = trio.Event()
        self.rate = rate or Rate(clock())

    @property
    def mine(self) -> list[int]:
        """The chunks of which slices are claimed and not done, in the order in which they were claimed."""
        return self._agenda.mine

    @property
    def in_flight(self) -> int:
        """Images with the engine."""
        return self._captioning.in_flight

    @property
    def busy(self) -> bool:
        """Whether images are claimed that have no row yet."""
        return self._agenda.ahead > 0

    @property
    def made(self) -> int:
        """Rows made so far, those of workers before this one among them."""
        return self.rate.total

    def entered(self, alone: bool) -> AbstractAsyncContextManager[None]:
        """With the engine, in turn with the worker's images, so that none of these is blamed for another's; `alone`:
        without any other there."""
        return self._captioning.gate.entered(1 if alone else EVERYBODY)

    def finish(self) -> None:
        """Start no further slice; `run` returns when those that were started have been published."""
        self._finishing = True
        self._loading.cancel()
        self._awaiting.cancel()
        self._wake()

    def give_up(self) -> None:
        """As `finish`, and drop what is with the engine: the rows that are made by now are published."""
        self.finish()
        self._captioning.give_up()

    async def run(self) -> None:
        """Work until `finish` is called (or the task is cancelled), then give the claims back."""
        with self._awaiting:
            await self._engine.wait_ready()
        fetched_out, fetched = trio.open_memory_channel[Slice](FETCHED - LOADERS)
        ready_out, ready = trio.open_memory_channel[Slice](FETCHED)
        # Channels are closed with `with`, not `async with`: a task that ends by an error must not wait on its way out,
        # or the end of `_publish` would cancel it there and the error would be lost.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_claiming)
            nursery.start_soon(self._fetch, fetched_out)
            nursery.start_soon(self._caption, fetched, ready_out)
            await self._publish(ready)
            nursery.cancel_scope.cancel()
        self._agenda.clear()
        await self._claim()
        self.ended.set()

    # claim

    async def _keep_claiming(self) -> None:
        await self._wait_for_release()
        self.rate.restart(self._clock())
        while not self._finishing:
            now = self._clock()
            chunks = self._look(now) if now >= self._claimed_at + CLAIM_EVERY else []
            if chunks:
                log.info("claim", chunks=chunks)
            if chunks or (self._agenda.mine and now >= self._claimed_at + RENEW_EVERY):
                await self._claim()
            with trio.move_on_after(self._pause()):
                await self._progress.wait()

    def _look(self, now: float) -> list[int]:
        return self._agenda.look(now, self._low - self._agenda.ahead, self._station.workers, self._pace.seconds)

    @property
    def _low(self) -> int:
        """More is claimed when fewer images are ahead: those with the engine, the next for it, and what is being
        fetched, or what the engine does in AHEAD_SECONDS."""
        least = 2 * self._engine.capacity + self._agenda.fullest
        return max(least, int(SLICE / self._pace.seconds * AHEAD_SECONDS))

    def _pause(self) -> float:
        """Seconds until there may be something to claim, if nothing happens here before."""
        due = self._agenda.look_at - self._clock() if self._agenda.ahead < self._low else LOOK_EVERY
        return max(CLAIM_EVERY, min(LOOK_EVERY, due))

    async def _claim(self) -> None:
        self._nonce += 1
        now = self._claimed_at = self._clock()
        record = self._agenda.claim(now, self._pace.seconds, self._nonce)
        envelope = seal(self._identity, "claim", record)
        self._work.claims.hold(self._identity.public, record, envelope.data, now)
        await self._station.publish_claim(envelope)
        self._claimed.set()
        self._claimed = trio.Event()

    # fetch

    async def _fetch(self, out: "trio.MemorySendChannel[Slice]") -> None:
        with out, self._loading:
            async with trio.open_nursery() as nursery:
                for _ in range(LOADERS):
                    nursery.start_soon(self._load_each, out)

    async def _load_each(self, out: "trio.MemorySendChannel[Slice]") -> None:
        while True:
            piece = await self._next()
            await self._load(piece)
            if piece.items:
                await out.send(piece)
            else:
                self._done_with(piece)

    async def _next(self) -> Slice:
        """The next slice of the agenda, as soon as it may begin."""
        while True:
            now = self._clock()
            piece = self._agenda.begin(now)
            if piece is not None:
                return piece
            ready = self._agenda.ready_at()
            with trio.move_on_after(float("inf") if ready is None else max(0.0, ready - now)):
                await self._claimed.wait()

    async def _load(self, piece: Slice) -> None:
        items = await self._station.items(piece.chunk)
        spent = [index for index in piece.places if self._missing.spent(piece.chunk, index)]
        wanted = [index for index in piece.places if index not in spent]
        if self._work.task.needs:
            piece.given = await self._station.given(piece.chunk, wanted)
            wanted = [index for index in wanted if index in piece.given]
        found = await self._station.images(piece.chunk, wanted, self._agenda.ahead_in(piece.chunk)) if wanted else {}
        self._agenda.loaded(piece)
        piece.images = {i: (items[i], image) for i, image in found.items() if isinstance(image, Image)}
        piece.rows = self._failures(piece.chunk, items, {**found, **dict.fromkeys(spent, LEFT)})
        had = piece.images.keys() | piece.rows.keys()
        if len(had) < len(piece.places):
            log.warning("images not to be had", chunk=piece.chunk, missing=len(piece.places) - len(had))
            self._agenda.set_aside(piece, had, self._when_again(piece.chunk, found.values()))

    def _failures(self, chunk: int, items: Sequence[Item], found: Mapping[int, Image | ImageError]) -> dict[int, Row]:
        """The rows of images that will not be had: by their own fault, or after their last try."""
        errors = {index: error for index, error in found.items() if isinstance(error, ImageError)}
        resting = {index for index, error in errors.items() if isinstance(error, ImageResting)}
        passing = {index for index, error in errors.items() if isinstance(error, ImageUnavailable)} - resting
        lasting = errors.keys() - resting - passing | self._missing.tried(chunk, passing)
        return {index: failed(index, items[index].hash, errors[index]) for index in lasting}

    def _when_again(self, chunk: int, found: Iterable[Image | ImageError]) -> float:
        """When a chunk with missing images is to be looked at again: not before those who hold them have rested."""
        now = self._clock()
        rests = [error.seconds for error in found if isinstance(error, ImageResting)]
        return max(self._missing.until(chunk, now), now + min(rests, default=0.0))

    def _lost(self, piece: Slice, index: int) -> None:
        """An image left the disk before its turn came: it is to be got again, but not for ever."""
        self._missing.tried(piece.chunk, [index])
        self._agenda.leave(piece.chunk, self._missing.until(piece.chunk, self._clock()))
        self._captioned()

    # caption

    async def _caption(self, fetched: "trio.MemoryReceiveChannel[Slice]", out: "trio.MemorySendChannel[Slice]") -> None:
        with out:
            await self._captioning.run(fetched, out)

    def _begins(self, piece: Slice) -> bool:
        """Whether a slice is still wanted as its first image is about to go to the engine."""
        if not self._finishing and self._agenda.trim(piece, self._clock()):
            piece.begun = self._clock()
            return True
        self._done_with(piece)
        return False

    def _captioned(self) -> None:
        self._agenda.captioned()
        if self._agenda.ahead < self._low:
            self._wake()

    # publish

    async def _publish(self, ready: "trio.MemoryReceiveChannel[Slice]") -> None:
        async for piece in ready:
            rows = [piece.rows[index] for index in sorted(piece.rows)]
            for run in in_bodies(rows):
                await self._sign_and_send(piece, run)
            self._missing.had(piece.chunk, piece.rows)
            now = self._clock()
            self.rate.add(len(rows), now)
            if rows:
                self._pace.add(len(rows), piece.begun, now)
            if not piece.more:
                self._done_with(piece)

    async def _sign_and_send(self, piece: Slice, rows: list[Row]) -> None:
        engine_class = self._engine.state.engine_class
        made = written(self._work.m, self._work.tid, piece, rows, engine_class, self._clock(), self._nonce)
        envelope = seal(self._identity, "result", made.header)
        await self._station.publish_result(envelope, made.header, rows, made.body, made.evidence)

    # waiting

    def _done_with(self, piece: Slice) -> None:
        self._agenda.done(piece)
        self._wake()

    def _wake(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def _wait_for_release(self) -> None:
        while not self._station.released and not self._finishing:
            with trio.move_on_after(CLAIM_EVERY):
                await self._news()

    async def _news(self) -> None:
        """Return at the next progress here or change elsewhere."""
        async with trio.open_nursery() as nursery:

            async def until(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until, self._progress.wait)
            nursery.start_soon(until, self._station.changed)
