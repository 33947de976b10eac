"""The engine's end of the worker: slices with their images go in, and come out when every image has its row.

Always holds: at most `engine.capacity` images are with the engine, and every image that enters leaves with exactly one
row, also when the engine dies under it.
"""

from collections.abc import Callable

import trio

from p2pcap.engine.base import Engine
from p2pcap.errors import EngineDied, ImageError
from p2pcap.ledger.records import Row
from p2pcap.project.records import Item
from p2pcap.worker.gate import Gate
from p2pcap.worker.slices import Slice, captioned, failed


class Captioning:
    """Keeps the engine fed. `attempts` is how often an image is tried while the engine keeps dying under it; `begin`
    is asked as the first image of a slice is about to enter, and says whether the slice is still wanted; `on_row` is
    called for each row that was made."""

    def __init__(
        self, engine: Engine, attempts: int, begin: Callable[[Slice], bool], on_row: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._attempts = attempts
        self._begin = begin
        self._on_row = on_row
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
                wanted = [index for index in piece.images if piece.items >> index & 1]
                piece.images = {index: piece.images[index] for index in wanted}
                for place, (index, (item, image)) in enumerate(list(piece.images.items())):
                    if place:
                        await self._gate.enter()
                    self.in_flight += 1
                    nursery.start_soon(self._finish_item, piece, index, item, image, out)

    async def _finish_item(
        self, piece: Slice, index: int, item: Item, image: bytes, out: "trio.MemorySendChannel[Slice]"
    ) -> None:
        piece.rows[index] = await self._row(index, item, image)
        self._on_row()
        if piece.complete:
            await out.send(piece)

    async def _row(self, index: int, item: Item, image: bytes) -> Row:
        """The image's row, after as many tries as the project allows while the engine keeps dying under it.

        The caller has entered the gate; each try but the first enters again, and the last one enters alone.
        """
        try:
            row = await self._try(index, item, image)
        finally:
            self.in_flight -= 1
            self._gate.leave()
        for attempt in range(1, self._attempts):
            if row is not None:
                return row
            async with self._gate.alone() if attempt == self._attempts - 1 else self._gate.shared():
                row = await self._try(index, item, image)
        return row or failed(index, item, ImageError("engine-died", f"the engine died under it {self._attempts} times"))

    async def _try(self, index: int, item: Item, image: bytes) -> Row | None:
        """The image's row; None when the engine died of it, or of another: never because it was not there yet."""
        await self._engine.wait_ready()
        try:
            return captioned(index, item, await self._engine.caption(image, item.hash))
        except ImageError as error:
            return failed(index, item, error)
        except EngineDied:
            return None
