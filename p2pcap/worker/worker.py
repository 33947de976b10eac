"""The worker: claims chunks and keeps the engine fed until nothing is left to do.

Four tasks joined by bounded channels: choose and claim, fetch, caption, publish. Slices of several chunks are in flight
at once, so the engine never drains at a chunk's border. What is in hand when the node dies is lost and done again by
somebody; what was published was committed first.

Always holds: at most `engine.capacity` images are with the engine, at most FETCHED slices of image bytes wait for it,
and every image that enters leaves with exactly one row.
"""

import random
from collections.abc import Awaitable, Callable

import structlog
import trio

from p2pcap.engine.base import Engine
from p2pcap.envelope import seal
from p2pcap.errors import EngineDied, ImageError
from p2pcap.identity import Identity
from p2pcap.ledger.body import build_body, in_bodies
from p2pcap.ledger.choose import claimed_chunk, lost, next_chunks, slice_items
from p2pcap.ledger.records import MAX_CLAIMED, Claim, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.project.records import SLICE, Item
from p2pcap.worker.gate import Gate
from p2pcap.worker.rate import Rate
from p2pcap.worker.slices import Slice, captioned, failed
from p2pcap.worker.station import Station

AHEAD_SECONDS = 30.0
"""A chunk is claimed when less than this many seconds of work remain (docs/protocol.md, Claims)."""

CLAIM_EVERY = 1.0
"""Seconds between two claims of one author, at least."""

RENEW_EVERY = 15.0
"""Seconds after which an unchanged claim is said again, so that a slow slice does not outlive its lease."""

FETCHED = 3
"""Slices whose images are in memory and wait for the engine."""

ASIDE = 60.0
"""Seconds for which a chunk is left alone after some of its images could not be had."""

LOADERS = 2
"""Slices of those being fetched at a time: while one waits for a peer or for a chunk's item list, the other goes on."""

FIRST_SLICE_SECONDS = 30
"""What the first claim says a slice takes, before anything was measured."""

log = structlog.get_logger()


