"""The engine's end of the worker: slices with their images go in, and come out when every image has its row.

Always holds: at most `engine.capacity` images are with the engine, and every image that enters leaves with exactly one
row, also when the engine dies under it.
"""

from collections.abc import Awaitable, Callable

import trio

from p2pcap.engine.base import Engine
from p2pcap.errors import EngineDied, ImageError
from p2pcap.ledger.records import Row
from p2pcap.project.items import Item
from p2pcap.worker.gate import Gate
from p2pcap.worker.slices import Image, Slice, captioned, failed


class Captioning:
    """Keeps the engine fed. `attempts` is how often an image is tried while the engine keeps dying under it; `load`
    gets the bytes of an image that waits on disk; `begin` is asked as the first image of a slice is about to enter, and
    says whether the slice is still wanted; `on_row` is called for each row that was made, `on_lost` for each image that
    `load` did not find: it is dropped from its slice."""

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
        self._attempts = attempts
        self._load = load
        self._begin = begin
        self._on_row = on_row
        self._on_lost = on_lost
        self._gate = Gate(engine.capacity)
        self.in_flight = 0

    async def run(self, fetched: "trio.MemoryReceiveChannel[Slice]", out: "trio.MemorySendChannel[Slice]") -> None:
        """Caption every slice that comes and that `begin` wants, many images at once."""
        async with trio.open_nursery() as nursery:
            async for piece in fetched:
                await self._gate.enter()
                if not self._begin(piece):
                    self._gate.leave()
                    continue
                piece.prune()
                for _ in piece.rows:
                    self._on_row()
                if not piece.images:
                    self._gate.leave()
                    await out.send(piece)
                for place, (index, (item, image)) in enumerate(list(piece.images.items())):
                    if place:
                        await self._gate.enter()
                    self.in_flight += 1
                    nursery.start_soon(self._finish_item, piece, index, item, image, out)

    async def _finish_item(
        self, piece: Slice, index: int, item: Item, image: Image, out: "trio.MemorySendChannel[Slice]"
    ) -> None:
        row = await self._row(index, item, image)
        if row is None:
            piece.drop(index)
            self._on_lost(piece, index)
        else:
            piece.rows[index] = row
            self._on_row()
        if piece.complete:
            await out.send(piece)

    async def _row(self, index: int, item: Item, image: Image) -> Row | None:
        """The image's row, after as many tries as the project allows while the engine keeps dying under it; None when
        its bytes are not on disk any more.

        The caller has entered the gate; each try but the first enters again, and the last one enters alone.
        """
        try:
            data = image.data if image.data is not None else await self._load(image.hash)
            row = await self._try(index, item, image.hash, data) if data is not None else None
        finally:
            self.in_flight -= 1
            self._gate.leave()
        if data is None:
            return None
        for attempt in range(1, self._attempts):
            if row is not None:
                return row
            async with self._gate.alone() if attempt == self._attempts - 1 else self._gate.shared():
                row = await self._try(index, item, image.hash, data)
        died = ImageError("engine-died", f"the engine died under it {self._attempts} times")
        return row or failed(index, image.hash, died)

    async def _try(self, index: int, item: Item, hash_: bytes, data: bytes) -> Row | None:
        """The image's row; None when the engine died of it, or of another: never because it was not there yet."""
        await self._engine.wait_ready()
        try:
            return captioned(index, hash_, await self._engine.caption(data, hash_, item.metadata))
        except ImageError as error:
            return failed(index, hash_, error)
        except EngineDied:
            return None
