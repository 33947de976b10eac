"""Bodies of results: fetched from whoever has them, checked, committed, counted.

A header says that captions exist; only a body that is held and checked here makes its items done. A body that its
author signed but that does not fit the project voids that result on this node: it is not asked for again and counts for
nothing.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog
import trio

from p2pcap.codec import decode
from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import UntrustedError
from p2pcap.identity import peer_id_of
from p2pcap.ledger.body import check_rows, open_body
from p2pcap.ledger.records import MAX_RAW, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import BATCH, Fetching
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBatch
from p2pcap.swarm.swarm import Swarm

RETRY = 2.0
"""Seconds until peers are asked again for bodies that nobody had."""

RELEASE_AFTER = 60.0
"""Seconds after which a header without a body, of an author who is not connected, keeps nobody off its items."""

MAX_MISSING = 10_000
"""Missing bodies looked up at start; more than that come with the next start or by sync."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Wanted:
    """A header whose body is not here, and since when (unix seconds)."""

    envelope: Envelope
    result: Result
    since: float


class Bodies:
    """The bodies this node lacks, and the task that gets them."""

    def __init__(self, ledger: Ledger, store: Store, swarm: Swarm, fetching: Fetching, change: Change) -> None:
        self._ledger = ledger
        self._store = store
        self._swarm = swarm
        self._fetching = fetching
        self._change = change
        self._wanted: dict[bytes, Wanted] = {}
        self._more = trio.Event()
        self.void: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, envelope: Envelope, result: Result) -> None:
        """The body of this result is needed."""
        if envelope.id not in self.void:
            self._wanted.setdefault(envelope.id, Wanted(envelope, result, time.time()))
            self._more.set()

    async def want_stored(self) -> None:
        """Ask for the bodies that were missing when the node last stopped."""
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
        batch = {w.result.root: w for w in list(self._wanted.values())[:BATCH]}
        for wanted in batch.values():
            # To the back of the queue: a body that nobody has must not hold up the others.
            self._wanted[wanted.envelope.id] = self._wanted.pop(wanted.envelope.id)
        opened: dict[bytes, tuple[Row, ...]] = {}

        def verify(root: bytes, data: bytes) -> bool:
            try:
                opened[root] = open_body(data, batch[root].result)
            except UntrustedError as error:
                log.warning("body refused", reason=str(error))
                return False
            return True

        arrived: list[PutBatch] = []
        async with aclosing(self._swarm.fetch("body", list(batch), None, verify, MAX_RAW)) as arriving:
            async for root, data in arriving:
                arrived += await self._checked(batch[root], opened.pop(root), data)
        await self._keep(arrived)
        self._release(batch.values())
        return len(arrived)

    def _release(self, asked: Iterable[Wanted]) -> None:
        """A body that nobody has and whose author is gone holds its items off no longer; it stays wanted."""
        peers = {peer.peer_id for peer in self._swarm.peers()}
        for wanted in asked:
            late = time.time() > wanted.since + RELEASE_AFTER
            if late and wanted.envelope.id in self._wanted and peer_id_of(wanted.envelope.author) not in peers:
                self._ledger.forget(wanted.envelope.id, wanted.result)

    async def _checked(self, wanted: Wanted, rows: Sequence[Row], data: bytes) -> list[PutBatch]:
        items = await self._fetching.items(wanted.result.chunk)
        try:
            check_rows(rows, wanted.result, items, len(self._ledger.project.task.prompts))
        except UntrustedError as error:
            self._make_void(wanted, str(error))
            return []
        return [PutBatch(wanted.envelope, wanted.result, rows, data, time.time())]

    def _make_void(self, wanted: Wanted, reason: str) -> None:
        log.warning(
            "result void", statement=wanted.envelope.id.hex(), author=wanted.envelope.author.hex(), reason=reason
        )
        self.void.add(wanted.envelope.id)
        self._wanted.pop(wanted.envelope.id, None)
        self._ledger.forget(wanted.envelope.id, wanted.result)

    async def _keep(self, batches: Sequence[PutBatch]) -> None:
        if not batches:
            return
        await self._store.commit(*batches)
        for put in batches:
            self._wanted.pop(put.envelope.id, None)
            self._ledger.complete(put.envelope.id, put.envelope.author, put.result)
        self._change.tell()
