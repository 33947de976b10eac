"""A process kept for a moment when a file is done, for the next file: to start one takes longer than most files do.

Always holds: at most one process of each module is kept, for KEPT_SECONDS at most and not beyond the end of trio's run;
one that failed, or still has something to say, is not kept.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from p2pcap.sources.child import Child, Limits, open_child

KEPT_SECONDS = 5.0

MAX_USES = 64
"""Files that a process serves: what one leaves behind in memory does not pile up without end."""


@dataclass
class Lent:
    """A process that is in use. Its user sets `idle` when the process has answered everything."""

    child: Child
    stack: AsyncExitStack
    uses: int = 1
    idle: bool = False


@dataclass(frozen=True)
class _Kept:
    lent: Lent
    taken: trio.Event


_kept: trio.lowlevel.RunVar[dict[str, _Kept]] = trio.lowlevel.RunVar("p2pcap spare processes")


@asynccontextmanager
async def lent_child(module: str, limits: Limits, seconds: float) -> AsyncIterator[Lent]:
    """As open_child, with a process that may have served another file before. All callers give a module the same
    limits."""
    lent = _take(module) or await _open(module, limits, seconds)
    try:
        yield lent
    finally:
        if lent.idle and lent.uses < MAX_USES and module not in _spares():
            kept = _Kept(lent, trio.Event())
            _spares()[module] = kept
            trio.lowlevel.spawn_system_task(_end, module, kept)
        else:
            await lent.stack.aclose()


def _spares() -> dict[str, _Kept]:
    try:
        return _kept.get()
    except LookupError:  # the first use in this run of trio
        _kept.set({})
        return _kept.get()


def _take(module: str) -> Lent | None:
    kept = _spares().get(module)
    if kept is None or not kept.lent.child.alive:
        return None
    del _spares()[module]
    kept.taken.set()
    kept.lent.idle = False
    kept.lent.uses += 1
    return kept.lent


async def _open(module: str, limits: Limits, seconds: float) -> Lent:
    stack = AsyncExitStack()
    return Lent(await stack.enter_async_context(open_child(module, limits, seconds)), stack)


async def _end(module: str, kept: _Kept) -> None:
    """End the process if nobody takes it. trio cancels this at the end of its run."""
    try:
        with trio.move_on_after(KEPT_SECONDS):
            await kept.taken.wait()
    finally:
        if not kept.taken.is_set():
            del _spares()[module]
            await kept.lent.stack.aclose()