class Worker:
    """One node's captioning. `clock` gives unix seconds."""

    def __init__(
        self,
        identity: Identity,
        ledger: Ledger,
        engine: Engine,
        station: Station,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._ledger = ledger
        self._engine = engine
        self._station = station
        self._rng = rng
        self._clock = clock
        self._gate = Gate(engine.capacity)
        self._outstanding: dict[int, int] = {}
        self._aside: dict[int, float] = {}
        self._ahead = 0
        self._progress = trio.Event()
        self._nonce = int(clock() * 1000)
        self._claimed_at = 0.0
        self._finishing = False
        self._loading = trio.CancelScope()
        self.ended = trio.Event()
        self.rate = Rate(clock())
        self.in_flight = 0

    @property
    def mine(self) -> list[int]:
        """The chunks claimed and not finished, in the order in which they were claimed."""
        return list(self._outstanding)

    def finish(self) -> None:
        """Start no further slice; `run` returns when those that were started have been published."""
        self._finishing = True
        self._loading.cancel()
        self._wake()

    async def run(self) -> None:
        """Work until `finish` is called (or the task is cancelled), then give the claims back."""
        await self._engine.wait_ready()
        wanted_out, wanted = trio.open_memory_channel[Slice](MAX_CLAIMED * 256)
        fetched_out, fetched = trio.open_memory_channel[Slice](FETCHED - LOADERS)
        ready_out, ready = trio.open_memory_channel[Slice](FETCHED)
        # Channels are closed with `with`, not `async with`: a task that ends by an error must not wait on its way out,
        # or the end of `_publish` would cancel it there and the error would be lost.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._choose, wanted_out)
            nursery.start_soon(self._fetch, wanted, fetched_out)
            nursery.start_soon(self._feed, fetched, ready_out)
            await self._publish(ready)
            nursery.cancel_scope.cancel()
        self._outstanding.clear()
        await self._claim()
        self.ended.set()

    # choose and claim

    async def _choose(self, out: "trio.MemorySendChannel[Slice]") -> None:
        with out:
            await self._wait_for(lambda: self._station.released)
            self.rate.restart(self._clock())
            while not self._finishing:
                chunks = self._next()
                if chunks:
                    await self._take(chunks, out)
                else:
                    await self._idle()

    def _next(self) -> list[int]:
        now = self._clock()
        least = 2 * self._engine.capacity + SLICE  # with the engine, the next for it, and what is being fetched
        wanted = max(least, int(self.rate.current(now) * AHEAD_SECONDS)) - self._ahead
        if wanted <= 0 or now < self._claimed_at + CLAIM_EVERY:
            return []
        self._ledger.claims.sweep(now)
        self._aside = {chunk: until for chunk, until in self._aside.items() if until > now}
        workers = self._station.workers
        return next_chunks(
            self._ledger, self._identity.public, self.mine, wanted, workers, now, self._rng, avoid=self._aside
        )

    async def _take(self, chunks: list[int], out: "trio.MemorySendChannel[Slice]") -> None:
        slices = [piece for chunk in chunks for piece in self._slices(chunk)]
        for piece in slices:
            self._outstanding[piece.chunk] = self._outstanding.get(piece.chunk, 0) + 1
            self._ahead += piece.items.bit_count()
        await self._claim()
        log.info("claim", chunks=chunks)
        for piece in slices:
            await out.send(piece)

    def _slices(self, chunk: int) -> list[Slice]:
        count = self._ledger.project.chunks[chunk].count
        open_ = self._ledger.open_items(chunk, self._clock())
        return [
            Slice(chunk, index * SLICE, min(SLICE, count - index * SLICE), items & open_)
            for index, items in enumerate(slice_items(self._ledger, chunk))
            if items & open_
        ]

    async def _idle(self) -> None:
        """Wait for progress, news or the time to renew; say the claim again when that has come."""
        if self._outstanding and self._clock() > self._claimed_at + RENEW_EVERY:
            await self._claim()
        with trio.move_on_after(CLAIM_EVERY):
            await self._news()

    async def _claim(self) -> None:
        self._nonce += 1
        now = self._clock()
        self._claimed_at = now
        rate = self.rate.current(now)
        seconds = min(600, max(1, round(SLICE / rate))) if rate else FIRST_SLICE_SECONDS
        chunks = tuple(claimed_chunk(self._ledger, chunk) for chunk in self.mine[:MAX_CLAIMED])
        project = self._ledger.project
        record = Claim(project.m, project.task.tid, chunks, self._nonce, int(now), seconds)
        envelope = seal(self._identity, "claim", record)
        self._ledger.claims.hold(self._identity.public, record, envelope.data, now)
        await self._station.publish_claim(envelope)

    # fetch

    async def _fetch(self, wanted: "trio.MemoryReceiveChannel[Slice]", out: "trio.MemorySendChannel[Slice]") -> None:
        with out, self._loading:
            async with trio.open_nursery() as nursery:
                for _ in range(LOADERS):
                    nursery.start_soon(self._load_each, wanted, out)

    async def _load_each(
        self, wanted: "trio.MemoryReceiveChannel[Slice]", out: "trio.MemorySendChannel[Slice]"
    ) -> None:
        async for piece in wanted:
            self._trim(piece)
            if piece.items:
                await self._load(piece)
            if piece.items:
                await out.send(piece)
            else:
                self._done_with(piece)

    def _trim(self, piece: Slice) -> None:
        """Drop what others have done meanwhile, and everything of a chunk that another's claim wins."""
        now = self._clock()
        given_up = piece.chunk in lost(self._ledger, self._identity.public, [piece.chunk], now)
        keep = 0 if given_up else piece.items & self._ledger.open_items(piece.chunk, now)
        self._ahead -= (piece.items & ~keep).bit_count()
        piece.items = keep

    async def _load(self, piece: Slice) -> None:
        items = await self._station.items(piece.chunk)
        indexes = [i for i in range(piece.offset, piece.offset + piece.span) if piece.items >> i & 1]
        images = await self._station.images([items[i].hash for i in indexes])
        piece.images = {i: (items[i], images[items[i].hash]) for i in indexes if items[i].hash in images}
        if len(piece.images) < len(indexes):
            self._set_aside(piece, len(indexes) - len(piece.images))

    def _set_aside(self, piece: Slice, missing: int) -> None:
        """Some of its images are not to be had: go on with the others, and leave the chunk for a while after that."""
        log.warning("images not to be had", chunk=piece.chunk, missing=missing)
        self._ahead -= missing
        piece.items = sum(1 << index for index in piece.images)
        self._aside[piece.chunk] = self._clock() + ASIDE

    # caption

    async def _feed(self, fetched: "trio.MemoryReceiveChannel[Slice]", out: "trio.MemorySendChannel[Slice]") -> None:
        with out:
            async with trio.open_nursery() as nursery:
                async for piece in fetched:
                    if self._finishing:
                        return
                    for index, (item, image) in piece.images.items():
                        await self._gate.enter()
                        self.in_flight += 1
                        nursery.start_soon(self._finish_item, piece, index, item, image, out)

    async def _finish_item(
        self, piece: Slice, index: int, item: Item, image: bytes, out: "trio.MemorySendChannel[Slice]"
    ) -> None:
        piece.rows[index] = await self._row(index, item, image)
        self._ahead -= 1
        if piece.complete:
            await out.send(piece)

    async def _row(self, index: int, item: Item, image: bytes) -> Row:
        """The image's row, after as many tries as the project allows while the engine keeps dying under it.

        The caller has entered the gate; each try but the first enters again, and the last one enters alone.
        """
        attempts = self._ledger.project.plan.policy.attempts
        try:
            row = await self._try(index, item, image)
        finally:
            self.in_flight -= 1
            self._gate.leave()
        for attempt in range(1, attempts):
            if row is not None:
                return row
            async with self._gate.alone() if attempt == attempts - 1 else self._gate.shared():
                row = await self._try(index, item, image)
        return row or failed(index, item, ImageError("engine-died", f"the engine died under it {attempts} times"))

    async def _try(self, index: int, item: Item, image: bytes) -> Row | None:
        """The image's row; None when the engine died of it, or of another: never because it was not there yet."""
        await self._engine.wait_ready()
        try:
            return captioned(index, item, await self._engine.caption(image, item.hash))
        except ImageError as error:
            return failed(index, item, error)
        except EngineDied:
            return None

    # publish

    async def _publish(self, ready: "trio.MemoryReceiveChannel[Slice]") -> None:
        async for piece in ready:
            rows = [piece.rows[index] for index in sorted(piece.rows)]
            for run in in_bodies(rows):
                await self._sign_and_send(piece, run)
            self.rate.add(len(rows), self._clock())
            self._done_with(piece)

    async def _sign_and_send(self, piece: Slice, rows: list[Row]) -> None:
        body = build_body(rows, piece.offset)
        project = self._ledger.project
        result = Result(
            m=project.m,
            tid=project.task.tid,
            chunk=piece.chunk,
            offset=piece.offset,
            n=piece.span,
            mask=body.mask,
            root=body.root,
            length=len(body.data),
            raw=body.raw,
            tokens=sum(answer.tokens for row in rows for answer in row.answers),
            engine=self._engine.state.engine_class,
            time=int(self._clock()),
            nonce=self._nonce,
        )
        await self._station.publish_result(seal(self._identity, "result", result), result, rows, body)

    # waiting

    def _done_with(self, piece: Slice) -> None:
        left = self._outstanding.get(piece.chunk, 0) - 1
        if left > 0:
            self._outstanding[piece.chunk] = left
        else:
            self._outstanding.pop(piece.chunk, None)
        self._wake()

    def _wake(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def _news(self) -> None:
        """Return at the next progress here or change elsewhere."""
        async with trio.open_nursery() as nursery:

            async def until(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until, self._progress.wait)
            nursery.start_soon(until, self._station.changed)

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._finishing:
            with trio.move_on_after(CLAIM_EVERY):
                await self._news()
