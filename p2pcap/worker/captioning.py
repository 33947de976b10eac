"""The engine's end of the worker: slices with their images go in, and come out when every image has its row.

A slice that takes long comes out in parts: what is done of it after SLICE_SECONDS comes first, so that a crash loses no
more than that.

Always holds: at most `engine.capacity` images are with the engine, and every image that enters leaves with exactly one
row, also when the engine dies under it.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from p2pcap.engine.base import Engine
from p2pcap.errors import EngineDied, ImageError
from p2pcap.worker.gate import Gate, tolerated
from p2pcap.worker.slices import Image, Made, Slice, captioned, failed

SLICE_SECONDS = 60.0
"""A slice is 64 images or so many seconds of work (docs/protocol.md, Choosing work)."""

LEAST_TRIES = 2
"""Tries of an image under which the engine dies, whatever the project allows: in company, and alone."""


@dataclass(frozen=True)
class Asked:
    """What the engine is asked about one item: its place, its image, what the prompts may use beside it, and which of
    that are answers of other tasks (None: the task uses none)."""

    index: int
    image: Image
    fields: Mapping[str, str]
    given: Mapping[str, str] | None


class Captioning:
    """Keeps the engine fed. `attempts` is how often an image is tried while the engine keeps dying under it; `load`
    gets the bytes of an image that waits on disk; `begin` is asked as the first image of a slice is about to enter, and
    says whether the slice is still wanted; `on_row` is called for each row that was made, `on_lost` for each image that
    `load` did not find: it is dropped from its slice. Whatever else is asked of the engine goes through the `gate`."""

    def __init__(
        self,
        engine: Engine,
        attempts: int,
        load: Callable[[bytes], Awaitable[bytes | None]],
        begin: Callable[[Slice], bool],
        on_row: Callable[[], None],
        on_lost: Callable[[Slice, int], None],
    ) -> None:
        self._engine = engine
        self._tries = max(LEAST_TRIES, attempts)
        self._load = load
        self._begin = begin
        self._on_row = on_row
        self._on_lost = on_lost
        self._scopes: set[trio.CancelScope] = set()
        self._given_up = False
        self.gate = Gate(lambda: engine.capacity)

    @property
    def in_flight(self) -> int:
        """Images with the engine."""
        return self.gate.inside

    def give_up(self) -> None:
        """Drop every image that is with the engine or comes to it. A slice goes on with the rows it has."""
        self._given_up = True
        for scope in self._scopes:
            scope.cancel()

    async def run(self, fetched: "trio.MemoryReceiveChannel[Slice]", out: "trio.MemorySendChannel[Slice]") -> None:
        """Caption every slice that comes and that `begin` wants, many images at once."""
        async with trio.open_nursery() as nursery:
            async for piece in fetched:
                await self.gate.enter()
                if not self._begin(piece):
                    self.gate.leave()
                    continue
                piece.prune()
                for _ in piece.rows:
                    self._on_row()
                if not piece.images:
                    self.gate.leave()
                    await out.send(piece)
                    continue
                nursery.start_soon(self._send_parts, piece, out)
                for place, (index, (_, image)) in enumerate(list(piece.images.items())):
                    if place:
                        await self.gate.enter()
                    nursery.start_soon(
                        self._finish_item, piece, Asked(index, image, piece.told(index), piece.given.get(index)), out
                    )

    async def _send_parts(self, piece: Slice, out: "trio.MemorySendChannel[Slice]") -> None:
        """Of a slice that takes long, send what is done now and then."""
        while not piece.ended.is_set():
            with trio.move_on_after(SLICE_SECONDS):
                await piece.ended.wait()
            if piece.rows and not piece.ended.is_set():
                await out.send(piece.split())

    async def _finish_item(self, piece: Slice, asked: Asked, out: "trio.MemorySendChannel[Slice]") -> None:
        index = asked.index
        made: Made | None = None
        with self._until_given_up():
            made = await self._made(asked)
        if made is not None:
            piece.put(made)
            self._on_row()
        else:
            piece.drop(index)
            if not self._given_up:
                self._on_lost(piece, index)
        if piece.complete:
            piece.ended.set()
            await out.send(piece)

    @contextmanager
    def _until_given_up(self) -> Iterator[None]:
        with trio.CancelScope() as scope:
            if self._given_up:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    async def _made(self, asked: Asked) -> Made | None:
        """The image's row; None when its bytes are not on disk any more. The caller has entered the gate."""
        try:
            image = asked.image
            data = image.data if image.data is not None else await self._load(image.hash)
            made = await self._try(asked, data) if data is not None else None
        finally:
            self.gate.leave()
        if data is None or made is not None:
            return made
        return await self._made_of_suspect(asked, data)

    async def _made_of_suspect(self, asked: Asked, data: bytes) -> Made:
        """The row of an image that was in hand when the engine died: tried again in smaller and smaller company."""
        for deaths in range(1, self._tries):
            async with self.gate.entered(tolerated(deaths, self._tries, self._engine.capacity)):
                made = await self._try(asked, data)
            if made is not None:
                return made
        died = ImageError("engine-died", f"the engine died under it {self._tries} times")
        return Made(failed(asked.index, asked.image.hash, died))

    async def _try(self, asked: Asked, data: bytes) -> Made | None:
        """The image's row; None when the engine died of it, or of another: never because it was not there yet."""
        await self._engine.wait_ready()
        try:
            outputs = await self._engine.caption(data, asked.image.hash, asked.fields)
            return captioned(asked.index, asked.image.hash, outputs, asked.given)
        except ImageError as error:
            return Made(failed(asked.index, asked.image.hash, error))
        except EngineDied:
            return None
