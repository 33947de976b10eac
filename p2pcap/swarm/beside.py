"""A task that runs beside a consumer who may walk away at any moment."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


async def items(
    produce: Callable[[trio.MemorySendChannel[T]], Awaitable[None]], room: int, nursery: trio.Nursery
) -> AsyncGenerator[T, None]:
    """What `produce` sends, at most `room` of it ahead; it runs in `nursery`, and ends with the consumer.

    Raises what `produce` raises, once everything that it sent has been taken. Iterate it inside `contextlib.aclosing`.
    """
    send, receive = trio.open_memory_channel[T](room)
    beside = _Beside(produce, send)
    nursery.start_soon(beside.run)
    try:
        async for item in receive:
            yield item
        await beside.finished.wait()
    finally:
        beside.scope.cancel()
        receive.close()
    if beside.failure is not None:
        raise beside.failure


class _Beside(Generic[T]):
    """Keeps the task's error for whoever waits for `finished`."""

    def __init__(
        self, produce: Callable[[trio.MemorySendChannel[T]], Awaitable[None]], send: trio.MemorySendChannel[T]
    ) -> None:
        self._produce = produce
        self._send = send
        self.scope = trio.CancelScope()
        self.finished = trio.Event()
        self.failure: Exception | None = None

    async def run(self) -> None:
        try:
            with self.scope:
                await self._produce(self._send)
        except Exception as error:  # noqa: BLE001 - raised again where the consumer waits
            self.failure = error
        finally:
            self.finished.set()
