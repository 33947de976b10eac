"""The node's end of one connection on the control socket.

Always holds: nothing waits for a client without a deadline, and nothing is allocated for a request before its size was
checked.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import msgspec
import trio

from p2pcap.errors import FrameError, P2pcapError
from p2pcap.node import frames

SEND_WITHIN = 30.0
"""Seconds a client has to take a frame."""

AHEAD = 2
"""Frames that wait for the client to take the one before: what makes them goes on meanwhile."""

READ = 65_536
"""Bytes read at a time."""

REQUEST_WITHIN = 60.0
"""Seconds a connection may be silent between two requests."""


class Connection:
    """Frames over one client's stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._ahead = bytearray()

    async def request(self) -> bytes | None:
        """The next request's JSON; None when the client has hung up. Raises FrameError, TooSlowError."""
        with trio.fail_after(REQUEST_WITHIN):
            head = await self._exactly(frames.HEAD.size)
            if head is None:
                return None
            kind, size = frames.parse_head(head, frames.MAX_REQUEST)
            payload = await self._exactly(size) if size else b""
        if kind != frames.JSON or payload is None:
            raise FrameError("A request on the control socket was cut short. Ask again.")
        return payload

    async def _exactly(self, size: int) -> bytes | None:
        while len(self._ahead) < size:
            if not await self._receive():
                return None
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    async def _receive(self) -> bool:
        """Read some bytes ahead. False when the client has hung up."""
        part = await self._stream.receive_some(READ)
        self._ahead += part
        return bool(part)

    async def send(self, kind: bytes, payload: bytes) -> None:
        """One frame. Raises TooSlowError when the client does not take it in time."""
        with trio.fail_after(SEND_WITHIN):
            await self._stream.send_all(frames.head(kind, len(payload)))
            await self._stream.send_all(payload)

    async def send_made(
        self, make: Callable[[], Generator[tuple[bytes, bytes]]], limiter: trio.CapacityLimiter
    ) -> None:
        """The frames, kind and payload, that `make` yields on a thread, as fast as the client takes them. Raises what
        it raises, and as `send`, in no group. Cancelled it leaves the thread, which ends at its next frame."""
        failures: list[Exception] = []
        ahead, made = trio.open_memory_channel[tuple[bytes, bytes]](AHEAD)

        def hand_over() -> None:
            with closing(make()) as frames_made:
                for frame in frames_made:
                    trio.from_thread.run(ahead.send, frame)

        async def produce() -> None:
            with ahead, _kept(failures):
                await trio.to_thread.run_sync(hand_over, abandon_on_cancel=True, limiter=limiter)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            with made, _kept(failures):
                async for kind, payload in made:
                    await self.send(kind, payload)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def fail(self, error: P2pcapError) -> None:
        """The error, as the end of an answer."""
        await self.send(frames.ERROR, encoded(error=type(error).__name__, message=str(error)))

    async def while_open(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, and cancel it when the client hangs up. Raises what `work` raises, in no group."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hang_up, nursery.cancel_scope)
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - raised again below, where no nursery wraps it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _hang_up(self, scope: trio.CancelScope) -> None:
        """Cancel when the client hangs up. What it sends meanwhile is its next request, and is kept for later."""
        with suppress(trio.BrokenResourceError):  # hung up, only less politely
            while len(self._ahead) <= frames.MAX_REQUEST and await self._receive():
                pass
        scope.cancel()


@contextmanager
def _kept(failures: list[Exception]) -> Iterator[None]:
    """Errors are raised later, where no nursery wraps them."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        failures.append(error)


def encoded(**values: Any) -> bytes:
    """The values as a JSON object."""
    return msgspec.json.encode(values)
