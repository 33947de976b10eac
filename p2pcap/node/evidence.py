"""Drops the evidence of this node's own results when nobody will ask for it any more (p2pcap.ledger.evidence).

Always holds: what is on disk as evidence is that of a bounded number of results, and of none of which an item was
redacted: token ids are text.
"""

from collections.abc import Iterable, Iterator

import structlog
import trio

from p2pcap.ledger.evidence import outdated
from p2pcap.ledger.records import Result
from p2pcap.ledger.state import Ledger
from p2pcap.node.seams import Clock, LedgerStore
from p2pcap.store.writes import DropBlobs

LOOK_EVERY = 3_600.0
"""Seconds between two looks at what may go."""

log = structlog.get_logger()


class EvidenceKeeping:
    """The evidence of the author `me`, who is this node: of others' results nothing is dropped, whatever they name."""

    def __init__(self, me: bytes, ledger: Ledger, store: LedgerStore, clock: Clock) -> None:
        self._me = me
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._dropped: set[bytes] = set()

    async def run(self) -> None:
        """Drop what may go, as long as the node runs."""
        while True:
            await self.drop_outdated()
            await trio.sleep(LOOK_EVERY)

    async def drop_outdated(self) -> None:
        """Drop what may go now."""
        own = own_results(self._me, self._ledger, self._ledger.results)
        drop = outdated(own, self._ledger.seals.by_id, self._clock()) - self._dropped
        if drop:
            await self._store.commit(DropBlobs(sorted(drop)))
            self._dropped |= drop
            log.info("evidence dropped", results=len(drop))


def evidence_of(me: bytes, ledger: Ledger, ids: Iterable[bytes]) -> list[bytes]:
    """The hashes of the evidence of those of the results `ids` whose author is `me`."""
    return [result.evidence for _, result in own_results(me, ledger, ids) if isinstance(result.evidence, bytes)]


def own_results(me: bytes, ledger: Ledger, ids: Iterable[bytes]) -> Iterator[tuple[bytes, Result]]:
    """Those of the results `ids` whose author is `me`: what others name as evidence is never dropped for them."""
    for id_ in ids:
        author, result = ledger.results[id_]
        if author == me:
            yield id_, result
