"""Bodies of results: fetched from whoever has them, checked, committed, counted.

A header says that captions exist; only a body that is held and checked here makes its items done. A body that its
author signed but that does not fit the project voids that result on this node: it is not asked for again and counts for
nothing. Bodies that a ruling takes away, or that cover what was redacted, are not asked for.
"""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog
import trio

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import Misdescribed, UntrustedError
from p2pcap.identity import peer_id_of
from p2pcap.ledger.body import Opened, check_rows, described, error_bits, open_rows
from p2pcap.ledger.records import MAX_RAW, Result
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import BATCH, Fetching
from p2pcap.node.seams import Clock, LedgerStore, Network
from p2pcap.store.writes import PutBatch

RETRY = 2.0
"""Seconds until peers are asked again for bodies that nobody had."""

RELEASE_AFTER = 60.0
"""Seconds after which a header without a body, of an author who is not connected, keeps nobody off its items."""

MAX_MISSING = 10_000
"""Missing bodies looked up at a time; when these have come, the next are looked up."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Wanted:
    """A header whose body is not here, and since when (unix seconds)."""

    envelope: Envelope
    result: Result
    since: float


class Bodies:
    """The bodies this node lacks, and the task that gets them."""

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        network: Network,
        fetching: Fetching,
        change: Change,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._network = network
        self._fetching = fetching
        self._change = change
        self._clock = clock
        self._wanted: dict[bytes, Wanted] = {}
        self._more = trio.Event()
        self.void: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, envelope: Envelope, result: Result) -> None:
        """The body of this result is needed, unless a ruling says otherwise."""
        ledger, id_ = self._ledger, envelope.id
        useless = id_ in self.void or ledger.rows.chunk_of(id_) is not None or not ledger.is_wanted(result)
        if not useless and ledger.counts(id_, envelope.author):
            self._wanted.setdefault(envelope.id, Wanted(envelope, result, self._clock()))
            self._more.set()

    async def want_stored(self) -> None:
        """Ask for the bodies that the store says are missing: at the start, and when a ruling may have changed that."""
        missing = await self._store.bodies_missing(MAX_MISSING)
        for data in await self._store.statements([stored.id for stored in missing]):
            envelope = open_envelope(data)
            self.want(envelope, decode(envelope.payload, Result))

    async def run(self) -> None:
        """Get bodies as long as the node runs."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._wanted:
                if not await self._round():
                    with trio.move_on_after(RETRY):
                        await self._more.wait()
                    self._more = trio.Event()

    async def _round(self) -> int:
        """Ask once for up to BATCH bodies, oldest wish first; returns how many came."""
        batch: dict[bytes, list[Wanted]] = {}
        for wanted in list(self._wanted.values())[:BATCH]:
            batch.setdefault(wanted.result.root, []).append(wanted)
            # To the back of the queue: a body that nobody has must not hold up the others.
            self._wanted[wanted.envelope.id] = self._wanted.pop(wanted.envelope.id)
        opened: dict[bytes, Opened] = {}

        def verify(root: bytes, data: bytes) -> bool:
            """Whether these are rows of that root; what headers say of them beside that is no fault of the server."""
            try:
                opened[root] = open_rows(data)
            except UntrustedError as error:
                log.warning("body refused", reason=str(error))
                return False
            return opened[root].root == root

        arrived: list[PutBatch] = []
        async with aclosing(self._network.fetch("body", list(batch), None, verify, MAX_RAW)) as arriving:
            async for root, data in arriving:
                rows = opened.pop(root)
                arrived += [put for wanted in batch[root] for put in await self._checked(wanted, rows, data)]
        await self._keep(arrived)
        self._release(wanted for alike in batch.values() for wanted in alike)
        return len(arrived)

    def _release(self, asked: Iterable[Wanted]) -> None:
        """A body that nobody has and whose author is gone holds its items off no longer; it stays wanted."""
        peers = {peer.peer_id for peer in self._network.peers()}
        for wanted in asked:
            late = self._clock() > wanted.since + RELEASE_AFTER
            if late and wanted.envelope.id in self._wanted and peer_id_of(wanted.envelope.author) not in peers:
                self._ledger.forget(wanted.envelope.id, wanted.result)

    async def _checked(self, wanted: Wanted, opened: Opened, data: bytes) -> list[PutBatch]:
        """What is to be stored of a body that has the right root; nothing when its header does not fit it."""
        items = await self._fetching.items(wanted.result.chunk)
        try:
            rows = described(opened, wanted.result)
            check_rows(rows, wanted.result, items, len(self._ledger.project.task.prompts))
        except Misdescribed as error:
            self._make_void(wanted, str(error))
            return []
        return [PutBatch(wanted.envelope, wanted.result, rows, data, self._clock())]

    def _make_void(self, wanted: Wanted, reason: str) -> None:
        log.warning(
            "result void", statement=wanted.envelope.id.hex(), author=wanted.envelope.author.hex(), reason=reason
        )
        self.void.add(wanted.envelope.id)
        self._wanted.pop(wanted.envelope.id, None)
        self._ledger.forget(wanted.envelope.id, wanted.result)

    async def _keep(self, batches: Sequence[PutBatch]) -> None:
        async with self._change.turn:
            wanted = [put for put in batches if self._ledger.is_wanted(put.result)]
            if wanted:
                await self._store.commit(*wanted)
            for put in wanted:
                self._wanted.pop(put.envelope.id, None)
                self._ledger.complete(put.envelope.id, put.envelope.author, put.result, error_bits(put.rows))
                self._ledger.claims.progress(put.envelope.author, self._clock())
        self._change.tell()
