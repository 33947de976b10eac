"""Who shows that it holds a body: what peers say of themselves is no reason to drop one (p2pcap.node.keeping).

The best-placed peers are asked for the whole body, and who hands over rows of its root has it at hand. Of those that
do not, the next best are asked instead. That costs SURE bodies, of some 10 kB each, for each one that is dropped.

Always holds: a peer counts as a holder only of what it handed over itself in this inquiry, and only while it is
connected; nobody is asked twice for one body; nothing that comes is kept; an inquiry ends after WITHIN seconds.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import aclosing

import structlog
import trio

from p2pcap.errors import UntrustedError
from p2pcap.ledger.body import open_rows
from p2pcap.ledger.records import MAX_RAW
from p2pcap.node.seams import Network
from p2pcap.node.shares import SURE

WITHIN = 120.0
"""Seconds one inquiry may take; what was not shown by then was not shown."""

AT_ONCE = 8
"""Peers asked at one time."""

REST = 600.0
"""Seconds until a body is asked about again that too few showed; they double each time."""

DOUBLINGS = 5
"""How often: the longest rest is some five hours."""

log = structlog.get_logger()


class Inquiry:
    """Whom to ask for which bodies, and who had them. `better` are by root the peers to ask, the best first. Pure."""

    def __init__(self, better: Mapping[bytes, Sequence[str]]) -> None:
        self._left = {root: list(peers) for root, peers in better.items()}
        self._holders: dict[bytes, set[str]] = {root: set() for root in better}
        self._first: dict[str, list[bytes]] = {}
        self._ended: set[str] = set()

    def next(self) -> dict[str, list[bytes]]:
        """By peer the roots that it is to be asked for now; nothing at the end. A body that cannot get SURE holders
        any more is left alone."""
        questions: dict[str, list[bytes]] = {}
        for root, left in self._left.items():
            lacking = SURE - len(self._holders[root])
            asked = left[:lacking] if len(left) >= lacking else []
            del left[: len(asked)]
            for peer in asked:
                questions.setdefault(peer, []).append(root)
        self._first = self._first or questions
        return questions

    def handed_over(self, peer: str, root: bytes) -> None:
        """`peer` has that body."""
        self._holders[root].add(peer)

    def ended(self, peer: str) -> None:
        """`peer` was asked, and nothing more comes of it."""
        self._ended.add(peer)

    def shown(self, connected: Collection[str]) -> set[bytes]:
        """The bodies that SURE of the `connected` peers hold."""
        return {root for root, holders in self._holders.items() if len(holders.intersection(connected)) >= SURE}

    def tallies(self) -> Iterator[tuple[str, int, int]]:
        """Of each peer that answered: as one of the SURE best it was asked for so many bodies, and had so many.

        Those further behind may have dropped theirs with good reason.
        """
        for peer, roots in self._first.items():
            if peer in self._ended:
                yield peer, len(roots), sum(peer in self._holders[root] for root in roots)


async def inquire(network: Network, inquiry: Inquiry) -> None:
    """Ask until everything is shown or there is nobody left to ask, for WITHIN seconds at most."""
    places = trio.CapacityLimiter(AT_ONCE)
    with trio.move_on_after(WITHIN):
        while questions := inquiry.next():
            async with trio.open_nursery() as nursery:
                for peer, roots in questions.items():
                    nursery.start_soon(_ask, network, inquiry, peer, roots, places)


async def _ask(
    network: Network, inquiry: Inquiry, peer: str, roots: Sequence[bytes], places: trio.CapacityLimiter
) -> None:
    async with places, aclosing(network.fetch("body", roots, [peer], _is_body, MAX_RAW)) as arriving:
        async for root, _ in arriving:
            inquiry.handed_over(peer, root)
    inquiry.ended(peer)


def _is_body(root: bytes, data: bytes) -> bool:
    try:
        return open_rows(data).root == root
    except UntrustedError as error:
        log.warning("body refused", reason=str(error))
        return False


class Rests:
    """The results whose bodies too few showed, and when they are to be asked about again. Pure."""

    def __init__(self) -> None:
        self._rests: dict[bytes, tuple[int, float]] = {}

    def in_vain(self, result: bytes, now: float) -> None:
        """It was asked about for nothing."""
        times, _ = self._rests.get(result, (0, now))
        self._rests[result] = times + 1, now + REST * 2 ** min(times, DOUBLINGS)

    def over(self, result: bytes, now: float) -> bool:
        """Whether it may be asked about."""
        return result not in self._rests or self._rests[result][1] <= now

    def forget(self, result: bytes) -> None:
        """It was dropped."""
        self._rests.pop(result, None)
