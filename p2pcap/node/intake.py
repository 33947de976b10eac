"""Statements coming in: judged, made durable, then counted.

Gossip hands statements over one by one and must not wait; they queue here and are committed together. Sync hands over
pages and waits for the commit. A result whose author is not admitted yet is kept for a while: its grant may be on its
way.

Always holds: a statement counts in the ledger's digest only after it is committed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog
import trio

from p2pcap.envelope import Envelope
from p2pcap.ledger.records import Claim, Grant, Result
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Judgement, Verdict, validate
from p2pcap.node.change import Change
from p2pcap.store.store import Store
from p2pcap.store.writes import PutStatement

QUEUE = 4_096
"""Accepted statements that may wait for the disk; beyond that gossip is ignored, and sync brings it later."""

EARLY = 4_096
"""Results of unknown authors kept until their grant comes."""

log = structlog.get_logger()


class Intake:
    """The one way by which other nodes' statements enter the ledger and the store."""

    def __init__(
        self, ledger: Ledger, store: Store, change: Change, wants_body: Callable[[Envelope, Result], None]
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._change = change
        self._wants_body = wants_body
        self._send, self._queue = trio.open_memory_channel[Judgement](QUEUE)
        self._early: OrderedDict[bytes, None] = OrderedDict()

    def judge(self, data: bytes) -> Judgement:
        """Judge a gossiped statement and, when it is accepted, take it in (in memory now, on disk soon)."""
        judgement = validate(self._ledger, data, time.time())
        if judgement.verdict is Verdict.ACCEPT:
            return self._accept(judgement)
        if judgement.reason == "unknown author":
            self._keep_early(data)
        return judgement

    def _accept(self, judgement: Judgement) -> Judgement:
        if isinstance(judgement.record, Claim):
            self._note(judgement)
            return judgement
        try:
            self._send.send_nowait(judgement)
        except trio.WouldBlock:
            return Judgement(Verdict.IGNORE, "busy")
        self._note(judgement)
        return judgement

    def _note(self, judgement: Judgement) -> None:
        """What a valid statement means at once, before it is durable: it steers, it does not count."""
        envelope, record = judgement.envelope, judgement.record
        assert envelope is not None
        now = time.time()
        if isinstance(record, Claim):
            self._ledger.claims.hold(envelope.author, record, envelope.data, now)
        elif isinstance(record, Result):
            self._ledger.announce(envelope.id, envelope.author, record, now)
        elif isinstance(record, Grant):
            self._ledger.grant(record)
        self._change.tell()

    def _keep_early(self, data: bytes) -> None:
        self._early[data] = None
        while len(self._early) > EARLY:
            self._early.popitem(last=False)

    async def run(self) -> None:
        """Commit what queues up, as much as there is at a time."""
        async for first in self._queue:
            batch = [first]
            while len(batch) < QUEUE:
                try:
                    batch.append(self._queue.receive_nowait())
                except trio.WouldBlock:
                    break
            await self._commit(batch)

    async def receive(self, envelopes: Sequence[bytes]) -> int:
        """Take in a page that sync brought; returns how many were new. They are durable when this returns."""
        accepted: list[Judgement] = []
        for data in envelopes:
            judgement = validate(self._ledger, data, time.time())
            if judgement.verdict is Verdict.ACCEPT:
                self._note(judgement)
                if not isinstance(judgement.record, Claim):
                    accepted.append(judgement)
            elif judgement.reason == "unknown author":
                self._keep_early(data)
        await self._commit(accepted)
        return len(accepted)

    async def _commit(self, batch: Sequence[Judgement]) -> None:
        if not batch:
            return
        now = time.time()
        envelopes = [judgement.envelope for judgement in batch if judgement.envelope is not None]
        await self._store.commit(*(PutStatement(envelope, now) for envelope in envelopes))
        for judgement, envelope in zip(batch, envelopes, strict=True):
            self._ledger.add_id(envelope.id)
            if isinstance(judgement.record, Result):
                self._wants_body(envelope, judgement.record)
        self._change.tell()
        if any(isinstance(judgement.record, Grant) for judgement in batch):
            await self._retry_early()

    async def _retry_early(self) -> None:
        early, self._early = list(self._early), OrderedDict()
        await self.receive(early)
