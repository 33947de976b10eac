"""Who is let in: how many handshakes may be under way, and how long a stranger may stay one.

Connecting costs the other side nothing, and being connected to costs us a place. Whoever opens connections and says
nothing is therefore dropped as soon as others want in, the oldest of the address with the most first: a handshake takes
its time in hundredths of a second, so an honest one is over long before it is the oldest.

Always holds: no more than AT_ONCE handshakes of inbound connections are under way, and PER_ADDRESS of one IP address.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from p2pcap.errors import Unreachable

AT_ONCE = 128
PER_ADDRESS = 64
"""Half of all, so that one address never has everything; machines behind one router, or in one test, share one."""
STRANGER_SECONDS = 20.0
"""A connected peer that has not told a status for so long is not of our project, or of no use to it."""

T = TypeVar("T")


@dataclass(eq=False)
class _Handshake:
    address: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Admission:
    """The inbound handshakes of one host."""

    def __init__(self) -> None:
        self._under_way: list[_Handshake] = []

    async def run(self, address: str, handshake: Callable[[], Awaitable[T]]) -> T:
        """The result of `handshake()` with a caller at this IP address.

        Raises Unreachable when it was given up to make room for others.
        """
        number = surplus([other.address for other in self._under_way], address)
        if number is not None:
            self._under_way.pop(number).scope.cancel()
        mine = _Handshake(address)
        self._under_way.append(mine)
        try:
            with mine.scope:
                return await handshake()
        finally:
            if mine in self._under_way:
                self._under_way.remove(mine)
        raise Unreachable(f"The handshake of {address} was given up: others wanted in.")


def surplus(under_way: Sequence[str], address: str) -> int | None:
    """Which of these handshakes, oldest first and told by their IP addresses, must go before one of `address` begins.

    None when there is room.
    """
    number = Counter(under_way)
    if number[address] >= PER_ADDRESS:
        return under_way.index(address)
    if len(under_way) < AT_ONCE:
        return None
    most = max(number.values())
    return next(index for index, other in enumerate(under_way) if number[other] == most)


def overdue(since: Mapping[str, float], members: Collection[str], now: float) -> list[str]:
    """Those that have been connected for STRANGER_SECONDS and are no members of our project yet.

    `since` is when each connected peer connected, `members` are those that told their status; times of any one clock.
    """
    return [peer for peer, at in since.items() if peer not in members and now - at > STRANGER_SECONDS]
