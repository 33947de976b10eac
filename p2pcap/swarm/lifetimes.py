"""Work for a peer ends with the connection over which it was asked for.

libp2p tells those who read from a stream or write to it that its connection is gone, but nobody who waits for something
else meanwhile: a turn, a place, the disk. Whoever connects, asks for much and hangs up, again and again, would leave as
much waiting each time as one connection may.

Always holds: of two connections of a peer, each ends its own work only.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio


@asynccontextmanager
async def while_connected(stream: Any, grace: float = 0.0) -> AsyncIterator[trio.CancelScope]:
    """Cancel the block `grace` seconds after the connection of `stream` began to end; gives its cancel scope.

    Handle errors inside the block: those that leave it come as an exception group.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end, nursery.cancel_scope, stream.muxed_conn.event_shutting_down, grace)
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


async def _end(scope: trio.CancelScope, ended: trio.Event, grace: float) -> None:
    await ended.wait()
    scope.deadline = trio.current_time() + grace
